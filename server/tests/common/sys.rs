//! Processes that are started with less than this one may: a filter of system calls, a limit, no special rights.
//!
//! What is done here is done in the child between fork and exec: system calls alone, no memory is asked for.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register` have these numbers on every architecture.
const IO_URING: [u32; 3] = [425, 426, 427];

const CAP_IPC_LOCK: libc::c_ulong = 14;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// A program for the kernel: the named system calls get one answer, all others another.
fn filter(named: &[u32], answer: u32, otherwise: u32) -> Vec<libc::sock_filter> {
    // The number of the system call is the first field of what is looked at.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for number in named {
        program.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *number));
        program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, otherwise));
    program
}

fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

fn filtered(command: &mut Command, filter: Vec<libc::sock_filter>) -> &mut Command {
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: takes numbers only.
        checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        // SAFETY: the program and what it points to live until the call returns; the kernel copies and checks it.
        checked(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program, 0, 0) })
    };
    // SAFETY: makes system calls alone.
    unsafe { command.pre_exec(install) }
}

/// The process that `command` starts is refused io_uring, as by a container's seccomp profile.
pub fn without_io_uring(command: &mut Command, errno: i32) -> &mut Command {
    filtered(command, filter(&IO_URING, refusal(errno), libc::SECCOMP_RET_ALLOW))
}

/// The process may make these system calls; others fail with `errno`.
pub fn under_profile<'a>(command: &'a mut Command, allowed: &[u32], errno: i32) -> &'a mut Command {
    filtered(command, filter(allowed, libc::SECCOMP_RET_ALLOW, refusal(errno)))
}

/// The process may lock so many bytes in memory, and cannot allow itself more.
pub fn with_locked_memory(command: &mut Command, bytes: u64) -> &mut Command {
    let limit = move || {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: the structure is whole; the kernel only reads it.
        checked(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) })?;
        for capability in [CAP_IPC_LOCK, CAP_SYS_RESOURCE] {
            // Fails for whoever is not root and has them not.
            // SAFETY: takes numbers only.
            let _ = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: makes system calls alone.
    unsafe { command.pre_exec(limit) }
}
