//! The only unsafe code of the generator: a kernel timer registered with tokio's poller.

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A periodic timer of the kernel: tokio's own has a resolution of a millisecond, too coarse here.
pub struct Timer {
    descriptor: AsyncFd<OwnedFd>,
}

impl Timer {
    /// A timer that rings every `period`.
    pub fn every(period: Duration) -> io::Result<Timer> {
        let descriptor = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let period = Timespec { tv_sec: period.as_secs().cast_signed(), tv_nsec: period.subsec_nanos().into() };
        let setting = Itimerspec { it_interval: period, it_value: period };
        rustix::time::timerfd_settime(&descriptor, TimerfdTimerFlags::empty(), &setting)?;
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and `AsyncFd` owns it from here
        // on and deregisters it first; nobody else can close or replace it.
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Timer { descriptor })
    }

    /// Waits for the next ring; rings missed meanwhile count as one.
    pub async fn wait(&self) -> io::Result<()> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            let mut expirations = [0u8; 8];
            let read = ready.try_io(|descriptor| Ok(rustix::io::read(descriptor, &mut expirations)?));
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
