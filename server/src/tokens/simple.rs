//! Simple tokens: sixteen random letters, a dot, and the index of the entry in which the user signed in.
//!
//! Each member has its own table, in memory: after a restart, or when a snapshot took the place of the data, it knows none
//! and clients sign in again. A token lives for a time after its last use on this member.
//!
//! Invariant: the table holds at most [`TOKENS_MAX`] tokens; beyond, those go first that were given out or looked at first.

use super::Found;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Tokens that are kept, of all users.
pub const TOKENS_MAX: usize = 1 << 18;

/// Letters before the dot.
pub const PREFIX_LETTERS: usize = 16;

/// Tokens looked at per sweep.
const SWEEP_MAX: usize = 1000;

#[derive(Debug)]
struct Token {
    user: Arc<str>,
    /// Milliseconds.
    ends: u64,
}

/// See the module.
pub struct SimpleTokens {
    ttl_millis: u64,
    known: FxHashMap<Arc<[u8]>, Token>,
    /// When each token has to be looked at again, and which one. A use moves its end, not its place here.
    sweeps: VecDeque<(u64, Arc<[u8]>)>,
}

impl std::fmt::Debug for SimpleTokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SimpleTokens").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// The letters of a new token, of bytes that nobody can guess.
pub fn prefix(random: &[u8; PREFIX_LETTERS * 2]) -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    // Two bytes for a letter: the first letters of the row are favoured by less than a thousandth.
    let letter = |two: &[u8]| char::from(LETTERS[usize::from(u16::from_le_bytes([two[0], two[1]])) % LETTERS.len()]);
    random.chunks_exact(2).map(letter).collect()
}

impl SimpleTokens {
    /// None yet; each lives for so long after its last use.
    pub fn new(ttl_millis: u64) -> Self {
        Self { ttl_millis, known: FxHashMap::default(), sweeps: VecDeque::new() }
    }

    /// A user has signed in.
    pub fn begin(&mut self, user: &str, prefix: &str, index: u64, now: u64) {
        while self.sweeps.len() >= TOKENS_MAX {
            let (_, oldest) = self.sweeps.pop_front().expect("there are many");
            self.known.remove(&oldest);
        }
        let name: Arc<[u8]> = format!("{prefix}.{index}").into_bytes().into();
        let ends = now.saturating_add(self.ttl_millis);
        self.known.insert(name.clone(), Token { user: user.into(), ends });
        self.sweeps.push_back((ends, name));
    }

    /// Whose a token is; it lives on for its whole time from now.
    pub fn find(&mut self, token: &[u8], now: u64, applied: u64) -> Found {
        match self.known.get_mut(token) {
            Some(known) if known.ends > now => {
                known.ends = now.saturating_add(self.ttl_millis);
                Found::User(known.user.clone(), None)
            }
            Some(_) => Found::Unknown,
            None => match index_of(token) {
                Some(index) if index > applied => Found::After(index),
                _ => Found::Unknown,
            },
        }
    }

    /// All tokens of a user end.
    pub fn end(&mut self, user: &str) {
        self.known.retain(|_, token| &*token.user != user);
        let known = &self.known;
        self.sweeps.retain(|(_, name)| known.contains_key(name));
    }

    /// All tokens end.
    pub fn end_all(&mut self) {
        self.known.clear();
        self.sweeps.clear();
    }

    /// Drops tokens whose time is over, a bounded number at a time.
    pub fn sweep(&mut self, now: u64) {
        for _ in 0..SWEEP_MAX {
            let Some((_, name)) = self.sweeps.pop_front_if(|(due, _)| *due <= now) else { return };
            match self.known.get(&name) {
                Some(token) if token.ends > now => self.sweeps.push_back((token.ends, name)),
                _ => _ = self.known.remove(&name),
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// The index of an entry, if the token has the form of one.
fn index_of(token: &[u8]) -> Option<u64> {
    let (_, index) = std::str::from_utf8(token).ok()?.split_once('.')?;
    if index.bytes().all(|byte| byte.is_ascii_digit()) { index.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Found {
        Found::User(name.into(), None)
    }

    #[test]
    fn a_token_lives_from_its_last_use() {
        let mut tokens = SimpleTokens::new(100);
        tokens.begin("a", "letters", 7, 1000);
        assert_eq!(tokens.find(b"letters.7", 1099, 7), user("a"));
        assert_eq!(tokens.find(b"letters.7", 1198, 7), user("a"), "the last use counts");
        tokens.sweep(1250);
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens.find(b"letters.7", 1298, 7), Found::Unknown);
        tokens.sweep(1298);
        assert!(tokens.is_empty());
    }

    #[test]
    fn only_what_may_still_come_is_waited_for() {
        let mut tokens = SimpleTokens::new(100);
        for (token, found) in [
            (&b"letters.8"[..], Found::After(8)),
            (b"letters.7", Found::Unknown),
            (b"letters.", Found::Unknown),
            (b"letters", Found::Unknown),
            (b"letters.1.9", Found::Unknown),
            (b"letters.+8", Found::Unknown),
            (b"letters.99999999999999999999", Found::Unknown),
            (b"", Found::Unknown),
            (b"\xff.8", Found::Unknown),
        ] {
            assert_eq!(tokens.find(token, 0, 7), found, "{token:?}");
        }
    }

    #[test]
    fn tokens_end_with_their_user_and_all_at_once() {
        let mut tokens = SimpleTokens::new(100);
        tokens.begin("a", "x", 1, 0);
        tokens.begin("b", "y", 2, 0);
        tokens.end("a");
        assert_eq!((tokens.find(b"x.1", 0, 9), tokens.find(b"y.2", 0, 9)), (Found::Unknown, user("b")));
        assert_eq!(tokens.sweeps.len(), 1);
        tokens.end_all();
        assert_eq!(tokens.find(b"y.2", 0, 9), Found::Unknown);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut tokens = SimpleTokens::new(100);
        for index in 0..TOKENS_MAX as u64 + 10 {
            tokens.begin("a", "x", index, 0);
        }
        assert_eq!((tokens.len(), tokens.sweeps.len()), (TOKENS_MAX, TOKENS_MAX));
        assert_eq!(tokens.find(b"x.9", 0, 1 << 40), Found::Unknown);
        assert_eq!(tokens.find(b"x.10", 0, 1 << 40), user("a"));
    }

    #[test]
    fn letters_are_letters() {
        assert_eq!(prefix(&[0; 32]), "a".repeat(16));
        assert!(prefix(&[0xff; 32]).bytes().all(|byte| byte.is_ascii_alphabetic()));
    }
}
