//! etcd's write-ahead log, read: what its files hold together, and where a torn end is cut.
//!
//! A file is a row of frames: eight bytes little endian (56 bits of length, in the top byte 0x80 and the number of padding
//! bytes if there are any), a record, zeros up to a multiple of eight. A record has a kind, a checksum and data; the
//! checksum (CRC-32C) goes on over the data of all records before it, from file to file.
//!
//! Source: etcd 3.4 to 3.7, `server/storage/wal` (`decoder.go`, `wal.go`).
//!
//! Invariants: a record is believed only if its checksum fits; entries have no gap, and a later one of the same index
//! takes the place of an earlier one and of all behind it; only the end of the last file may be torn.

use plinth_api::wire::{Value, bytes_field, fields};

pub(crate) const FRAME_BYTES: usize = 8;
/// Disks write sectors whole: of a torn record at least one is still as the file was made, zero.
const SECTOR_BYTES: usize = 512;

pub(crate) mod kind {
    pub const METADATA: u64 = 1;
    pub const ENTRY: u64 = 2;
    pub const HARD_STATE: u64 = 3;
    pub const CHECKSUM: u64 = 4;
    pub const SNAPSHOT: u64 = 5;
}

/// The log does not hold together. Names file and offset.
#[derive(Debug, thiserror::Error)]
#[error("{file}, offset {offset}: {detail}")]
pub struct WalError {
    pub file: String,
    /// Bytes from its start.
    pub offset: usize,
    /// What is wrong.
    pub detail: String,
}

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryType {
    /// A request, or nothing: a new leader's first entry.
    Normal,
    /// A change of one member.
    ConfChange,
    /// A change of several, which etcd does not write.
    ConfChangeV2,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Position, from 1.
    pub index: u64,
    /// Term of the leader that appended it.
    pub term: u64,
    /// What the data is.
    pub kind: EntryType,
    /// The request or change, as protobuf.
    pub data: Vec<u8>,
}

/// Methods that a request of the v2 API may have.
const V2_METHODS: [&[u8]; 7] = [b"PUT", b"POST", b"DELETE", b"GET", b"QGET", b"HEAD", b"SYNC"];

/// The request of the v2 API (`etcdserverpb.Request`) in a normal entry's data, if that is what it holds. Releases up to 3.5
/// write it bare, where others write an `InternalRaftRequest` that has it as its field 2; a method is no message, which
/// tells the two apart.
pub fn v2_request(data: &[u8]) -> Option<&[u8]> {
    const METHOD: u64 = 2;
    let field = bytes_field(data, METHOD)?;
    if V2_METHODS.contains(&field) {
        return Some(data);
    }
    bytes_field(field, METHOD).is_some_and(|method| V2_METHODS.contains(&method)).then_some(field)
}

/// Whether a request is one of the v2 API, or the cluster says by it which version it has, or a member what it is called.
fn tells_more_than_keys(request: &[u8]) -> bool {
    const VERSION_AND_ATTRIBUTES: [u64; 2] = [1300, 1301];
    VERSION_AND_ATTRIBUTES.iter().any(|number| bytes_field(request, *number).is_some()) || v2_request(request).is_some()
}

/// What the member had promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// Latest term.
    pub term: u64,
    /// Candidate voted for; 0 for none.
    pub vote: u64,
    /// Last entry known to be committed.
    pub commit: u64,
}

/// Who wrote the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub member: u64,
    pub cluster: u64,
}

/// Says that a snapshot of this position was made or received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotMark {
    /// Last entry in the snapshot.
    pub index: u64,
    pub term: u64,
}

/// What the files hold together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wal {
    /// Whose log it is.
    pub identity: Identity,
    /// All entries, without a gap.
    pub entries: Vec<Entry>,
    /// The last promise.
    pub hard_state: HardState,
    /// Snapshots, oldest first.
    pub snapshots: Vec<SnapshotMark>,
    /// Bytes of a torn record at the end, which were passed over.
    pub torn_bytes: usize,
}

/// Reads the files in order, from one that holds the entry behind the snapshot to begin with.
#[derive(Debug, Default)]
pub struct Reader {
    checksum: u32,
    identity: Option<Identity>,
    entries: Vec<Entry>,
    hard_state: HardState,
    snapshots: Vec<SnapshotMark>,
    torn_bytes: usize,
    /// Up to this entry requests that only say what became of keys are kept without their data.
    held: u64,
}

/// A frame: where its record is, and where the next one begins.
struct Frame {
    start: usize,
    end: usize,
    next: usize,
}

enum Step {
    /// The file has no more records.
    End,
    Record(Frame),
    /// The length points beyond the file.
    Short,
}

fn frame(bytes: &[u8], offset: usize) -> Step {
    let Some(head) = bytes.get(offset..).and_then(|rest| rest.first_chunk::<FRAME_BYTES>()) else { return Step::End };
    let head = u64::from_le_bytes(*head);
    if head == 0 {
        return Step::End;
    }
    let (length, top) = (head & ((1 << 56) - 1), (head >> 56) as usize);
    let padding = if top & 0x80 != 0 { top & 0x7 } else { 0 };
    let start = offset + FRAME_BYTES;
    let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
    match end.and_then(|end| Some((end, end.checked_add(padding)?))) {
        Some((end, next)) if next <= bytes.len() => Step::Record(Frame { start, end, next }),
        _ => Step::Short,
    }
}

/// Whether some sector of these bytes, as they lie in the file, was never written.
fn is_torn(bytes: &[u8], start: usize, end: usize) -> bool {
    let mut at = start;
    while at < end {
        let sector_end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if bytes[at..sector_end].iter().all(|&byte| byte == 0) {
            return true;
        }
        at = sector_end;
    }
    false
}

impl Reader {
    /// For who has the effects of all entries up to `held` on keys, leases and users: of these, requests are kept without
    /// their data. There may be a hundred thousand of them.
    pub fn behind(held: u64) -> Reader {
        Reader { held, ..Reader::default() }
    }

    /// Reads one file. `is_last`: its end may be torn.
    ///
    /// # Errors
    /// If a record is damaged, or does not fit those before it.
    pub fn file(&mut self, name: &str, bytes: &[u8], is_last: bool) -> Result<(), WalError> {
        let mut offset = 0;
        loop {
            let bad = |detail: String| Err(WalError { file: name.to_owned(), offset, detail });
            let frame = match frame(bytes, offset) {
                Step::End => return Ok(()),
                Step::Record(frame) => frame,
                Step::Short if is_last => {
                    self.torn_bytes = bytes.len() - offset;
                    return Ok(());
                }
                Step::Short => return bad("a record longer than the file".into()),
            };
            match self.record(&bytes[frame.start..frame.end]) {
                Ok(()) => offset = frame.next,
                Err(_) if is_last && is_torn(bytes, frame.start, frame.end) => {
                    self.torn_bytes = bytes.len() - offset;
                    return Ok(());
                }
                Err(detail) => return bad(detail),
            }
        }
    }

    /// What was read.
    ///
    /// # Errors
    /// If nothing says whose log it is.
    pub fn finish(self) -> Result<Wal, WalError> {
        let Some(identity) = self.identity else {
            return Err(WalError { file: "the log".into(), offset: 0, detail: "no record says whose it is".into() });
        };
        let Reader { entries, hard_state, snapshots, torn_bytes, .. } = self;
        Ok(Wal { identity, entries, hard_state, snapshots, torn_bytes })
    }

    fn record(&mut self, record: &[u8]) -> Result<(), String> {
        let (mut kind, mut checksum, mut data) = (0, 0, &[][..]);
        let mut reader = fields(record);
        for field in reader.by_ref() {
            match field {
                (1, Value::Varint(value)) => kind = value,
                (2, Value::Varint(value)) => checksum = value as u32,
                (3, Value::Bytes(bytes)) => data = bytes,
                _ => {}
            }
        }
        if !reader.rest().is_empty() {
            return Err("not a record".into());
        }
        if kind == kind::CHECKSUM {
            if self.checksum != 0 && self.checksum != checksum {
                return Err(format!("the checksum goes on from {checksum:08x}, and was {:08x}", self.checksum));
            }
            self.checksum = checksum;
            return Ok(());
        }
        let wanted = crc32c::crc32c_append(self.checksum, data);
        if wanted != checksum {
            return Err(format!("checksum {checksum:08x}, computed {wanted:08x}"));
        }
        self.checksum = wanted;
        match kind {
            kind::METADATA => self.metadata(data),
            kind::ENTRY => self.entry(data),
            kind::HARD_STATE => {
                let [_, term, vote, commit] = numbers(data)?;
                self.hard_state = HardState { term, vote, commit };
                Ok(())
            }
            kind::SNAPSHOT => {
                let [_, index, term, _] = numbers(data)?;
                self.snapshots.push(SnapshotMark { index, term });
                Ok(())
            }
            other => Err(format!("a record of kind {other}")),
        }
    }

    fn metadata(&mut self, data: &[u8]) -> Result<(), String> {
        let [_, member, cluster, _] = numbers(data)?;
        let found = Identity { member, cluster };
        match self.identity.replace(found) {
            Some(first) if first != found => {
                Err(format!("the log of two members, {:x} and {:x}", first.member, found.member))
            }
            _ => Ok(()),
        }
    }

    fn entry(&mut self, data: &[u8]) -> Result<(), String> {
        let [_, kind, term, index] = numbers(data)?;
        let kind = match kind {
            0 => EntryType::Normal,
            1 => EntryType::ConfChange,
            2 => EntryType::ConfChangeV2,
            other => return Err(format!("an entry of type {other}")),
        };
        if index == 0 {
            return Err("an entry without an index".into());
        }
        if let Some(first) = self.entries.first().map(|entry| entry.index) {
            let last = first + (self.entries.len() as u64 - 1);
            if index > last.saturating_add(1) {
                return Err(format!("entry {index} behind entry {last}"));
            }
            self.entries.truncate(usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX));
        }
        let data = bytes_field(data, 4).unwrap_or_default();
        let is_needed = index > self.held || kind != EntryType::Normal || tells_more_than_keys(data);
        let data = if is_needed { data.to_vec() } else { Vec::new() };
        self.entries.push(Entry { index, term, kind, data });
        Ok(())
    }
}

/// The numbers in fields 1 to 3 of a message, at their field's place.
fn numbers(message: &[u8]) -> Result<[u64; 4], String> {
    let mut found = [0; 4];
    let mut reader = fields(message);
    for (number, value) in reader.by_ref() {
        if let (1..=3, Value::Varint(value)) = (number, value) {
            found[number as usize] = value;
        }
    }
    if reader.rest().is_empty() { Ok(found) } else { Err("not a message".into()) }
}

/// The two numbers in a name of etcd's, 16 hexadecimal digits each: of `.wal` files sequence number and first index, of
/// `.snap` files term and index.
pub fn parse_name(name: &str, suffix: &str) -> Option<(u64, u64)> {
    let (left, right) = name.strip_suffix(suffix)?.split_once('-')?;
    let number = |text: &str| {
        let is_number = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_number.then(|| u64::from_str_radix(text, 16).expect("16 digits are 64 bits"))
    };
    Some((number(left)?, number(right)?))
}

/// What follows the numbers in the name of a log's file.
pub const SUFFIX: &str = ".wal";

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::wire::{field_bytes, field_varint};
    use proptest::prelude::*;

    /// Writes a log as etcd does.
    #[derive(Default)]
    struct Writer {
        checksum: u32,
        bytes: Vec<u8>,
    }

    impl Writer {
        fn push(&mut self, kind: u64, data: &[u8]) {
            let mut record = Vec::new();
            field_varint(&mut record, 1, kind);
            match kind {
                kind::CHECKSUM => field_varint(&mut record, 2, self.checksum.into()),
                _ => {
                    self.checksum = crc32c::crc32c_append(self.checksum, data);
                    field_varint(&mut record, 2, self.checksum.into());
                    field_bytes(&mut record, 3, data);
                }
            }
            let padding = record.len().wrapping_neg() % 8;
            let top = if padding > 0 { 0x80 | padding as u64 } else { 0 };
            self.bytes.extend_from_slice(&(record.len() as u64 | top << 56).to_le_bytes());
            self.bytes.extend_from_slice(&record);
            self.bytes.resize(self.bytes.len() + padding, 0);
        }

        fn numbers(&mut self, kind: u64, numbers: [u64; 3]) {
            let mut data = Vec::new();
            for (place, value) in (1..).zip(numbers) {
                field_varint(&mut data, place, value);
            }
            self.push(kind, &data);
        }

        fn entry(&mut self, index: u64, term: u64, payload: &[u8]) {
            let mut data = Vec::new();
            for (place, value) in (1..).zip([0, term, index]) {
                field_varint(&mut data, place, value);
            }
            field_bytes(&mut data, 4, payload);
            self.push(kind::ENTRY, &data);
        }

        fn head(&mut self) {
            self.push(kind::CHECKSUM, &[]);
            self.numbers(kind::METADATA, [7, 9, 0]);
        }
    }

    fn two_files() -> [Vec<u8>; 2] {
        let mut writer = Writer::default();
        writer.head();
        writer.numbers(kind::SNAPSHOT, [0, 0, 0]);
        for index in 1..=5 {
            writer.entry(index, 1, b"of an old leader");
        }
        writer.numbers(kind::HARD_STATE, [1, 7, 3]);
        let first = std::mem::take(&mut writer.bytes);
        writer.head();
        writer.entry(4, 2, &[b'n'; 2000]);
        writer.numbers(kind::HARD_STATE, [2, 7, 4]);
        writer.bytes.resize(writer.bytes.len() + 4096, 0);
        [first, writer.bytes]
    }

    fn read(files: &[Vec<u8>]) -> Result<Wal, WalError> {
        let mut reader = Reader::default();
        for (number, bytes) in files.iter().enumerate() {
            reader.file(&number.to_string(), bytes, number + 1 == files.len())?;
        }
        reader.finish()
    }

    #[test]
    fn later_entries_take_the_place_of_earlier_ones() {
        let wal = read(&two_files()).expect("whole");
        assert_eq!(wal.identity, Identity { member: 7, cluster: 9 });
        let ids: Vec<_> = wal.entries.iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!(ids, [(1, 1), (2, 1), (3, 1), (4, 2)]);
        assert_eq!(wal.hard_state, HardState { term: 2, vote: 7, commit: 4 });
        assert_eq!((wal.snapshots.len(), wal.torn_bytes), (1, 0));
    }

    #[test]
    fn what_is_held_already_is_kept_without_its_data() {
        let files = two_files();
        let read = |mut reader: Reader| {
            reader.file("0", &files[0], false).expect("whole");
            reader.file("1", &files[1], true).expect("whole");
            reader.finish().expect("whole").entries
        };
        let (all, behind) = (read(Reader::default()), read(Reader::behind(1)));
        assert!(!all[0].data.is_empty() && behind[0].data.is_empty());
        assert_eq!((behind[0].index, behind[0].term), (all[0].index, all[0].term));
        assert_eq!(behind[1..], all[1..]);
    }

    #[test]
    fn a_later_file_can_be_the_first_that_is_read() {
        let wal = read(&two_files()[1..]).expect("whole");
        assert_eq!(wal.entries.len(), 1);
    }

    #[test]
    fn a_torn_end_is_cut_and_a_flipped_bit_is_not() {
        let [first, mut second] = two_files();
        // A sector in the middle of the large entry was never written.
        second[1024..1536].fill(0);
        let wal = read(&[first.clone(), second.clone()]).expect("a torn end");
        assert_eq!((wal.entries.len(), wal.hard_state.commit), (5, 3));
        assert!(wal.torn_bytes > 0);
        // In a file that is not the last, that is damage.
        let error = read(&[second, first.clone()]).expect_err("damage");
        assert!(error.detail.contains("checksum"), "{error}");
        let [_, mut second] = two_files();
        second[700] ^= 1;
        assert!(read(&[first, second]).expect_err("damage").detail.contains("checksum"));
    }

    /// A length that no file could have was allocated, and an index far away was written to.
    #[test]
    fn ghsa_p4g4_wgrh_qrg2_and_m332_53r6_2w93_lengths_and_indexes_are_not_believed() {
        for length in [u64::MAX, (1 << 56) - 1, 1 << 40, 4096] {
            let mut writer = Writer::default();
            writer.head();
            writer.entry(1, 1, b"kept");
            let at = writer.bytes.len();
            writer.bytes.extend_from_slice(&length.to_le_bytes());
            writer.bytes.extend_from_slice(&[1; 64]);
            let last = read(std::slice::from_ref(&writer.bytes));
            // As a torn end, or as damage; never as a record.
            assert!(last.is_err() || last.is_ok_and(|wal| wal.entries.len() == 1), "{length}");
            let not_last = [writer.bytes.clone(), two_files()[0][..at].to_vec()];
            read(&not_last).expect_err("damage");
        }
        for index in [3, 1 << 32, u64::MAX] {
            let mut writer = Writer::default();
            writer.head();
            writer.entry(1, 1, b"");
            writer.entry(index, 1, b"");
            assert!(read(&[writer.bytes]).expect_err("a gap").detail.contains("behind entry 1"), "{index}");
        }
        let mut writer = Writer::default();
        writer.head();
        writer.entry(u64::MAX, 1, b"");
        writer.entry(1, 1, b"");
        let wal = read(&[writer.bytes]).expect("the later one counts");
        assert_eq!(wal.entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_gap_is_refused() {
        let mut writer = Writer::default();
        writer.head();
        writer.entry(1, 1, b"");
        writer.entry(3, 1, b"");
        assert!(read(&[writer.bytes]).expect_err("a gap").detail.contains("entry 3 behind entry 1"));
    }

    #[test]
    fn names() {
        assert_eq!(parse_name("0000000000000001-00000000000000ff.wal", SUFFIX), Some((1, 255)));
        assert_eq!(parse_name("0000000000000001.wal", SUFFIX), None);
        assert_eq!(parse_name("1.tmp", SUFFIX), None);
        assert_eq!(parse_name("+000000000000001-0000000000000001.wal", SUFFIX), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..3000, byte in any::<u8>()) {
            let _ = read(&[bytes]);
            let [first, mut second] = two_files();
            let at = at % second.len();
            second[at] = byte;
            let _ = read(&[first, second]);
        }
    }
}
