//! Revisions, and their form as keys of tree `Rev`, which is etcd's.
//!
//! ```text
//! +---------------------+-----+--------------------+-----+
//! | main, 8 bytes, BE   | '_' | sub, 8 bytes, BE   | 't' |      't' only for tombstones
//! +---------------------+-----+--------------------+-----+
//! ```

use std::fmt;
use std::ops::Deref;

/// A point in a store's history: `main` counts write requests, `sub` the changes within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision {
    /// Counts requests that changed something.
    pub main: i64,
    /// Position among the changes of that request.
    pub sub: i64,
}

impl Revision {
    /// A revision from its two parts.
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.main, self.sub)
    }
}

const PLAIN_BYTES: usize = 17;
const TOMBSTONE_BYTES: usize = 18;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// A key of tree `Rev`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RevKey {
    bytes: [u8; TOMBSTONE_BYTES],
    len: u8,
}

impl RevKey {
    /// The key of a put.
    pub fn put(revision: Revision) -> Self {
        Self::new(revision, false)
    }

    /// The key of a put or of a tombstone.
    pub fn new(revision: Revision, is_tombstone: bool) -> Self {
        assert!(revision.main >= 0, "stored revisions are not negative");
        assert!(revision.sub >= 0, "stored revisions are not negative");
        let mut bytes = [0; TOMBSTONE_BYTES];
        bytes[..8].copy_from_slice(&revision.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..PLAIN_BYTES].copy_from_slice(&revision.sub.to_be_bytes());
        bytes[PLAIN_BYTES] = TOMBSTONE;
        Self { bytes, len: if is_tombstone { TOMBSTONE_BYTES } else { PLAIN_BYTES } as u8 }
    }

    /// The smallest key of a main revision: where a scan from `main` on starts.
    pub fn floor(main: i64) -> Self {
        Self::put(Revision::new(main.max(0), 0))
    }

    /// Revision and tombstone mark of a stored key; `None` if the bytes are no such key.
    #[inline]
    pub fn parse(key: &[u8]) -> Option<(Revision, bool)> {
        let is_tombstone = match key.len() {
            PLAIN_BYTES => false,
            TOMBSTONE_BYTES if key[PLAIN_BYTES] == TOMBSTONE => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(key[..8].try_into().expect("eight bytes"));
        let sub = i64::from_be_bytes(key[9..PLAIN_BYTES].try_into().expect("eight bytes"));
        (key[8] == SEPARATOR && main >= 0 && sub >= 0).then_some((Revision { main, sub }, is_tombstone))
    }
}

impl Deref for RevKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_etcds_bytes_and_order() {
        let put = RevKey::put(Revision::new(258, 3));
        assert_eq!(&put[..], b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
        let tombstone = RevKey::new(Revision::new(258, 3), true);
        assert_eq!(&tombstone[..], b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
        assert!(put[..] < tombstone[..]);
        assert!(tombstone[..] < RevKey::put(Revision::new(258, 4))[..]);
        assert!(RevKey::floor(258)[..] < put[..]);
    }

    #[test]
    fn parsing_is_strict() {
        let key = RevKey::new(Revision::new(7, 1), true);
        assert_eq!(RevKey::parse(&key), Some((Revision::new(7, 1), true)));
        assert_eq!(RevKey::parse(&key[..17]), Some((Revision::new(7, 1), false)));
        assert_eq!(RevKey::parse(&key[..16]), None);
        for (at, byte) in [(8, b'-'), (17, b'x'), (0, 0x80), (9, 0xff)] {
            let mut bad = key.to_vec();
            bad[at] = byte;
            assert_eq!(RevKey::parse(&bad), None, "byte {at}");
        }
    }
}
