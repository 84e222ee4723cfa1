//! A driver that lives through crashes: it appends, flushes, polls and releases at random, remembers what was said,
//! and checks after every restart that the log kept its word.
//!
//! The laws, for any crash and any order of effects:
//! 1. what `durable` reached is recovered, from the first record not released on, in order, byte for byte;
//! 2. nothing is recovered that was not appended;
//! 3. a crash alone never makes the log refuse to open.

#![allow(dead_code)]

use std::collections::BTreeSet;

use plinth_wal::sim_disk::{Loss, Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::*;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub lsn: Lsn,
    pub group: GroupId,
    pub kind: RecordKind,
    pub schema: u16,
    pub payload: Vec<u8>,
}

impl Kept {
    pub fn of(record: Record<'_>) -> Self {
        let Record { lsn, group, kind, schema, payload } = record;
        Self { lsn, group, kind, schema, payload: payload.to_vec() }
    }
}

/// What the outside world may rely on.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub appended: Vec<Kept>,
    pub durable: Lsn,
    pub released: Lsn,
    /// How the log was found, each time it was opened.
    pub ends: BTreeSet<&'static str>,
}

pub fn options(rng: &mut Rng) -> WalOptions {
    WalOptions {
        segment_bytes: [16, 24, 64][rng.below(3) as usize] << 10,
        buffer_bytes: [4, 8][rng.below(2) as usize] << 10,
        flushes_in_flight: 1 + rng.below(3) as usize,
        segments_ahead: 1 + rng.below(2),
        // Small enough that recovery looks at a part of a segment only.
        in_flight_bytes: [8, 16][rng.below(2) as usize] << 10,
        payload_bytes: [1, 7, 64][rng.below(3) as usize] << 10,
        ..WalOptions::new(WalId(rng.bits()))
    }
}

impl Ledger {
    /// One life: opens, checks what is found, works for a while. Ends early when the machine goes down.
    pub fn live(&mut self, medium: &SimMedium, options: &WalOptions, rng: &mut Rng, rounds: u64) -> Result<(), String> {
        let disk = SimDisk::new(medium, Schedule::Shuffled(Rng::new(rng.bits())));
        let opened = Wal::open(disk, options.clone());
        if medium.is_dead() {
            return Ok(());
        }
        let (mut wal, recovered) = opened.map_err(|error| format!("refused: {error}"))?;
        self.check(&recovered)?;
        self.ends.insert(recovered.report.end);
        self.adopt(&recovered, &wal);
        for _ in 0..rounds {
            self.act(&mut wal, rng).map_err(|error| error.to_string())?;
            if medium.is_dead() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn act(&mut self, wal: &mut Wal<SimDisk>, rng: &mut Rng) -> Result<(), WalError> {
        match rng.below(10) {
            0..4 => self.append(wal, rng),
            4..6 => {
                wal.flush()?;
            }
            6..9 => self.durable = wal.poll()?,
            _ if rng.chance(70) => {
                // Also what is not durable yet: whoever needs nothing says so at once.
                let lsn = Lsn::new(rng.below(wal.last().get() + 2));
                self.released = self.released.max(lsn);
                wal.release_before(lsn);
            }
            _ => wal.witness(),
        }
        Ok(())
    }

    pub fn append(&mut self, wal: &mut Wal<SimDisk>, rng: &mut Rng) {
        if wal.room() == 0 {
            return;
        }
        let max = wal.payload_bytes_max() as u64;
        let most = [40, 400, 5000, max][rng.below(4) as usize].min(max);
        let length = rng.below(most + 1) as usize;
        let fill = rng.bits();
        // Zeros and repetitions are what torn sectors like to hide in.
        let payload: Vec<u8> =
            (0..length as u64).map(|at| if fill.is_multiple_of(3) { 0 } else { (fill ^ at) as u8 }).collect();
        let (group, schema) = (GroupId(rng.below(3) as u32), rng.bits() as u16);
        let kind = [RecordKind::Metadata, RecordKind::Entry, RecordKind::HardState, RecordKind::SnapshotMark]
            [rng.below(4) as usize];
        let (head, tail) = payload.split_at(length / 2);
        let lsn = wal.append(group, kind, schema, &[head, &[], tail]);
        self.appended.push(Kept { lsn, group, kind, schema, payload });
    }

    /// Laws 1 and 2.
    pub fn check(&self, recovered: &Recovered) -> Result<(), String> {
        let report = &recovered.report;
        let first = report.first.unwrap_or(report.last.next());
        if report.last < self.durable {
            return Err(format!("record {} was durable, the log ends at {}: {report:?}", self.durable, report.last));
        }
        if first > self.released.max(Lsn::FIRST) {
            return Err(format!("the log begins at {first}, released was {}", self.released));
        }
        let expected = self.appended.iter().filter(|kept| kept.lsn >= first && kept.lsn <= report.last);
        let mut found = recovered.iter();
        for kept in expected {
            match found.next() {
                Some(record) if Kept::of(record) == *kept => {}
                other => return Err(format!("record {}: {other:?}, appended {kept:?}", kept.lsn)),
            }
        }
        match found.next() {
            None => Ok(()),
            Some(record) => Err(format!("never appended: {record:?}")),
        }
    }

    /// What is gone never happened; what was found is durable from now on.
    pub fn adopt(&mut self, recovered: &Recovered, wal: &Wal<SimDisk>) {
        let last = recovered.report.last;
        assert_eq!(wal.durable(), last);
        self.appended.retain(|kept| kept.lsn <= last);
        self.durable = last;
    }
}

pub fn loss(rng: &mut Rng) -> Loss {
    Loss::ALL[rng.below(Loss::ALL.len() as u64) as usize]
}
