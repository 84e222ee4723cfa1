//! Snapshots between members: the leader pins a state of its data file, the follower copies it piece by piece.
//!
//! ```text
//!   leader                                        follower
//!   Source::offer  ---- announcement (consensus) ---> Fetch::announced
//!   Source::answer <--- question (number, page) ----- Step::Ask
//!                  ---- piece ----------------------> Fetch::answered -> Step::Write, ... Step::Open, Step::Offer
//!   Source::look_after: told again, or given up       Step::GiveUp
//! ```
//!
//! The follower asks for pieces, as fast as it can take them: so nothing is pushed, and an interrupted copy goes on where it
//! stopped. The announcement may come any number of times; one that went down in the middle is told again, and begins anew.
//!
//! Both sides are state machines: time is an argument, and what is to be done comes back. The server and the simulator carry
//! it out, with files and connections of their own.
//!
//! Layouts (little endian), part of the protocol between members: the announcement's context is `u64 number, u64 bytes`; a
//! question is `u64 number, u64 page`, where page `u64::MAX` says that the copy is given up; a piece is `u64 next page, u8
//! whether it was the last, u32 KiB per second to copy at (0: as fast as possible)`, and then any number of `u64 offset, u32
//! length, bytes`.

mod fetch;
mod source;

pub use fetch::{Fetch, FetchError, Lost, Piece, Step};
pub use source::{News, Refused, Source};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// In place of a page: the copy is given up.
const GIVE_UP: u64 = u64::MAX;

/// What the announcement of a snapshot says: its number, and how large its file will be.
fn read_context(mut context: &[u8]) -> Option<(u64, u64)> {
    (context.len() == 16).then(|| (context.get_u64_le(), context.get_u64_le()))
}

fn write_pair(first: u64, second: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u64_le(first);
    out.put_u64_le(second);
    out.freeze()
}
