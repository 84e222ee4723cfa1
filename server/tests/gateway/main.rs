//! The JSON gateway of the real binary, as programs use it: over HTTP/1.1 and websockets, by a client that knows no more
//! than they do.
//!
//! `same` sends requests to every path to a real etcd as well, and compares status and JSON:
//!
//! | variable | meaning | default |
//! | --- | --- | --- |
//! | `PLINTH_GATEWAY_ETCD` | the etcd to compare with, 3.7 or 3.5 | what `tools/install-etcd` has built, 3.7 before 3.5 |
//! | `PLINTH_DIFF_REQUIRED` | set: a missing etcd is a failure, not a skip | unset |

mod client;
#[path = "../common/mod.rs"]
mod common;
mod console;
mod habits;
mod same;
mod server;
mod streams;
mod unary;
mod websocket;
