//! A batch: many commands in one Raft entry.
//!
//! The builder appends opaque command frames behind a fixed header; the finished bytes are what the log, the followers and
//! apply see, and nothing in between copies or re-encodes them. Commands are handed out as slices of those bytes.
//!
//! Layout, little endian:
//! ```text
//! 0   u16  magic            4   u32  number of commands   16  u64  sequence
//! 2   u16  schema version   8   u64  origin member        24  commands: u32 length, bytes; no padding
//! ```
//!
//! Invariants: a parsed [`Batch`] is well formed to its last byte (every length checked once, at the gateway), so iterating
//! it cannot fail. Origin and sequence name the batch: the member whose clients wait for it finds them by the sequence.
//!
//! Not here: what a command means, and checksums (the log's records carry them).

use bytes::Bytes;

use crate::error::BatchError;
use crate::limits::{BATCH_BYTES_SOFT, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX};
use crate::types::MemberId;

const MAGIC: u16 = 0xBA7C;
/// Schema version written by this build.
pub const BATCH_SCHEMA: u16 = 1;
const AT_SCHEMA: usize = 2;
const AT_COUNT: usize = 4;
const AT_ORIGIN: usize = 8;
const AT_SEQUENCE: usize = 16;
/// Bytes before the first command.
pub const BATCH_HEADER_BYTES: usize = 24;
/// Bytes before each command.
pub const FRAME_HEADER_BYTES: usize = 4;

/// Collects commands. Reusable: [`BatchBuilder::finish`] leaves it empty, with room for a batch like the last.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch. Allocates with the first command.
    pub fn new() -> Self {
        BatchBuilder { bytes: Vec::new(), count: 0 }
    }

    /// Goes on with the commands of a batch that was sealed and not used; it will get another sequence.
    pub fn resume(batch: &Batch) -> Self {
        BatchBuilder { bytes: batch.bytes.to_vec(), count: batch.count }
    }

    /// Appends one encoded command.
    ///
    /// # Panics
    /// If the command is larger than [`COMMAND_BYTES_MAX`]; the edge refuses such requests long before.
    #[inline]
    pub fn push(&mut self, command: &[u8]) {
        assert!(command.len() <= COMMAND_BYTES_MAX, "command of {} bytes", command.len());
        self.open();
        self.bytes.reserve(FRAME_HEADER_BYTES + command.len());
        self.bytes.extend_from_slice(&(command.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(command);
        self.count += 1;
    }

    /// Appends one command that `encode` writes at the end of the buffer, saving the copy.
    ///
    /// # Panics
    /// If `encode` shortens the buffer or writes more than [`COMMAND_BYTES_MAX`].
    #[inline]
    pub fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.open();
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let start = self.bytes.len();
        encode(&mut self.bytes);
        let len = self.bytes.len().checked_sub(start).expect("an encoder only appends");
        assert!(len <= COMMAND_BYTES_MAX, "command of {len} bytes");
        self.bytes[at..start].copy_from_slice(&(len as u32).to_le_bytes());
        self.count += 1;
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no command yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch as it stands, header included.
    pub fn bytes(&self) -> usize {
        self.bytes.len().max(BATCH_HEADER_BYTES)
    }

    /// Whether the batch should be proposed before another command joins it.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES_SOFT || self.len() >= BATCH_COMMANDS_MAX
    }

    /// Seals the batch as `sequence` of `origin`. The builder is empty afterwards.
    ///
    /// The bytes live as long as the log keeps the entry, so they have no room to spare: they are a copy of their exact
    /// size, and the buffer serves the next batch. Only a large command takes the buffer with it.
    pub fn finish(&mut self, origin: MemberId, sequence: u64) -> Bytes {
        self.open();
        let bytes = &mut self.bytes;
        bytes[0..AT_SCHEMA].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[AT_SCHEMA..AT_COUNT].copy_from_slice(&BATCH_SCHEMA.to_le_bytes());
        bytes[AT_COUNT..AT_ORIGIN].copy_from_slice(&self.count.to_le_bytes());
        bytes[AT_ORIGIN..AT_SEQUENCE].copy_from_slice(&origin.0.to_le_bytes());
        bytes[AT_SEQUENCE..BATCH_HEADER_BYTES].copy_from_slice(&sequence.to_le_bytes());
        self.count = 0;
        if self.bytes.len() > BATCH_BYTES_SOFT {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.shrink_to_fit();
            return Bytes::from(bytes);
        }
        let sealed = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        sealed
    }

    /// Makes room for the header in a new batch.
    #[inline]
    fn open(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&[0; BATCH_HEADER_BYTES]);
        }
    }
}

/// A checked batch. Holds the entry's bytes, shares them.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    count: u32,
}

impl Batch {
    /// Checks `bytes` to the last one.
    pub fn parse(bytes: &Bytes) -> Result<Batch, BatchError> {
        let found = bytes.len();
        if found < BATCH_HEADER_BYTES {
            return Err(BatchError::Truncated { offset: 0, expected: BATCH_HEADER_BYTES, found });
        }
        if read_u16(bytes, 0) != MAGIC {
            return Err(BatchError::Magic { found: read_u16(bytes, 0) });
        }
        let schema = read_u16(bytes, AT_SCHEMA);
        if schema != BATCH_SCHEMA {
            return Err(BatchError::Schema { found: schema });
        }
        let count = read_u32(bytes, AT_COUNT);
        let mut at = BATCH_HEADER_BYTES;
        for _ in 0..count {
            let rest = found - at;
            if rest < FRAME_HEADER_BYTES {
                return Err(BatchError::Truncated { offset: at, expected: FRAME_HEADER_BYTES, found: rest });
            }
            let len = read_u32(bytes, at) as usize;
            if rest - FRAME_HEADER_BYTES < len {
                return Err(BatchError::Truncated { offset: at, expected: FRAME_HEADER_BYTES + len, found: rest });
            }
            at += FRAME_HEADER_BYTES + len;
        }
        if at != found {
            return Err(BatchError::Trailing { offset: at, found });
        }
        Ok(Batch { bytes: bytes.clone(), count })
    }

    /// The member that built the batch.
    pub fn origin(&self) -> MemberId {
        MemberId(read_u64(&self.bytes, AT_ORIGIN))
    }

    /// The origin's number for the batch.
    pub fn sequence(&self) -> u64 {
        read_u64(&self.bytes, AT_SEQUENCE)
    }

    /// Number of commands.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The commands, in the order they were pushed.
    pub fn iter(&self) -> Commands<'_> {
        Commands { rest: &self.bytes[BATCH_HEADER_BYTES..], left: self.len() }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a [u8];
    type IntoIter = Commands<'a>;

    fn into_iter(self) -> Commands<'a> {
        self.iter()
    }
}

/// Iterates over the commands of a checked batch.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Commands<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = self.rest.split_at(FRAME_HEADER_BYTES);
        let (command, rest) = rest.split_at(read_u32(len, 0) as usize);
        self.rest = rest;
        Some(command)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Commands<'_> {}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layout_is_what_the_header_says() {
        let mut builder = BatchBuilder::new();
        builder.push(b"put");
        builder.push_with(|out| out.extend_from_slice(b"range"));
        let bytes = builder.finish(MemberId(0x0807_0605_0403_0201), 9);
        let expected: &[u8] = &[
            0x7c, 0xba, 1, 0, 2, 0, 0, 0, // magic, schema, count
            1, 2, 3, 4, 5, 6, 7, 8, // origin
            9, 0, 0, 0, 0, 0, 0, 0, // sequence
            3, 0, 0, 0, b'p', b'u', b't', // first command
            5, 0, 0, 0, b'r', b'a', b'n', b'g', b'e', // second
        ];
        assert_eq!(&bytes[..], expected);
        assert!(builder.is_empty());
        assert_eq!(builder.bytes(), BATCH_HEADER_BYTES);
    }

    /// The log keeps sealed batches for long, so what they do not use is lost memory.
    #[test]
    fn sealed_batches_have_no_room_to_spare() {
        let mut builder = BatchBuilder::new();
        for commands in [1, 1000, 3] {
            (0..commands).for_each(|_| builder.push(&[7; 300]));
            let sealed = builder.finish(MemberId(1), 1);
            let bytes = sealed.len();
            assert_eq!(sealed.try_into_mut().expect("not shared").capacity(), bytes);
        }
    }

    #[test]
    fn damaged_batches_are_refused() {
        let mut builder = BatchBuilder::new();
        builder.push(b"abc");
        let good = builder.finish(MemberId(1), 1);
        type Case = (&'static str, fn(&mut Vec<u8>), fn(&BatchError) -> bool);
        let cases: &[Case] = &[
            ("short header", |b| b.truncate(10), |e| matches!(e, BatchError::Truncated { offset: 0, .. })),
            ("magic", |b| b[0] ^= 1, |e| matches!(e, BatchError::Magic { .. })),
            ("schema", |b| b[2] = 9, |e| matches!(e, BatchError::Schema { found: 9 })),
            ("short command", |b| b.truncate(b.len() - 1), |e| matches!(e, BatchError::Truncated { offset: 24, .. })),
            ("count too high", |b| b[4] = 2, |e| matches!(e, BatchError::Truncated { found: 0, .. })),
            ("count too low", |b| b[4] = 0, |e| matches!(e, BatchError::Trailing { offset: 24, .. })),
            ("hostile length", |b| b[24..28].fill(0xff), |e| matches!(e, BatchError::Truncated { .. })),
        ];
        for (name, damage, expected) in cases {
            let mut bytes = good.to_vec();
            damage(&mut bytes);
            let error = Batch::parse(&Bytes::from(bytes)).expect_err(name);
            assert!(expected(&error), "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn commands_come_back_as_they_went_in(
            commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40),
            origin: u64,
            sequence: u64,
        ) {
            let mut builder = BatchBuilder::new();
            for command in &commands {
                builder.push(command);
            }
            prop_assert_eq!(builder.len(), commands.len());
            let size = builder.bytes();
            let bytes = builder.finish(MemberId(origin), sequence);
            prop_assert_eq!(bytes.len(), size);
            let batch = Batch::parse(&bytes).expect("own batch");
            prop_assert_eq!(batch.origin(), MemberId(origin));
            prop_assert_eq!(batch.sequence(), sequence);
            prop_assert_eq!(batch.iter().len(), commands.len());
            prop_assert!(batch.iter().eq(commands.iter().map(Vec::as_slice)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), header: bool) {
            let mut bytes = bytes;
            if header && bytes.len() >= BATCH_HEADER_BYTES {
                bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
                bytes[2..4].copy_from_slice(&BATCH_SCHEMA.to_le_bytes());
                bytes[5..8].fill(0);
            }
            if let Ok(batch) = Batch::parse(&Bytes::from(bytes)) {
                prop_assert_eq!(batch.iter().count(), batch.len());
            }
        }
    }
}
