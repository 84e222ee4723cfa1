//! The signals that ask a holding command to let go: interrupt and terminate.

use crate::failure::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals.
pub struct End {
    interrupt: Signal,
    terminate: Signal,
}

/// From now on these signals do not end the process.
pub fn end() -> Result<End, Failure> {
    Ok(End { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
}

impl End {
    /// Returns when one has come.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
