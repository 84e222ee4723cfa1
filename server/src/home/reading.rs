//! Reads whose moment has come: ranges, small ones at once and large ones in steps, and transactions that only read.

use super::Home;
use super::identity::{Stamp, Unidentified};
use super::scrub::read_failed;
use super::waiter;
use crate::caller::Caller;
use bytes::Bytes;
use plinth_engine::budget::Budget;
use plinth_engine::command::{ArchivedTxn, Command, CommandRef, Range};
use plinth_engine::error::Error;
use plinth_engine::store::Outcome;
use plinth_engine::store::range::{Opened, RangeCursor, RangeQuery, RangeSummary, Step};
use plinth_engine::store::txn::ReadTxn;
use plinth_net::grpc::UnaryReply;
use plinth_net::rt;
use plinth_net::turn;
use std::rc::Rc;

/// Keys looked at in one go before a read goes on in steps: a point read or a small list is answered at once.
const AT_ONCE: Budget = Budget { pairs: 64, bytes: 64 << 10, visits: 1000 };

/// A large answer is made in pieces of this size, each with room for the pair that goes beyond it.
const PIECE_BYTES: usize = 1 << 20;
const PIECE_ROOM: usize = 64 << 10;

/// What is to be read, and who asked: whether they may is looked up at the moment of reading.
pub struct Read<T> {
    /// A range, or a transaction as an encoded [`Command::Txn`].
    pub what: T,
    /// Who asked.
    pub caller: Caller,
}

/// A caller whose token names an entry that is not applied yet is let through, or refused, when it is; then `act` goes on.
fn later<T: 'static>(
    home: &Rc<Home>,
    read: Read<T>,
    reply: UnaryReply,
    act: fn(&Rc<Home>, Read<T>, UnaryReply),
    unidentified: Unidentified,
) {
    match unidentified {
        Unidentified::Refused(refusal) => reply.fail(refusal),
        Unidentified::After(_) => {
            let home = home.clone();
            rt::spawn(async move {
                match home.identified(&read.caller).await {
                    Ok(_) => act(&home, read, reply),
                    Err(refusal) => reply.fail(refusal),
                }
            })
            .detach();
        }
    }
}

/// Reads a range now, if the caller may: small ones at once, large ones in steps between which others get their turn.
pub fn answer_range(home: &Rc<Home>, read: Read<Range>, reply: UnaryReply) {
    let user = match home.identify(&read.caller) {
        Ok(user) => user,
        Err(unidentified) => return later(home, read, reply, answer_range, unidentified),
    };
    let (key, range_end) = (&read.what.key, &read.what.range_end);
    let stamp = match home.may(user.as_ref(), |auth, author| auth.may_range(author, key, range_end)) {
        Ok(stamp) => stamp,
        Err(refusal) => return reply.fail(refusal),
    };
    let mut pairs = Vec::new();
    let opened = home.state_mut().member.store_mut().range_open(&RangeQuery::from(&read.what), AT_ONCE, &mut pairs);
    home.reactor.metrics.ranges.inc();
    match opened {
        Err(error) => reply.fail(read_failed(home, error)),
        Ok(Opened::Done(summary)) => match home.is_current(stamp) {
            Ok(()) => finish_range(home, summary, &pairs, reply),
            Err(refusal) => reply.fail(refusal),
        },
        Ok(Opened::More(cursor)) => {
            let home = home.clone();
            rt::spawn(read_on(home, stamp, cursor, pairs, reply)).detach();
        }
    }
}

fn finish_range(home: &Home, summary: RangeSummary, pairs: &[u8], reply: UnaryReply) {
    let state = home.state();
    reply.send(|out| {
        out.reserve(pairs.len() + 64);
        state.header.append(out, summary.revision);
        out.extend_from_slice(pairs);
        summary.append_fields(out);
    });
}

/// Goes on with a large range. The answer is made in pieces, which are let go of as they are written: giving a hundred
/// megabytes back at once takes the kernel several milliseconds.
async fn read_on(home: Rc<Home>, stamp: Stamp, mut cursor: RangeCursor, first: Vec<u8>, reply: UnaryReply) {
    // The header goes in front when the revision is known.
    let (mut pieces, mut piece) = (vec![Bytes::new()], first);
    loop {
        turn::pass().await;
        if reply.is_cancelled() || home.is_stopping() {
            return;
        }
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + PIECE_ROOM));
            pieces.push(full.into());
        }
        let budget = Budget { bytes: Budget::STEP.bytes.min(PIECE_BYTES - piece.len()), ..Budget::STEP };
        let step = home.state().member.store().range_step(&mut cursor, budget, &mut piece);
        match step {
            Ok(Step::More) => {}
            Ok(Step::Done(summary)) => {
                if let Err(refusal) = home.is_current(stamp) {
                    return reply.fail(refusal);
                }
                summary.append_fields(&mut piece);
                pieces.push(piece.into());
                let mut header = Vec::new();
                home.state().header.append(&mut header, summary.revision);
                pieces[0] = header.into();
                return reply.send_pieces(pieces);
            }
            Err(error) => return reply.fail(read_failed(&home, error)),
        }
    }
}

/// Evaluates a reading transaction as of now, if the caller may: small ones at once, large ones in steps.
pub fn answer_read_txn(home: &Rc<Home>, asked: Read<Vec<u8>>, reply: UnaryReply) {
    let user = match home.identify(&asked.caller) {
        Ok(user) => user,
        Err(unidentified) => return later(home, asked, reply, answer_read_txn, unidentified),
    };
    // Nothing in it is put on a lease: it only reads.
    let no_keys = |_| -> Box<dyn Iterator<Item = &[u8]>> { Box::new(std::iter::empty()) };
    let stamp = match home.may(user.as_ref(), |auth, author| auth.may_txn(author, txn_of(&asked.what), &no_keys)) {
        Ok(stamp) => stamp,
        Err(refusal) => return reply.fail(refusal),
    };
    let mut read = home.state_mut().member.store_mut().read_txn_start();
    match read_txn_step(home, &mut read, &asked.what, AT_ONCE) {
        Err(error) => reply.fail(read_failed(home, error)),
        Ok(Some(outcome)) => match home.is_current(stamp) {
            Ok(()) => waiter::answer(&home.state().header, outcome, reply),
            Err(refusal) => reply.fail(refusal),
        },
        Ok(None) => {
            let home = home.clone();
            rt::spawn(read_txn_on(home, stamp, read, asked.what, reply)).detach();
        }
    }
}

fn txn_of(encoded: &[u8]) -> &ArchivedTxn {
    let Ok(CommandRef::Txn(txn)) = Command::access(encoded) else {
        unreachable!("encoded by this process");
    };
    txn
}

fn read_txn_step(home: &Home, read: &mut ReadTxn, encoded: &[u8], budget: Budget) -> Result<Option<Outcome>, Error> {
    let txn = txn_of(encoded);
    home.state().member.store().read_txn_step(read, txn, budget)
}

/// Goes on with a large reading transaction.
async fn read_txn_on(home: Rc<Home>, stamp: Stamp, mut read: ReadTxn, encoded: Vec<u8>, reply: UnaryReply) {
    loop {
        turn::pass().await;
        if reply.is_cancelled() || home.is_stopping() {
            return;
        }
        match read_txn_step(&home, &mut read, &encoded, Budget::STEP) {
            Err(error) => return reply.fail(read_failed(&home, error)),
            Ok(Some(outcome)) => {
                return match home.is_current(stamp) {
                    Ok(()) => waiter::answer(&home.state().header, outcome, reply),
                    Err(refusal) => reply.fail(refusal),
                };
            }
            Ok(None) => {}
        }
    }
}
