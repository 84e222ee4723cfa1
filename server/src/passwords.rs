//! Passwords: hashed and compared by threads of their own, because one bcrypt takes tens of milliseconds. The same threads
//! sign tokens.
//!
//! Invariants: at most [`WAITING_MAX`] passwords wait, and a fixed number is worked on: whoever asks beyond that is told at
//! once, so that a flood of wrong passwords costs the reactor nothing but that. Passwords are in memory only while they are
//! worked on or wait for it, and are never logged.

use crate::tokens::jwt::Issuer;
use crate::tokens::unix_seconds;
use atomic_waker::AtomicWaker;
use std::future::poll_fn;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

/// Passwords that may wait.
pub const WAITING_MAX: usize = 64;

/// Threads at most.
const THREADS_MAX: usize = 4;

/// Longest password that is hashed, as in etcd, in bytes. bcrypt looks at no more.
const PASSWORD_BYTES_MAX: usize = 72;

/// Behind the cost: compared when there is no such user, so that the answer takes as long as any.
const NOBODYS: &str = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

/// Why a password was not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// [`WAITING_MAX`] wait.
    #[error("too many passwords wait")]
    Busy,
    /// It is too long to be hashed.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    /// No random bytes, or a thread that is gone.
    #[error("passwords cannot be worked on")]
    Broken,
}

/// What there is to do.
enum Work {
    Hash { password: String, cost: u32 },
    Compare { password: String, hash: Vec<u8>, is_known: bool },
    Letters,
    Token { issuer: Issuer, user: String, revision: u64 },
}

/// What came of it.
enum Made {
    Hash(Vec<u8>),
    IsEqual(bool),
    Random([u8; 32]),
    Token(String),
}

/// A result on its way from a thread to the task that waits.
struct Slot {
    made: Mutex<Option<Result<Made, PasswordError>>>,
    waker: AtomicWaker,
}

struct Job {
    work: Work,
    slot: Arc<Slot>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.slot.put(Err(PasswordError::Broken));
    }
}

impl Slot {
    /// The first result counts.
    fn put(&self, made: Result<Made, PasswordError>) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(made);
        self.waker.wake();
    }
}

/// The threads, as the reactor sees them.
#[derive(Debug, Clone)]
pub struct Passwords {
    jobs: SyncSender<Job>,
    cost: u32,
}

impl Passwords {
    /// Starts the threads. New passwords are hashed with 2^`cost` rounds.
    ///
    /// # Errors
    /// If the system starts none.
    pub fn start(cost: u32) -> std::io::Result<Passwords> {
        let (jobs, inbox) = sync_channel(WAITING_MAX);
        let inbox = Arc::new(Mutex::new(inbox));
        // Half of the cores at most: reactors have to go on.
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, THREADS_MAX);
        for _ in 0..threads {
            let inbox = inbox.clone();
            std::thread::Builder::new().name("passwords".into()).spawn(move || run(&inbox))?;
        }
        Ok(Passwords { jobs, cost })
    }

    /// The hash of a new password, as text.
    ///
    /// # Errors
    /// If it is too long, or too many wait.
    pub async fn hash(&self, password: String) -> Result<Vec<u8>, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        match self.carry_out(Work::Hash { password, cost: self.cost }).await? {
            Made::Hash(hash) => Ok(hash),
            _ => Err(PasswordError::Broken),
        }
    }

    /// Whether a password is that of a hash; without one, it is not, and that takes as long.
    ///
    /// # Errors
    /// If too many wait.
    pub async fn is_equal(&self, password: String, hash: Option<Vec<u8>>) -> Result<bool, PasswordError> {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| format!("$2a${:02}${NOBODYS}", self.cost).into_bytes());
        match self.carry_out(Work::Compare { password, hash, is_known }).await? {
            Made::IsEqual(is_equal) => Ok(is_equal),
            _ => Err(PasswordError::Broken),
        }
    }

    /// Bytes that nobody can guess.
    ///
    /// # Errors
    /// If the system has none, or too many wait.
    pub async fn random(&self) -> Result<[u8; 32], PasswordError> {
        match self.carry_out(Work::Letters).await? {
            Made::Random(random) => Ok(random),
            _ => Err(PasswordError::Broken),
        }
    }

    /// A signed token.
    ///
    /// # Errors
    /// If it cannot be signed, or too many wait.
    pub async fn token(&self, issuer: Issuer, user: String, revision: u64) -> Result<String, PasswordError> {
        match self.carry_out(Work::Token { issuer, user, revision }).await? {
            Made::Token(token) => Ok(token),
            _ => Err(PasswordError::Broken),
        }
    }

    async fn carry_out(&self, work: Work) -> Result<Made, PasswordError> {
        let slot = Arc::new(Slot { made: Mutex::default(), waker: AtomicWaker::new() });
        match self.jobs.try_send(Job { work, slot: slot.clone() }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(PasswordError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(PasswordError::Broken),
        }
        poll_fn(|context| {
            slot.waker.register(context.waker());
            match slot.made.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(made) => Poll::Ready(made),
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn run(inbox: &Mutex<Receiver<Job>>) {
    loop {
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        // Nobody waits any more: the client is gone.
        if Arc::strong_count(&job.slot) > 1 {
            let made = carry_out(std::mem::replace(&mut job.work, Work::Letters));
            job.slot.put(made);
        }
    }
}

fn carry_out(work: Work) -> Result<Made, PasswordError> {
    match work {
        Work::Hash { password, cost } => {
            let hash = bcrypt::hash_with_result(password, cost).map_err(|_| PasswordError::Broken)?;
            // As Go's bcrypt writes it, which reads no other.
            Ok(Made::Hash(hash.format_for_version(bcrypt::Version::TwoA).into_bytes()))
        }
        Work::Compare { password, hash, is_known } => {
            let hash = String::from_utf8(hash).unwrap_or_default();
            let is_equal = bcrypt::verify(password, &hash).unwrap_or(false);
            Ok(Made::IsEqual(is_equal && is_known))
        }
        Work::Token { issuer, user, revision } => {
            issuer.issue(&user, revision, unix_seconds()).map(Made::Token).ok_or(PasswordError::Broken)
        }
        Work::Letters => {
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(|_| PasswordError::Broken)?;
            Ok(Made::Random(random))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::rt;

    #[test]
    fn a_password_is_that_of_its_hash_alone() {
        rt::block_on(async {
            let passwords = Passwords::start(4).expect("threads");
            let hash = passwords.hash("secret".into()).await.expect("a hash");
            assert!(hash.starts_with(b"$2a$04$") && hash.len() == 60, "{}", String::from_utf8_lossy(&hash));
            assert_eq!(passwords.is_equal("secret".into(), Some(hash.clone())).await, Ok(true));
            assert_eq!(passwords.is_equal("Secret".into(), Some(hash.clone())).await, Ok(false));
            assert_eq!(passwords.is_equal("secret".into(), None).await, Ok(false));
            assert_eq!(passwords.is_equal("secret".into(), Some(b"no hash".to_vec())).await, Ok(false));
            let empty = passwords.hash(String::new()).await.expect("a hash");
            assert_eq!(passwords.is_equal(String::new(), Some(empty)).await, Ok(true));
            let longest = "x".repeat(72);
            let hash = passwords.hash(longest.clone()).await.expect("a hash");
            assert_eq!(passwords.hash(longest.clone() + "y").await, Err(PasswordError::TooLong));
            assert_eq!(
                passwords.is_equal(longest + "y", Some(hash)).await,
                Ok(true),
                "72 bytes are compared, as in etcd"
            );
            assert_ne!(passwords.random().await, passwords.random().await);
        });
    }

    /// What Go's bcrypt wrote, and other writers.
    #[test]
    fn hashes_of_others_are_read() {
        rt::block_on(async {
            let passwords = Passwords::start(4).expect("threads");
            for version in ["2a", "2b", "2y"] {
                let hash = format!("${version}$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga");
                assert_eq!(passwords.is_equal("allmine".into(), Some(hash.into())).await, Ok(true), "{version}");
            }
        });
    }

    #[test]
    fn what_waits_is_bounded() {
        rt::block_on(async {
            let passwords = Passwords::start(4).expect("threads");
            let slow = bcrypt::hash("x", 9).expect("a hash").into_bytes();
            let tasks: Vec<_> = (0..WAITING_MAX * 2)
                .map(|_| {
                    let (passwords, hash) = (passwords.clone(), slow.clone());
                    rt::spawn(async move { passwords.is_equal("y".into(), Some(hash)).await })
                })
                .collect();
            let mut busy = 0;
            for task in tasks {
                busy += usize::from(task.await == Err(PasswordError::Busy));
            }
            assert!(busy > 0 && busy < WAITING_MAX * 2, "{busy}");
        });
    }
}
