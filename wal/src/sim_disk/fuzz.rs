//! Mutation fuzz of everything that reads a log: damaged at random, from a seed.
//!
//! Each round takes a sound log, damages it, and opens, inspects and repairs it. Laws: nothing panics; without forged
//! checksums only appended records come out, in order and without a gap; a log that opened takes records and keeps
//! them; a repaired log opens.

use super::Rng;
use super::disk::{Schedule, SimDisk};
use super::medium::SimMedium;
use crate::format::{Identity, RecordHeader, SegmentHeader};
use crate::inspect;
use crate::limits::{BLOCK_BYTES, RECORD_ALIGN, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::repair::{RepairError, repair};
use crate::types::{GroupId, Lsn, RecordKind, SegmentSeq, WalId};
use crate::wal::{Wal, WalOptions};

/// What a fuzz run met; a run that never opens or never refuses tests nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FuzzSummary {
    /// Logs that opened in spite of the damage.
    pub opened: u64,
    pub refused: u64,
    /// Refused logs that were repaired.
    pub repaired: u64,
}

const WAL: WalId = WalId(0x0f0f);

fn options() -> WalOptions {
    WalOptions { segment_bytes: 16 << 10, buffer_bytes: 8 << 10, ..WalOptions::new(WAL) }
}

fn disk(medium: &SimMedium) -> SimDisk {
    SimDisk::new(medium, Schedule::InOrder)
}

type Appended = Vec<(Lsn, Vec<u8>)>;

/// Runs `rounds` rounds from `seed`.
///
/// # Panics
/// If a law is broken, naming seed and round.
pub fn fuzz(seed: u64, rounds: u64) -> FuzzSummary {
    let mut summary = FuzzSummary::default();
    let mut rng = Rng::new(seed);
    let mut sample = None;
    for round in 0..rounds {
        if round % 50 == 0 {
            sample = Some(sound_log(&mut rng));
        }
        let (medium, appended) = sample.as_ref().expect("made in the first round");
        let medium = medium.fork();
        let mut forged = false;
        for _ in 0..1 + rng.below(3) {
            forged |= damage(&medium, &mut rng);
        }
        if let Err(broken) = check(&medium, appended, forged, &mut summary) {
            panic!("fuzz seed {seed}, round {round}: {broken}");
        }
    }
    summary
}

/// A log of a few segments, some of them recycled, with the records it still holds.
fn sound_log(rng: &mut Rng) -> (SimMedium, Appended) {
    let medium = SimMedium::new();
    let (mut wal, _) = Wal::open(disk(&medium), options()).expect("an empty medium opens");
    let mut appended = Vec::new();
    for _ in 0..20 + rng.below(60) {
        let payload = vec![rng.bits() as u8; rng.below(2000) as usize];
        let lsn = wal.append(GroupId(rng.bits() as u32), RecordKind::Entry, rng.bits() as u16, &[&payload]);
        appended.push((lsn, payload));
        if rng.chance(40) {
            wal.flush().expect("no faults");
            wal.poll().expect("no faults");
        }
        if rng.chance(5) {
            wal.release_before(Lsn::new(wal.durable().get().saturating_sub(20)));
        }
        if rng.chance(5) {
            wal.witness();
        }
    }
    wal.flush().expect("no faults");
    wal.poll().expect("no faults");
    let first = wal.first().expect("has records");
    appended.retain(|(lsn, _)| *lsn >= first);
    (medium, appended)
}

/// Damages one thing. True if a checksum was forged: then records may come out that were never appended.
fn damage(medium: &SimMedium, rng: &mut Rng) -> bool {
    let names = medium.names();
    let segments: Vec<SegmentSeq> = names.iter().filter_map(|name| SegmentSeq::from_file_name(name)).collect();
    if segments.is_empty() {
        return false;
    }
    let pick = |rng: &mut Rng| segments[rng.below(segments.len() as u64) as usize];
    let seq = pick(rng);
    let name = seq.file_name();
    let mut bytes = medium.read(&name).expect("listed");
    if bytes.len() < BLOCK_BYTES {
        return false;
    }
    let from = rng.below(bytes.len() as u64) as usize;
    let to = (from + 1 + rng.below(6000) as usize).min(bytes.len());
    let mut forged = false;
    match rng.below(10) {
        0..3 => bytes[from] ^= 1 << rng.below(8),
        3 => bytes[from..to].fill_with(|| rng.bits() as u8),
        4 => bytes[from..to].fill(0),
        5 => copy_blocks(&mut bytes, &medium.read(&pick(rng).file_name()).expect("listed"), rng),
        6 => bytes.resize(rng.below(2 * bytes.len() as u64) as usize, 0),
        7 => {
            if rng.chance(50) {
                medium.put(&SegmentSeq::new(1 + rng.below(20)).file_name(), bytes.clone());
            }
            medium.delete(&name);
            return false;
        }
        8 => {
            forge_record(&mut bytes, seq, rng);
            forged = true;
        }
        _ => {
            forge_segment(&mut bytes, seq, rng);
            forged = true;
        }
    }
    medium.put(&name, bytes);
    forged
}

fn copy_blocks(bytes: &mut [u8], other: &[u8], rng: &mut Rng) {
    let blocks = |bytes: &[u8]| (bytes.len() / BLOCK_BYTES) as u64;
    if blocks(other) > 0 {
        let from = rng.below(blocks(other)) as usize * BLOCK_BYTES;
        let to = rng.below(blocks(bytes)) as usize * BLOCK_BYTES;
        bytes[to..to + BLOCK_BYTES].copy_from_slice(&other[from..from + BLOCK_BYTES]);
    }
}

/// A header that validates, with fields near the valid ones or far from them.
fn forge_record(bytes: &mut [u8], seq: SegmentSeq, rng: &mut Rng) {
    let places = ((bytes.len() - RECORD_HEADER_BYTES) / RECORD_ALIGN) as u64;
    let at = if rng.chance(50) { BLOCK_BYTES } else { rng.below(places) as usize * RECORD_ALIGN };
    let Some(old) = bytes[at..].first_chunk::<RECORD_HEADER_BYTES>() else { return };
    let identity = Identity::new(WAL, seq);
    let any = |rng: &mut Rng, near: u64| match rng.below(4) {
        0 => rng.bits(),
        1 => u64::MAX - rng.below(3),
        2 => rng.below(100),
        _ => near.wrapping_add(rng.below(3)),
    };
    let old = RecordHeader::decode(old, identity);
    let near = old.map_or(1, |old| old.lsn.get());
    let length = any(rng, old.map_or(0, |old| old.length.into())) as u32;
    let payload = bytes.get(at + RECORD_HEADER_BYTES..).and_then(|rest| rest.get(..length as usize));
    let header = RecordHeader {
        payload_crc: identity.crc(payload.unwrap_or_default()),
        lsn: Lsn::new(any(rng, near)),
        length,
        behind: any(rng, 1) as u32,
        group: GroupId(rng.bits() as u32),
        schema: rng.below(4) as u16,
        kind: rng.below(7) as u8,
    };
    bytes[at..at + RECORD_HEADER_BYTES].copy_from_slice(&header.encode(identity));
}

fn forge_segment(bytes: &mut Vec<u8>, seq: SegmentSeq, rng: &mut Rng) {
    let segment_bytes = match rng.below(4) {
        0 => rng.bits(),
        1 => rng.below(100_000),
        2 => rng.below(20) * BLOCK_BYTES as u64,
        _ => bytes.len() as u64,
    };
    if segment_bytes < 200_000 && rng.chance(70) {
        bytes.resize(segment_bytes as usize, 0);
    }
    let wal = if rng.chance(70) { WAL } else { WalId(rng.bits()) };
    let seq = if rng.chance(80) { seq } else { SegmentSeq::new(rng.below(20)) };
    let reach = if rng.chance(80) { 64 << 10 } else { rng.bits() >> rng.below(64) };
    let header = SegmentHeader { wal, seq, segment_bytes, recycled: rng.chance(50), reach };
    if bytes.len() >= SEGMENT_HEADER_BYTES {
        bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
    }
}

fn check(
    medium: &SimMedium,
    appended: &Appended,
    forged: bool,
    summary: &mut FuzzSummary,
) -> Result<(), Box<dyn std::error::Error>> {
    let inspection = inspect::inspect(&mut disk(medium))?;
    match Wal::open(disk(medium), options()) {
        Ok((wal, recovered)) => {
            summary.opened += 1;
            let found: Appended = recovered.iter().map(|record| (record.lsn, record.payload.to_vec())).collect();
            if !forged && !found.is_empty() && !appended.windows(found.len()).any(|run| run == found) {
                return Err("records that were not appended so".into());
            }
            keeps_records(medium, wal, found)
        }
        Err(error) => {
            summary.refused += 1;
            let same = inspection.outcome.as_ref().err() == Some(&error);
            if !same && !inspection.files.is_empty() {
                return Err(format!("open says {error}, inspect {:?}", inspection.outcome).into());
            }
            match repair(&mut disk(medium)) {
                Err(RepairError::Refused(_)) => return Ok(()),
                repaired => repaired?,
            };
            summary.repaired += 1;
            let (wal, recovered) = Wal::open(disk(medium), options())?;
            let found = recovered.iter().map(|record| (record.lsn, record.payload.to_vec())).collect();
            keeps_records(medium, wal, found)
        }
    }
}

/// A log that opened is a log: what is written to it is there the next time, behind what was there before.
fn keeps_records(
    medium: &SimMedium,
    mut wal: Wal<SimDisk>,
    mut found: Appended,
) -> Result<(), Box<dyn std::error::Error>> {
    if wal.last().get() > u64::MAX - 1000 {
        // Forged: the numbers are about to run out.
        return Ok(());
    }
    for length in [10, 5000] {
        let payload = vec![1; length];
        found.push((wal.append(GroupId(1), RecordKind::Entry, 0, &[&payload]), payload));
    }
    wal.flush()?;
    // Each poll may free a slot or bring a segment that the next one uses.
    for _ in 0..20 {
        wal.poll()?;
    }
    if wal.durable() != wal.last() {
        return Err("not durable on a sound disk".into());
    }
    drop(wal);
    let (_, recovered) = Wal::open(disk(medium), options())?;
    let again: Appended = recovered.iter().map(|record| (record.lsn, record.payload.to_vec())).collect();
    if again != found { Err("not the same records the next time".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canary: without damage the laws hold, and a record exchanged behind the log's back breaks them.
    #[test]
    fn the_check_can_fail() {
        let (medium, appended) = sound_log(&mut Rng::new(1));
        assert!(appended.len() > 3);
        check(&medium.fork(), &appended, false, &mut FuzzSummary::default()).expect("sound");
        let mut other = appended.clone();
        other[3].1 = b"something else".to_vec();
        let broken = check(&medium, &other, false, &mut FuzzSummary::default()).expect_err("not what was appended");
        assert!(broken.to_string().contains("not appended"), "{broken}");
    }
}
