//! etcd's v2 store: a tree of keys and directories with times to live, a history of its changes, and those who wait for
//! them. As etcd 2.3 to 3.5 had it, without sockets, clocks and files.
//!
//! | room | what |
//! | --- | --- |
//! | `command` | what the log replicates for a request |
//! | `etcd` | the same as an etcd has it in its log |
//! | `tree` | the tree, and what commands do to it; what is below a directory, read in steps |
//! | `node`, `event` | what is shown of a node and of a change |
//! | `history` | the last changes, bounded by number and bytes |
//! | `hub` | who waits for changes: each member's own, not replicated |
//! | `answer` | the outcome of a command, as bytes |
//! | `error` | etcd's codes, texts and statuses |
//! | `json` | what Go's `encoding/json` makes of all that |
//! | `path` | paths as Go cleans them |
//! | `record` | nodes and events as they are stored |
//! | `stats` | what `/v2/stats/store` counts |
//! | `limits` | every bound |
//!
//! Invariants: what a command does is a function of the tree and the command alone, and so the same on every member; each
//! change raises the index by one and adds one event of that index; every node's parent is a directory that is there; a
//! node has a place in the order of deadlines exactly if it has a deadline; time only goes forward.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

pub mod answer;
pub mod command;
pub mod error;
pub mod etcd;
pub mod event;
pub mod history;
pub mod hub;
pub mod json;
pub mod limits;
pub mod node;
pub mod path;
pub mod record;
pub mod stats;
pub mod tree;

pub use answer::Answer;
pub use command::{Change, V2Command};
pub use error::{Code, V2Error};
pub use event::{Action, Event};
pub use hub::{Hub, WatchId, Watched};
pub use tree::Tree;
