//! Where freed memory goes back to the system: on a thread of its own.
//!
//! The allocator would do it in whichever thread frees or asks next, megabytes at a time, which takes the system
//! milliseconds: a reactor has none. So it is told to keep what is freed, and this thread gives it back.

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};
use std::io;
use std::time::Duration;

/// `mi_option_purge_delay`: milliseconds that freed memory is kept. The crate does not name it.
const PURGE_DELAY: mi_option_t = 15;

/// Longer than this thread ever takes to come round.
const KEPT_MILLISECONDS: std::ffi::c_long = 24 * 3_600_000;

/// How often freed memory goes back. What is needed again within this time costs nothing, at the price of memory that
/// is held for as long.
const INTERVAL: Duration = Duration::from_secs(30);

/// Starts the thread, which lives as long as the process.
pub fn give_back_freed_memory() -> io::Result<()> {
    // SAFETY: sets a number; any thread may at any time.
    unsafe { mi_option_set(PURGE_DELAY, KEPT_MILLISECONDS) };
    let work = || {
        loop {
            std::thread::sleep(INTERVAL);
            // SAFETY: collects for the calling thread, and gives free memory of the whole process back, which the
            // allocator guards against others that allocate meanwhile.
            unsafe { mi_collect(true) };
        }
    };
    std::thread::Builder::new().name("heap".into()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_option_get;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads a number; any thread may at any time.
        let milliseconds = unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(milliseconds, 1000, "the default of mimalloc 3, and of no other option");
    }
}
