//! Whether all members hold the same: hashes of the data at a revision are compared before a member serves, and from
//! time to time by the leader. A member that differs gets a CORRUPT alarm, which stops writes until somebody has looked.

use super::Link;
use super::forward::{Question, read_answer};
use crate::answer::refusal::{op_status, read_status};
use crate::answer::status;
use crate::home::Home;
use crate::home::others::Others;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_engine::command::{Alarm, AlarmAction, AlarmKind, Command};
use plinth_engine::compact::WorkBudget;
use plinth_engine::hash::{HashKv, HashStep};
use plinth_net::grpc::{Code, Status};
use plinth_net::rt::sleep;
use plinth_net::turn;
use plinth_raft::MemberId;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// For a member's answer, which may have to read all its data.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the check at the start waits for a connection to each member.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Compactions whose hashes are compared at most, newest first.
const COMPACTIONS_MAX: usize = 10;

/// A hash, and the revision its member had reached then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// The hash.
    pub hash: HashKv,
    /// The revision its member had reached.
    pub reached: i64,
}

impl Hashed {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32_le(self.hash.hash);
        for number in [self.hash.compact_revision, self.hash.revision, self.reached] {
            out.put_i64_le(number);
        }
        out.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Hashed> {
        (bytes.len() == 28).then(|| Hashed {
            hash: HashKv {
                hash: bytes.get_u32_le(),
                compact_revision: bytes.get_i64_le(),
                revision: bytes.get_i64_le(),
            },
            reached: bytes.get_i64_le(),
        })
    }

    /// Whether the two cannot both be right.
    fn contradicts(&self, other: &Hashed) -> bool {
        let (left, right) = (&self.hash, &other.hash);
        left.revision == right.revision && left.compact_revision == right.compact_revision && left.hash != right.hash
    }
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
    if only_kept && !home.state().member.store().compaction_hashes().iter().any(|kept| kept.revision == revision) {
        return Err(Status::new(Code::NotFound, "no hash is kept of that revision"));
    }
    hash(home, revision).await.map(|hashed| hashed.encode())
}

/// What the answer of a member says, or why it did not answer.
async fn ask(link: &Link, member: MemberId, revision: i64, only_kept: bool) -> Result<Hashed, String> {
    let mut question = BytesMut::new();
    question.put_i64_le(revision);
    question.put_u8(u8::from(only_kept));
    let answer = link.ask(member, Question::HashKv, question.freeze(), ANSWER_TIMEOUT).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let answer = read_answer(answer).map_err(|refusal| refusal.message.into_owned())?;
    Hashed::decode(answer).ok_or_else(|| "a malformed hash".to_string())
}

/// Before this member serves: an error if another one holds something else at the same revision.
pub async fn check_at_start(home: &Rc<Home>, link: &Link) -> Result<(), String> {
    let own = hash(home, 0).await.map_err(|status| status.message.into_owned())?;
    for member in link.others() {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        while link.connected_since(member).is_none() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        match ask(link, member, own.hash.revision, false).await {
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
    let first = hash(home, 0).await?;
    let mut others = Vec::new();
    for member in link.others() {
        match ask(link, member, first.hash.revision, false).await {
            Ok(other) => others.push((member, other)),
            Err(error) => tracing::warn!(peer = %member, %error, "cannot compare data with peer"),
        }
    }
    home.barrier().await?;
    let second = hash(home, 0).await?;
    if first.contradicts(&second) {
        raise(home, home.profile.member_id).await;
    }
    for (member, other) in others {
        let is_ahead = other.reached > second.reached || other.hash.compact_revision > second.hash.compact_revision;
        if is_ahead || first.contradicts(&other) {
            raise(home, member.0).await;
        }
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
    let mut kept: Vec<HashKv> = home.state().member.store().compaction_hashes().to_vec();
    kept.sort_by_key(|hash| std::cmp::Reverse(hash.revision));
    for own in kept.into_iter().filter(|hash| hash.revision > *agreed).take(COMPACTIONS_MAX) {
        let mut hashes = BTreeMap::from([(home.profile.member_id, own.hash)]);
        for member in link.others() {
            if let Ok(other) = ask(link, member, own.revision, true).await
                && other.hash.compact_revision == own.compact_revision
            {
                hashes.insert(member.0, other.hash.hash);
            }
        }
        let wrong = minority(&hashes, link.others().len() + 1);
        for member in wrong.iter().flatten() {
            raise(home, *member).await;
        }
        if wrong.is_none() && hashes.len() == link.others().len() + 1 {
            *agreed = own.revision;
            return;
        }
    }
}

/// Members whose hash is not that of the majority of all `members`; member 0 if they disagree without one.
fn minority(hashes: &BTreeMap<u64, u32>, members: usize) -> Option<Vec<u64>> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    hashes.values().for_each(|hash| *counts.entry(*hash).or_default() += 1);
    if counts.len() < 2 {
        return None;
    }
    match counts.iter().find(|(_, count)| **count > members / 2) {
        None => Some(vec![0]),
        Some((right, _)) => Some(hashes.iter().filter(|(_, hash)| *hash != right).map(|(member, _)| *member).collect()),
    }
}

async fn raise(home: &Home, member: u64) {
    let alarm = Alarm { action: AlarmAction::Activate, member, kind: AlarmKind::Corrupt };
    let raised = home.state().member.store().alarms().list(AlarmKind::Corrupt).any(|(_, of)| of == member);
    if raised {
        return;
    }
    tracing::error!(member = %MemberId(member), "members hold different data: raising alarm CORRUPT");
    if let Err(error) = home.propose(Command::Alarm(alarm)).await {
        tracing::error!(%error, "cannot raise alarm CORRUPT");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_travel_and_contradict_only_at_the_same_place() {
        let hash = HashKv { hash: 1, compact_revision: 2, revision: 3 };
        let hashed = Hashed { hash, reached: 9 };
        assert_eq!(Hashed::decode(hashed.encode()), Some(hashed));
        assert_eq!(Hashed::decode(Bytes::from_static(b"short")), None);
        let with = |change: fn(&mut HashKv)| {
            let mut other = hashed;
            change(&mut other.hash);
            hashed.contradicts(&other)
        };
        assert!(with(|other| other.hash = 7));
        assert!(!with(|_| {}));
        assert!(!with(|other| (other.hash, other.revision) = (7, 4)));
        assert!(!with(|other| (other.hash, other.compact_revision) = (7, 1)));
    }

    #[test]
    fn the_minority_is_wrong() {
        let hashes = |list: &[(u64, u32)]| list.iter().copied().collect::<BTreeMap<_, _>>();
        assert_eq!(minority(&hashes(&[(1, 5), (2, 5), (3, 5)]), 3), None);
        assert_eq!(minority(&hashes(&[(1, 5), (2, 6), (3, 5)]), 3), Some(vec![2]));
        assert_eq!(minority(&hashes(&[(1, 5), (2, 6)]), 3), Some(vec![0]), "one did not answer, two disagree");
        assert_eq!(minority(&hashes(&[(1, 5), (2, 5)]), 3), None);
        assert_eq!(minority(&hashes(&[(1, 5), (2, 6), (3, 6), (4, 6)]), 5), Some(vec![1]));
    }
}
