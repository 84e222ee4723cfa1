//! The companions through the real binary, against a real server and, where one is at hand, beside the real thing.
//!
//! | variable | meaning |
//! |---|---|
//! | `PLINTH_CONFD_BIN` | kelseyhightower's confd: it renders the same templates, drawn at random, and they must come out the same |
//! | `PLINTH_CONFD_FORK_BIN` | abtreece's: the same, with the functions that it has besides |
//! | `PLINTH_CONFD_SEED` | the seed of the templates; 1 |
//! | `PLINTH_METAD_BIN` | openpitrix's metad: it is asked the same, on the same keys, and must say the same |

#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "../tls/authority.rs"]
mod authority;
#[path = "../common/mod.rs"]
mod common;
mod confd;
mod http;
mod metad;
mod proxy;
#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "../ctl/server.rs"]
mod server;
mod templates;
