//! What is in memory stays there.

/// From now on the process leaves no core dump, and others of its user cannot look into it.
pub fn leave_no_core_dump() {
    // SAFETY: no memory is involved. Where the system refuses, everything is as before.
    let _ = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_system_agrees() {
        super::leave_no_core_dump();
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
    }
}
