//! Everyone who waits for the member: what they asked for and how they are answered.

use super::Home;
use super::clock::Nanos;
use super::oneshot::Sender;
use super::reading::{self, Read};
use super::stages::Asked;
use crate::answer::header::HeaderTemplate;
use crate::answer::refusal::{membership_status, op_status};
use crate::answer::status;
use crate::metrics::Op;
use plinth_engine::command::Range;
use plinth_engine::error::OpError;
use plinth_engine::store::Outcome;
use plinth_member::Lost;
use plinth_net::grpc::{Status, UnaryReply};
use plinth_raft::MembershipError;
use std::rc::Rc;

/// Who waits.
pub enum Waiter {
    /// A client's write: answered with a header and the outcome's body.
    Reply(UnaryReply, Asked),
    /// A client's compaction that waits until old data is gone.
    Physical(UnaryReply),
    /// A linearizable range, and when it was asked for.
    Range(Box<Read<Range>>, UnaryReply, Nanos),
    /// A linearizable transaction that only reads, as an encoded command, and when it was asked for.
    ReadTxn(Box<Read<Vec<u8>>>, UnaryReply, Nanos),
    /// A command of the server itself.
    Outcome(Sender<Result<Outcome, Status>>, Asked),
    /// A task that waits for a change of the configuration.
    Changed(Sender<Result<(), Status>>),
    /// A task that waits for a linearizable point in time.
    Barrier(Sender<Result<(), Status>>),
    /// The alarm that the home itself raises.
    Alarm,
    /// A command whose outcome nobody needs, such as the revocation of an expired lease.
    Nobody(Op),
}

impl Waiter {
    /// The command that is waited for; `None` for reads and changes of the configuration.
    pub fn op(&self) -> Option<Op> {
        match self {
            Waiter::Reply(_, asked) | Waiter::Outcome(_, asked) => Some(asked.op),
            Waiter::Physical(_) => Some(Op::Compaction),
            Waiter::Alarm => Some(Op::Alarm),
            Waiter::Nobody(op) => Some(*op),
            Waiter::Range(..) | Waiter::ReadTxn(..) | Waiter::Changed(_) | Waiter::Barrier(_) => None,
        }
    }

    /// What was asked and when, of requests whose time is told.
    pub fn asked(&self) -> Option<Asked> {
        match self {
            Waiter::Reply(_, asked) | Waiter::Outcome(_, asked) => Some(*asked),
            Waiter::Range(_, _, at) => Some(Asked { op: Op::Range, at: *at }),
            Waiter::ReadTxn(_, _, at) => Some(Asked { op: Op::ReadonlyTxn, at: *at }),
            Waiter::Physical(_) | Waiter::Alarm | Waiter::Nobody(_) | Waiter::Changed(_) | Waiter::Barrier(_) => None,
        }
    }

    /// Whether it waits for a linearizable moment.
    pub fn is_read(&self) -> bool {
        matches!(self, Waiter::Range(..) | Waiter::ReadTxn(..) | Waiter::Barrier(_))
    }

    /// Answers a waiter that gets nothing else.
    pub fn fail(self, status: Status) {
        match self {
            Waiter::Reply(reply, _) | Waiter::Physical(reply) => reply.fail(status),
            Waiter::Range(_, reply, _) | Waiter::ReadTxn(_, reply, _) => reply.fail(status),
            Waiter::Outcome(sender, _) => sender.send(Err(status)),
            Waiter::Barrier(sender) | Waiter::Changed(sender) => sender.send(Err(status)),
            Waiter::Alarm | Waiter::Nobody(_) => {}
        }
    }

    /// Answers with the outcome of the command. A physical compaction comes back: it has to wait on.
    pub fn applied(
        self,
        home: &Home,
        header: &HeaderTemplate,
        result: Result<Outcome, OpError>,
    ) -> Option<(Waiter, Outcome)> {
        match (self, result) {
            (Waiter::Reply(reply, _), Ok(outcome)) => answer(header, outcome, reply),
            (waiter @ Waiter::Physical(_), Ok(outcome)) => return Some((waiter, outcome)),
            (Waiter::Outcome(sender, _), result) => sender.send(result.map_err(op_status)),
            (Waiter::Alarm, _) => home.alarm_raised(),
            (waiter, Err(error)) => waiter.fail(op_status(error)),
            (Waiter::Nobody(_), Ok(_)) => {}
            (Waiter::Range(..) | Waiter::ReadTxn(..) | Waiter::Barrier(_) | Waiter::Changed(_), Ok(_)) => {
                unreachable!("neither reads nor changes of the configuration are submitted as commands")
            }
        }
        None
    }

    /// Answers a read whose moment has come.
    pub fn readable(self, home: &Rc<Home>) {
        match self {
            Waiter::Range(range, reply, _) => reading::answer_range(home, *range, reply),
            Waiter::ReadTxn(read, reply, _) => reading::answer_read_txn(home, *read, reply),
            Waiter::Barrier(sender) => sender.send(Ok(())),
            waiter => waiter.fail(status::STOPPED),
        }
    }

    /// Answers a task whose change of the configuration was applied or declined.
    pub fn changed(self, result: Result<(), MembershipError>) {
        match self {
            Waiter::Changed(sender) => sender.send(result.map_err(membership_status)),
            waiter => waiter.fail(status::STOPPED),
        }
    }

    /// Answers a waiter whose outcome will not be known.
    pub fn lost(self, home: &Home, why: Lost) {
        if self.op().is_some() && why != Lost::Stopped {
            home.reactor.metrics.proposals_failed.inc();
        }
        if matches!(self, Waiter::Alarm) {
            home.alarm_raised();
        }
        self.fail(match why {
            Lost::Timeout => home.timeout_status(),
            Lost::LeaderChanged => status::LEADER_CHANGED,
            Lost::NoLeader => status::NO_LEADER,
            Lost::Stopped => status::STOPPED,
        });
    }
}

/// Answers with a header and the outcome of a command.
pub fn answer(header: &HeaderTemplate, outcome: Outcome, reply: UnaryReply) {
    if let Some(body) = outcome.body.as_slice() {
        return reply.send(|out| {
            header.append(out, outcome.revision);
            out.extend_from_slice(body);
        });
    }
    let mut first = Vec::new();
    header.append(&mut first, outcome.revision);
    let mut pieces = vec![first.into()];
    pieces.append(&mut outcome.body.into_pieces());
    reply.send_pieces(pieces);
}
