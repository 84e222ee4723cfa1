//! io_uring forbidden, as a container's seccomp profile does it: the error says so and how to allow it.

use plinth_wal_uring::{UringDisk, UringError, UringOptions};

/// Lets the calling thread's `io_uring_setup` fail with this error number.
fn forbid_io_uring(errno: u32) {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The system call's number is the first word of `seccomp_data`.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: only sets a flag of this thread.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: `program` describes `filter`, both alive during the call; the kernel copies them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn refusal(errno: i32) -> UringError {
    let folder = tempfile::tempdir().expect("a folder");
    // The filter lasts as long as the thread.
    let thread = std::thread::spawn(move || {
        forbid_io_uring(errno as u32);
        UringDisk::open(folder.path(), UringOptions::default()).err().expect("refused")
    });
    thread.join().expect("no panic")
}

#[test]
fn a_forbidden_ring_says_how_to_allow_it() {
    let error = refusal(libc::EPERM);
    assert!(matches!(error, UringError::NotPermitted { .. }));
    let text = error.to_string();
    for part in ["io_uring is not permitted", "kernel.io_uring_disabled is", "io_uring_setup", "seccomp"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(matches!(refusal(libc::ENOSYS), UringError::Missing(_)));
    assert!(matches!(refusal(libc::ENOMEM), UringError::Memory(_)));
    assert!(matches!(refusal(libc::EMFILE), UringError::Setup { what: "io_uring", .. }));
}
