//! HPACK (RFC 7541), both ways: requests are decoded with the full dynamic table, responses encoded with what a gRPC
//! server needs of it.

mod decoder;
mod encoder;
mod field;
mod huffman;
mod table;

pub use decoder::{Decoder, HpackError};
pub use encoder::{Constant, Encoder};
pub use field::{Field, FieldClass};
