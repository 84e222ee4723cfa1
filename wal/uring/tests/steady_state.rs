//! The reactor's path through the log allocates nothing once warm: append, flush, wake-up, poll.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use plinth_wal::*;
use plinth_wal_uring::*;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn rounds(wal: &mut Wal<UringDisk>, payload: &[u8], count: u64) -> u64 {
    let before = COUNT.with(Cell::get);
    for _ in 0..count {
        wal.append(GroupId(0), RecordKind::HardState, 1, &[&payload[..20]]);
        let last = wal.append(GroupId(0), RecordKind::Entry, 1, &[&payload[..100], payload]);
        wal.flush().expect("flush");
        while wal.poll().expect("poll") < last {
            wal.disk_mut().wait().expect("wait");
        }
    }
    COUNT.with(Cell::get) - before
}

#[test]
fn the_steady_state_allocates_nothing() {
    for mode in [SyncMode::Fdatasync, SyncMode::Direct] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = UringOptions { sync: mode, ..Default::default() };
        let disk = UringDisk::open(folder.path(), options).expect("disk");
        let options = WalOptions { segment_bytes: 8 << 20, ..WalOptions::new(WalId(3)) };
        let (mut wal, _) = Wal::open(disk, options).expect("wal");
        let payload = vec![9; 8000];
        rounds(&mut wal, &payload, 20);
        assert!(COUNT.with(Cell::get) > 0, "allocations are counted");
        assert_eq!(rounds(&mut wal, &payload, 300), 0, "{mode:?}");
    }
}
