//! SIGTERM and SIGINT as values: blocked in every thread, taken by one thread that waits for them.

use std::io;
use std::mem::MaybeUninit;

/// The blocked signals of the process. Create before the first thread is started: threads inherit the mask.
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks SIGTERM and SIGINT in this thread and in all that it starts, and ignores SIGPIPE.
    pub fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `set` is valid for writes; sigemptyset initialises it completely.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by sigemptyset, which cannot fail for a valid pointer.
        let mut set = unsafe { set.assume_init() };
        for signal in [libc::SIGTERM, libc::SIGINT] {
            // SAFETY: `set` is an initialised signal set and the numbers are valid.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
        // SAFETY: `set` is initialised; a null old set is allowed.
        let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        Ok(Signals { set })
    }

    /// Waits for the next of the blocked signals and takes it.
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: the set is initialised and `signal` is valid for a write.
        let failed = unsafe { libc::sigwait(&self.set, &mut signal) };
        if failed != 0 { Err(io::Error::from_raw_os_error(failed)) } else { Ok(signal) }
    }

    /// Ends the process by the signal's default action, so that a supervisor sees what ended it.
    pub fn die_by(&self, signal: i32) -> ! {
        // SAFETY: restoring the default action of a valid signal has no memory effects.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: the set is initialised; a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &self.set, std::ptr::null_mut()) };
        // SAFETY: raising a valid signal.
        unsafe { libc::raise(signal) };
        // Only reached if the signal is ignored by whoever started us.
        std::process::exit(128 + signal)
    }
}
