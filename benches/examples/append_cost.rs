//! Measures the log's own CPU per flush, without a disk: one entry of a batch and a hard state, at several sizes.
//!
//! `cargo run --release -p plinth-benches --example append_cost`

use std::time::Instant;

use plinth_wal::sim_disk::NullDisk;
use plinth_wal::{GroupId, RecordKind, Wal, WalId, WalOptions};

fn main() {
    let (mut wal, _) = Wal::open(NullDisk::default(), WalOptions::new(WalId(1))).expect("new");
    for bytes in [300, 4 << 10, 20 << 10, 64 << 10, 512 << 10] {
        let payload = vec![7u8; bytes];
        let rounds = (2 << 30) / (bytes + 20_000);
        let started = Instant::now();
        for _ in 0..rounds {
            wal.append(GroupId(0), RecordKind::HardState, 1, &[&payload[..24]]);
            let last = wal.append(GroupId(0), RecordKind::Entry, 1, &[&payload[..32], &payload]);
            wal.flush().expect("flush");
            while wal.poll().expect("poll") < last {}
            wal.release_before(last);
        }
        let nanos = started.elapsed().as_nanos() as f64 / rounds as f64;
        println!("{bytes:>7} bytes: {nanos:>9.0} ns per flush, {:>5.2} GB/s", bytes as f64 / nanos);
    }
}
