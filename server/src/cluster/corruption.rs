//! Whether all members hold the same: hashes of the data at a revision are compared before a member serves, and from
//! time to time by the leader. A member that differs gets a CORRUPT alarm, which stops writes until somebody has looked.

use super::Link;
use super::forward::{Question, read_answer};
use crate::answer::refusal::{op_status, read_status};
use crate::answer::status;
use crate::home::Home;
use crate::home::others::Others;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Alarm, AlarmAction, AlarmKind, Command};
use plinth_engine::store::hash::{HashKv, HashStep};
use plinth_member::compare::{self, Check, Hashed};
use plinth_net::grpc::{Code, Status};
use plinth_net::rt::{self, sleep};
use plinth_net::turn;
use plinth_raft::MemberId;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// For a member's answer, which may have to read all its data.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the check at the start waits for a connection to each member.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

fn encode(hashed: &Hashed) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32_le(hashed.hash.hash);
    for number in [hashed.hash.compact_revision, hashed.hash.revision, hashed.reached] {
        out.put_i64_le(number);
    }
    out.freeze()
}

fn decode(mut bytes: Bytes) -> Option<Hashed> {
    (bytes.len() == 28).then(|| Hashed {
        hash: HashKv { hash: bytes.get_u32_le(), compact_revision: bytes.get_i64_le(), revision: bytes.get_i64_le() },
        reached: bytes.get_i64_le(),
    })
}

/// The hash of the data at a revision (0: the current one), computed in steps.
pub async fn hash(home: &Rc<Home>, revision: i64) -> Result<Hashed, Status> {
    let mut cursor = home.state().member.store().hash_kv_start(revision).map_err(op_status)?;
    let reached = home.state().member.store().revision();
    loop {
        let step = home.state().member.store().hash_kv_step(&mut cursor, WorkBudget::STEP);
        match step {
            Ok(HashStep::More) => turn::pass().await,
            Ok(HashStep::Done(hash)) => return Ok(Hashed { hash, reached }),
            Err(error) => return Err(read_status(error)),
        }
    }
}

/// Answers another member: its question is a revision, and whether only a hash kept from a compaction will do.
pub async fn respond(home: &Rc<Home>, mut question: Bytes) -> Result<Bytes, Status> {
    if question.len() != 9 {
        return Err(status::UNKNOWN_QUESTION);
    }
    let (revision, only_kept) = (question.get_i64_le(), question.get_u8() == 1);
    if only_kept && !compare::is_kept(home.state().member.store(), revision) {
        return Err(Status::new(Code::NotFound, "no hash is kept of that revision"));
    }
    hash(home, revision).await.map(|hashed| encode(&hashed))
}

/// What the answer of a member says, or why it did not answer.
async fn ask(link: &Link, member: MemberId, revision: i64, only_kept: bool) -> Result<Hashed, String> {
    let mut question = BytesMut::new();
    question.put_i64_le(revision);
    question.put_u8(u8::from(only_kept));
    let answer = link.ask(member, Question::HashKv, question.freeze(), ANSWER_TIMEOUT).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let answer = read_answer(answer).map_err(|refusal| refusal.message.into_owned())?;
    decode(answer).ok_or_else(|| "a malformed hash".to_string())
}

/// A hash as it is shown.
pub type MemberHash = HashKv;

/// The hashes of all members at a revision (0: that of this member now), for people. They are asked at once.
///
/// # Errors
/// This member cannot hash that revision.
pub async fn hashes(
    home: &Rc<Home>,
    link: &Rc<Link>,
    revision: i64,
) -> Result<Vec<(u64, Result<MemberHash, String>)>, Status> {
    let own = hash(home, revision).await?.hash;
    let ask_one = |member: MemberId| {
        let link = link.clone();
        (member.0, rt::spawn(async move { ask(&link, member, own.revision, false).await }))
    };
    let asked: Vec<_> = link.others().into_iter().map(ask_one).collect();
    let mut all = vec![(home.profile.member_id, Ok(own))];
    for (member, answer) in asked {
        all.push((member, answer.await.map(|hashed| hashed.hash)));
    }
    Ok(all)
}

/// Before this member serves: an error if another one holds something else at the same revision. All are asked at once.
pub async fn check_at_start(home: &Rc<Home>, link: &Rc<Link>) -> Result<(), String> {
    let own = hash(home, 0).await.map_err(|status| status.message.into_owned())?;
    let ask_one = |member: MemberId| {
        let link = link.clone();
        let answer = async move {
            let deadline = Instant::now() + CONNECT_TIMEOUT;
            while link.connected_since(member).is_none() && Instant::now() < deadline {
                sleep(Duration::from_millis(20)).await;
            }
            ask(&link, member, own.hash.revision, false).await
        };
        (member, rt::spawn(answer))
    };
    let asked: Vec<_> = link.others().into_iter().map(ask_one).collect();
    for (member, answer) in asked {
        match answer.await {
            Ok(other) if own.contradicts(&other) => {
                tracing::error!(peer = %member, revision = own.hash.revision, "data differs from the peer's");
                return Err(format!(
                    "{:016x} found data inconsistency with peers: its data at revision {} differs from that of {}; \
                     remove the member that is wrong and add it again with an empty data directory",
                    home.profile.member_id, own.hash.revision, member
                ));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(peer = %member, %error, "cannot compare data with peer"),
        }
    }
    tracing::info!(revision = own.hash.revision, "initial corruption checking passed");
    Ok(())
}

/// While this member leads, compares its data with all others, once in an interval.
pub async fn check_regularly(home: Rc<Home>, link: Rc<Link>, interval: Duration) {
    while !home.is_stopping() {
        sleep(interval).await;
        if home.state().member.is_leader()
            && let Err(error) = check_all(&home, &link).await
        {
            tracing::warn!(%error, "corruption check was not finished");
        }
    }
}

async fn check_all(home: &Rc<Home>, link: &Link) -> Result<(), Status> {
    let mut check = Check::begin(MemberId(home.profile.member_id), hash(home, 0).await?);
    for member in link.others() {
        match ask(link, member, check.revision(), false).await {
            Ok(other) => check.answered(member, other),
            Err(error) => tracing::warn!(peer = %member, %error, "cannot compare data with peer"),
        }
    }
    home.barrier().await?;
    for member in check.verdict(hash(home, 0).await?) {
        raise(home, member).await;
    }
    Ok(())
}

/// While this member leads, compares the hashes that all members kept of their compactions.
pub async fn check_compactions(home: Rc<Home>, link: Rc<Link>, interval: Duration) {
    let mut agreed = 0;
    while !home.is_stopping() {
        sleep(interval).await;
        if home.state().member.is_leader() {
            check_kept(&home, &link, &mut agreed).await;
        }
    }
}

/// Looks for the newest compaction that all members remember, and compares what it left. Minorities are wrong; without
/// a majority nobody knows who is.
async fn check_kept(home: &Rc<Home>, link: &Link, agreed: &mut i64) {
    let (own_id, kept) = {
        let state = home.state();
        (state.member.identity().member, compare::kept_to_compare(state.member.store(), *agreed))
    };
    for own in kept {
        let mut hashes = BTreeMap::from([(own_id, own.hash)]);
        for member in link.others() {
            if let Ok(other) = ask(link, member, own.revision, true).await
                && other.hash.compact_revision == own.compact_revision
            {
                hashes.insert(member, other.hash.hash);
            }
        }
        let wrong = compare::minority(&hashes, link.others().len() + 1);
        for member in wrong.iter().flatten() {
            raise(home, *member).await;
        }
        if wrong.is_none() && hashes.len() == link.others().len() + 1 {
            *agreed = own.revision;
            return;
        }
    }
}

async fn raise(home: &Home, member: MemberId) {
    let alarm = Alarm { action: AlarmAction::Activate, member: member.0, kind: AlarmKind::Corrupt };
    let raised = home.state().member.store().alarms().list(AlarmKind::Corrupt).any(|(_, of)| of == member.0);
    if raised {
        return;
    }
    tracing::error!(%member, "members hold different data: raising alarm CORRUPT");
    if let Err(error) = home.propose(Command::Alarm(alarm)).await {
        tracing::error!(%error, "cannot raise alarm CORRUPT");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_travel() {
        let hash = HashKv { hash: 1, compact_revision: 2, revision: 3 };
        let hashed = Hashed { hash, reached: 9 };
        assert_eq!(decode(encode(&hashed)), Some(hashed));
        assert_eq!(decode(Bytes::from_static(b"short")), None);
    }
}
