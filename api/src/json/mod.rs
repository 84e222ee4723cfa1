//! JSON of the API's messages, as etcd's gateway reads and writes it: between JSON text and the bytes of protobuf, by
//! tables, without a message of Rust in between.
//!
//! ```text
//!  bytes of a body ──[`Scanner`]──▶ one JSON value ──[`read`]──▶ protobuf
//!  protobuf ──[`write`]──▶ JSON
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `scan` | where a value ends, and what is wrong with it, in the words of Go's `encoding/json` |
//! | `read`, `number` | a value becomes a message, or an error in the words of Go's `protojson` |
//! | `write` | a message becomes a value: proto names, defaults left out, 64 bits as text |
//! | `routes` | the paths of the gateway |
//!
//! The tables come from `proto/`, by the build script. Everything is bounded by the size of its input, but for the depth
//! of messages inside each other ([`DEPTH_MAX`]).

mod number;
mod read;
mod routes;
mod scan;
#[cfg(test)]
mod tests;
mod write;

pub use read::{DEPTH_MAX, read};
pub use routes::{ROUTES, Route};
pub use scan::{ScanError, Scanner, Step};
pub use write::{Escapes, Malformed, push_string, write};

/// The fields of a message, in the order of declaration.
#[derive(Debug)]
pub struct MessageSpec {
    fields: &'static [FieldSpec],
}

#[derive(Debug)]
struct FieldSpec {
    number: u32,
    /// As in `proto/`: what is written.
    name: &'static str,
    /// In lower camel case: read, too.
    json_name: &'static str,
    kind: Kind,
    is_list: bool,
    /// The full name of the choice that the field is one of.
    oneof: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    Int64,
    Uint64,
    Uint32,
    Text,
    Bytes,
    Enum(&'static [(&'static str, i32)]),
    Message(&'static MessageSpec),
}

impl Kind {
    /// As protobuf calls it.
    fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int64 => "int64",
            Kind::Uint64 => "uint64",
            Kind::Uint32 => "uint32",
            Kind::Text => "string",
            Kind::Bytes => "bytes",
            Kind::Enum(_) => "enum",
            Kind::Message(_) => "message",
        }
    }
}

/// Request and answer of the method with this path, `/package.Service/Method`.
pub fn messages(path: &str) -> Option<(&'static MessageSpec, &'static MessageSpec)> {
    let found = tables::METHODS.iter().find(|(method, ..)| *method == path)?;
    Some((found.1, found.2))
}

#[allow(dead_code, reason = "some messages belong to no method")]
mod tables {
    use super::{FieldSpec, Kind, MessageSpec};
    include!(concat!(env!("OUT_DIR"), "/json_tables.rs"));
}
