//! SIGTERM and SIGINT as values: blocked in every thread, taken by one thread that waits for them.

use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

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

    /// Waits for the next of the blocked signals, up to a time, and takes it. `None`: none came.
    pub fn wait_for(&self, time: Duration) -> io::Result<Option<i32>> {
        let deadline = Instant::now() + time;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let rest =
                libc::timespec { tv_sec: rest.as_secs() as libc::time_t, tv_nsec: rest.subsec_nanos() as libc::c_long };
            // SAFETY: the set is initialised, a null siginfo is allowed, and `rest` is a valid time.
            let signal = unsafe { libc::sigtimedwait(&self.set, std::ptr::null_mut(), &rest) };
            if signal > 0 {
                return Ok(Some(signal));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                // Another signal, such as the one that stops and continues a process.
                Some(libc::EINTR) => {}
                _ => return Err(error),
            }
        }
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
