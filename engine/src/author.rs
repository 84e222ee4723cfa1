//! Who asked for a command, as the log replicates it: written before the command, and only if somebody did.
//!
//! ```text
//! +--------+----------------+---------------+------+----------------------+
//! | schema | length of user | auth revision | user | the command's schema |   one byte, u32, u64, UTF-8; little endian
//! +--------+----------------+---------------+------+----------------------+
//! ```
//!
//! A command without an author is written as it was before there were authors, so that members of an older release read
//! all that a cluster without users replicates.

/// First byte of a command that has an author.
pub const SCHEMA_AUTHORED: u8 = 2;

/// Bytes before the user's name.
const HEADER_BYTES: usize = 13;

/// A user, and the revision of users and roles at which the command was let through. At apply it counts only if they
/// have not changed since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Author<'a> {
    pub user: &'a str,
    /// Revision of users and roles.
    pub auth_revision: u64,
}

/// Bytes begin as those of an author and do not hold one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("author of a command, {len} bytes together, is damaged")]
pub struct DamagedAuthor {
    /// Length of author and command.
    pub len: usize,
}

impl<'a> Author<'a> {
    /// Who asks when nothing tells who.
    pub const NOBODY: Author<'static> = Author { user: "", auth_revision: 0 };

    /// Appends the author; the command has to follow.
    ///
    /// # Panics
    /// If the name has more bytes than a `u32` counts; requests are refused long before.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.user.len()).expect("a request is shorter than 4 GiB");
        out.push(SCHEMA_AUTHORED);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.auth_revision.to_le_bytes());
        out.extend_from_slice(self.user.as_bytes());
    }

    /// Takes the author off the front of an encoded command, if it has one.
    ///
    /// # Errors
    /// If the bytes begin as those of an author and do not hold one.
    pub fn split(bytes: &'a [u8]) -> Result<(Option<Author<'a>>, &'a [u8]), DamagedAuthor> {
        if bytes.first() != Some(&SCHEMA_AUTHORED) {
            return Ok((None, bytes));
        }
        let damaged = DamagedAuthor { len: bytes.len() };
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Err(damaged) };
        let [_, l0, l1, l2, l3, revision @ ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let Some((user, command)) = rest.split_at_checked(length) else { return Err(damaged) };
        let user = std::str::from_utf8(user).map_err(|_| damaged)?;
        Ok((Some(Author { user, auth_revision: u64::from_le_bytes(revision) }), command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, CommandError, CommandRef, Put};

    fn authored(command: &Command) -> Vec<u8> {
        let mut out = Vec::new();
        Author { user: "root", auth_revision: 7 }.encode_into(&mut out);
        command.encode_into(&mut out);
        out
    }

    /// The layout. A change here is a change of format: give it a new schema number instead.
    #[test]
    fn golden_author() {
        let expected = [&[2, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0][..], b"root", &[1, 0]].concat();
        assert_eq!(authored(&Command::Noop), expected);
    }

    /// What the release before authors wrote, byte for byte: a put of `key` = `value` with a lease.
    #[test]
    fn commands_without_an_author_still_read() {
        let old = [
            &[1, 1][..],
            b"keyvalue",
            &[0xf8, 0xff, 0xff, 0xff, 3, 0, 0, 0],
            &[0xf3, 0xff, 0xff, 0xff, 5, 0, 0, 0],
            &[0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[1, 0, 0],
        ]
        .concat();
        let (author, Ok(CommandRef::Put(put))) = (Author::split(&old).expect("no author"), Command::access(&old))
        else {
            panic!("a put is a put")
        };
        assert_eq!(author, (None, &old[..]));
        assert_eq!((&put.key[..], &put.value[..], put.lease.to_native()), (&b"key"[..], &b"value"[..], -7));
        assert!(put.prev_kv && !put.ignore_value && !put.ignore_lease);
    }

    #[test]
    fn authors_come_back_and_damaged_ones_are_refused() {
        let put = Command::Put(Put { key: "k".into(), ..Put::default() });
        let bytes = authored(&put);
        let (author, command) = Author::split(&bytes).expect("an author");
        assert_eq!(author, Some(Author { user: "root", auth_revision: 7 }));
        assert!(matches!(Command::access(command), Ok(CommandRef::Put(_))));
        assert!(matches!(Command::access(&bytes), Ok(CommandRef::Put(_))), "the author is passed over");
        for len in 1..HEADER_BYTES + 4 {
            assert_eq!(Author::split(&bytes[..len]), Err(DamagedAuthor { len }));
            assert!(Command::access(&bytes[..len]).is_err());
        }
        assert_eq!(Command::access(&bytes[..HEADER_BYTES + 4]).err(), Some(CommandError::TooShort { len: 0 }));
        let twice = [&bytes[..HEADER_BYTES + 4], &bytes].concat();
        assert_eq!(Command::access(&twice).err(), Some(CommandError::UnknownSchema { found: 2 }), "one author at most");
        let mut no_text = bytes.clone();
        no_text[HEADER_BYTES] = 0xff;
        assert!(Author::split(&no_text).is_err());
    }
}
