//! The companions through the real binary, against a real server and, where one is at hand, beside the real thing.
//!
//! | variable | meaning |
//! |---|---|
//! | `PLINTH_METAD_BIN` | openpitrix's metad: it is asked the same, on the same keys, and must say the same |

#[path = "../common/mod.rs"]
mod common;
mod http;
mod metad;
#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "../ctl/server.rs"]
mod server;
