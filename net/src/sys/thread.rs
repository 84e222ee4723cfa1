//! The standing of a thread among others.

/// How much less than others such a thread gets where cores are short: about a quarter.
const NICENESS: libc::c_int = 5;

/// Lets others come before this thread. Linux counts niceness per thread.
pub fn be_nice() {
    // SAFETY: no memory is involved. If the system does not let us, the thread is as others are.
    let _ = unsafe { libc::nice(NICENESS) };
}
