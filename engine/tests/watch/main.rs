//! Watching, from the outside: each answer of the contract, and everything at once against a naive model.

mod cost;
mod hub;
mod model;
mod support;
