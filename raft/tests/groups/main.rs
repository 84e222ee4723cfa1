//! What the machines of many groups promise: who sleeps and who wakes, who leads, what a shared log does to its groups, and
//! what travels between machines.

mod disk;
mod leaders;
mod log;
mod parcels;
mod sleep;
mod weather;
mod world;
