//! What a member asks of the leader (or of any other member) beside consensus: keep-alives and remaining times of
//! leases, promotions, hashes, pieces of a snapshot.
//!
//! Keep-alives of all clients that arrive while an earlier question is under way travel in one message.
//!
//! An answer begins with a byte: 0, then the answer; or 1, the gRPC code and the message of a status.

use super::Link;
use super::{corruption, membership, overview, snapshots};
use crate::answer::status;
use crate::fail_point;
use crate::home::Home;
use crate::home::leases;
use crate::home::others::LeaseRenewal;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_net::grpc::{Code, Status};
use plinth_net::peer::Answerer;
use plinth_net::rt::{self, sleep};
use plinth_raft::{GroupId, MemberId};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The questions. The numbers are part of the protocol between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Question {
    /// Renew these leases: ids, eight bytes each; answered by times to live, 0 for a lease that is not there.
    Renew = 1,
    /// A piece of a snapshot, see `plinth_member::transfer`.
    Piece = 2,
    /// `LeaseTimeToLive`: the client's request; answered by the response without its header.
    TimeToLive = 3,
    /// Promote the learner of this id.
    Promote = 4,
    /// `HashKV`: a revision; answered by hash, compact revision and revision.
    HashKv = 5,
    /// The leader's time in nanoseconds since 1970, from which times to live of the v2 store count.
    V2Time = 6,
    /// How the member is, see `overview`: nothing; answered by a JSON object.
    Overview = 7,
}

/// In the number of a question: its first four bytes say which group's members are asked. Without it those of group 0 are,
/// as before there were others.
const OF_GROUP: u16 = 0x8000;

impl Question {
    /// The question as it is asked of members of a group: its number, and its body.
    pub fn address(self, group: GroupId, body: Bytes) -> (u16, Bytes) {
        if group == GroupId(0) {
            return (self as u16, body);
        }
        let mut out = BytesMut::with_capacity(4 + body.len());
        out.put_u32_le(group.0);
        out.put_slice(&body);
        (self as u16 | OF_GROUP, out.freeze())
    }

    /// What is asked, of whom, and the rest of the body; nothing if no such question is known.
    pub fn read(number: u16, mut body: Bytes) -> Option<(Question, GroupId, Bytes)> {
        use Question::{HashKv, Overview, Piece, Promote, Renew, TimeToLive, V2Time};
        let known = [Renew, Piece, TimeToLive, Promote, HashKv, V2Time, Overview];
        let question = known.into_iter().find(|question| *question as u16 == number & !OF_GROUP)?;
        let group = if number & OF_GROUP == 0 { GroupId(0) } else { GroupId(body.try_get_u32_le().ok()?) };
        Some((question, group, body))
    }
}

/// Ids in one message.
const RENEWALS_MAX: usize = 4096;

/// Keep-alives that may wait; beyond it the oldest are refused.
const RENEWALS_WAITING_MAX: usize = 1 << 16;

/// How often it is looked again whether there is a leader.
const RETRY: Duration = Duration::from_millis(50);

/// Keep-alives on their way to the leader.
#[derive(Default)]
pub struct Renewals {
    waiting: VecDeque<LeaseRenewal>,
    is_running: bool,
}

impl Renewals {
    /// Whether keep-alives wait for an answer.
    pub fn is_running(&self) -> bool {
        self.is_running
    }
}

/// A good answer.
pub fn answer(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 1);
    out.put_u8(0);
    out.put_slice(body);
    out.freeze()
}

/// A bad answer.
pub fn refusal(status: &Status) -> Bytes {
    let mut out = BytesMut::with_capacity(status.message.len() + 2);
    out.put_u8(1);
    out.put_u8(status.code as u8);
    out.put_slice(status.message.as_bytes());
    out.freeze()
}

/// Reads an answer.
pub fn read_answer(mut bytes: Bytes) -> Result<Bytes, Status> {
    let malformed = || Status::new(Code::Internal, "a member's answer cannot be read");
    if !bytes.has_remaining() {
        return Err(malformed());
    }
    if bytes.get_u8() == 0 {
        return Ok(bytes);
    }
    if !bytes.has_remaining() {
        return Err(malformed());
    }
    let code = *Code::ALL.get(usize::from(bytes.get_u8())).ok_or_else(malformed)?;
    Err(Status::new(code, String::from_utf8_lossy(&bytes).into_owned()))
}

/// The leader, waiting for one until `deadline`. `None`: this member leads.
async fn leader(home: &Home, deadline: Instant) -> Result<Option<MemberId>, Status> {
    loop {
        let leader = home.state().member.group().leader();
        match leader {
            Some(leader) if leader.0 == home.profile.member_id && home.keeps_leases() => return Ok(None),
            Some(leader) if leader.0 == home.profile.member_id && Instant::now() >= deadline => {
                return Err(status::TIMEOUT);
            }
            Some(leader) if leader.0 == home.profile.member_id => sleep(RETRY).await,
            Some(leader) => return Ok(Some(leader)),
            None if Instant::now() >= deadline => return Err(status::NO_LEADER),
            None => sleep(RETRY).await,
        }
    }
}

/// Asks the leader until there is an answer or the request timeout is over. `Ok(None)`: this member leads now.
async fn ask_leader(home: &Home, link: &Link, question: Question, body: Bytes) -> Result<Option<Bytes>, Status> {
    let deadline = Instant::now() + home.profile.request_timeout;
    loop {
        let Some(leader) = leader(home, deadline).await? else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(bytes) = link.ask(leader, question, body.clone(), left).await {
            match read_answer(bytes) {
                // It does not lead any more, or not yet.
                Err(refusal) if refusal == status::NOT_LEADER || refusal == status::NOT_PRIMARY_LESSOR => {}
                answer => return answer.map(Some),
            }
        }
        if Instant::now() >= deadline {
            return Err(status::TIMEOUT);
        }
        sleep(RETRY).await;
    }
}

/// `LeaseTimeToLive` at the leader; `None` if that is this member.
pub async fn time_to_live(home: &Home, link: &Link, request: Bytes) -> Result<Option<Bytes>, Status> {
    ask_leader(home, link, Question::TimeToLive, request).await
}

/// The leader's time, in nanoseconds since 1970.
pub async fn v2_time(home: &Home, link: &Link) -> Result<i64, Status> {
    match ask_leader(home, link, Question::V2Time, Bytes::new()).await? {
        None => Ok(home.v2.now()),
        Some(answer) => {
            let bytes = <[u8; 8]>::try_from(&answer[..]).map_err(|_| status::UNKNOWN_QUESTION)?;
            Ok(i64::from_le_bytes(bytes))
        }
    }
}

/// Promotion by the leader.
pub async fn promote(home: &Rc<Home>, link: &Link, id: MemberId) -> Result<(), Status> {
    match ask_leader(home, link, Question::Promote, Bytes::copy_from_slice(&id.0.to_le_bytes())).await? {
        Some(_) => Ok(()),
        None => membership::promote(home, id).await,
    }
}

/// Answers another member.
pub fn respond(home: &Rc<Home>, link: &Rc<Link>, from: MemberId, question: Question, body: Bytes, answerer: Answerer) {
    match question {
        Question::Renew => {
            fail_point!("beforeServeHTTPLeaseRenew");
            let home = home.clone();
            rt::spawn(async move { answerer.answer(renew_for(&home, &body).await) }).detach();
            return;
        }
        Question::TimeToLive => {
            fail_point!("beforeLookupWhenForwardLeaseTimeToLive");
            return answerer.answer(match leases::time_to_live_fields(home, body) {
                Ok(fields) => answer(&fields),
                Err(status) => refusal(&status),
            });
        }
        Question::Overview => return answerer.answer(answer(overview::of_this(home, link).to_string().as_bytes())),
        Question::V2Time => {
            return answerer.answer(match home.keeps_leases() {
                true => answer(&home.v2.now().to_le_bytes()),
                false => refusal(&status::NOT_PRIMARY_LESSOR),
            });
        }
        Question::Piece | Question::Promote | Question::HashKv => {}
    }
    let task = respond_later(home.clone(), link.clone(), from, question, body, answerer);
    rt::spawn_into(task, home.reactor.queues.background).detach();
}

async fn respond_later(
    home: Rc<Home>,
    link: Rc<Link>,
    from: MemberId,
    question: Question,
    body: Bytes,
    answerer: Answerer,
) {
    let result = match question {
        Question::Piece => snapshots::piece(&home, &link, from, &body),
        Question::Promote => match <[u8; 8]>::try_from(&body[..]) {
            Ok(id) => membership::promote(&home, MemberId(u64::from_le_bytes(id))).await.map(|()| Bytes::new()),
            Err(_) => Err(status::UNKNOWN_QUESTION),
        },
        Question::HashKv => corruption::respond(&home, body).await,
        Question::Renew | Question::TimeToLive | Question::V2Time | Question::Overview => Err(status::UNKNOWN_QUESTION),
    };
    answerer.answer(match result {
        Ok(body) => answer(&body),
        Err(status) => refusal(&status),
    });
}

/// Queues a keep-alive for the leader.
pub fn renew_at_leader(home: &Rc<Home>, link: &Rc<Link>, renewal: LeaseRenewal) {
    let mut renewals = link.renewals.borrow_mut();
    renewals.waiting.push_back(renewal);
    let refused = match renewals.waiting.len() > RENEWALS_WAITING_MAX {
        true => renewals.waiting.pop_front(),
        false => None,
    };
    let start = !std::mem::replace(&mut renewals.is_running, true);
    drop(renewals);
    if let Some((_, refused)) = refused {
        refused(Err(status::TOO_MANY_REQUESTS));
    }
    if start {
        rt::spawn(run_renewals(home.clone(), link.clone())).detach();
    }
}

async fn run_renewals(home: Rc<Home>, link: Rc<Link>) {
    loop {
        let batch: Vec<LeaseRenewal> = {
            let mut renewals = link.renewals.borrow_mut();
            let count = renewals.waiting.len().min(RENEWALS_MAX);
            renewals.is_running = count > 0;
            renewals.waiting.drain(..count).collect()
        };
        if batch.is_empty() {
            return;
        }
        let (ids, answers): (Vec<i64>, Vec<_>) = batch.into_iter().unzip();
        match renew_all(&home, &link, &ids).await {
            Ok(ttls) => answers.into_iter().zip(ttls).for_each(|(answer, ttl)| answer(Ok(ttl))),
            Err(status) => answers.into_iter().for_each(|answer| answer(Err(status.clone()))),
        }
    }
}

/// Renews leases where their times are kept, however often that changes until the request timeout is over.
async fn renew_all(home: &Rc<Home>, link: &Link, ids: &[i64]) -> Result<Vec<i64>, Status> {
    let mut body = BytesMut::with_capacity(8 * ids.len());
    ids.iter().for_each(|id| body.put_i64_le(*id));
    let body = body.freeze();
    let deadline = Instant::now() + home.profile.request_timeout;
    loop {
        match ask_leader(home, link, Question::Renew, body.clone()).await? {
            Some(ttls) if ttls.len() == body.len() => {
                let ttl = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                return Ok(ttls.chunks_exact(8).map(ttl).collect());
            }
            Some(_) => return Err(status::TIMEOUT),
            None => {}
        }
        if let Some(ttls) = renew_here(home, ids).await {
            return Ok(ttls);
        }
        if Instant::now() >= deadline {
            return Err(status::TIMEOUT);
        }
        sleep(RETRY).await;
    }
}

/// Renews leases as the leader, who makes sure first that it still leads: one that was deposed while it stood still would
/// promise what its successor does not know of.
async fn renew_here(home: &Rc<Home>, ids: &[i64]) -> Option<Vec<i64>> {
    home.barrier().await.ok()?;
    leases::confirm(home, leases::renew(home, ids)?).await
}

/// Answers another member's keep-alives.
async fn renew_for(home: &Rc<Home>, body: &[u8]) -> Bytes {
    let id = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let ids: Vec<i64> = body.chunks_exact(8).map(id).collect();
    match renew_here(home, &ids).await {
        None => refusal(&status::NOT_PRIMARY_LESSOR),
        Some(ttls) => {
            let mut body = BytesMut::with_capacity(8 * ttls.len());
            ttls.iter().for_each(|ttl| body.put_i64_le(*ttl));
            answer(&body)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_come_back() {
        assert_eq!(read_answer(answer(b"abc")), Ok(Bytes::from_static(b"abc")));
        assert_eq!(read_answer(refusal(&status::NOT_LEADER)), Err(status::NOT_LEADER));
        for broken in [&b""[..], &[1], &[1, 200, b'x']] {
            assert_eq!(read_answer(Bytes::copy_from_slice(broken)).expect_err("broken").code, Code::Internal);
        }
    }

    #[test]
    fn questions_find_their_group() {
        let body = Bytes::from_static(b"what is asked");
        for group in [GroupId(0), GroupId(1), GroupId(u32::MAX)] {
            let (kind, bytes) = Question::HashKv.address(group, body.clone());
            assert_eq!(Question::read(kind, bytes), Some((Question::HashKv, group, body.clone())));
        }
        assert_eq!(Question::Renew.address(GroupId(0), body.clone()), (1, body.clone()), "as an earlier release asks");
        assert_eq!(Question::read(99, body.clone()), None);
        assert_eq!(Question::read(Question::Renew as u16 | OF_GROUP, body.slice(..3)), None, "a group has four bytes");
    }
}
