//! What the runtime is told of the limits of the process.
//!
//! glommio (0.9) refuses to start a reactor where less than 512 KiB may be locked in memory. It wants them for buffers of
//! direct input and output on files, which no reactor here does, and goes on without them where the kernel refuses to
//! register them; rings themselves are not counted since Linux 5.12. Many systems allow 64 KiB. So this crate stands in for
//! the one of the same name (`[patch.crates-io]` in the workspace's manifest) with the two items that glommio names, and
//! never tells it less than what it asks for. Where the kernel does not give what a ring needs, the ring says so.

#![forbid(unsafe_code)]

use std::io;

use rustix::process::getrlimit;

/// Bytes of locked memory below which glommio does not start.
const WANTED_BYTES: u64 = 512 << 10;

/// A limit of the process.
#[derive(Clone, Copy, Debug)]
pub struct Resource(());

impl Resource {
    /// Bytes that may be locked in memory.
    pub const MEMLOCK: Resource = Resource(());

    /// The soft and the hard limit, in bytes, each at least what the runtime asks for.
    ///
    /// # Errors
    ///
    /// None; the crate this one stands in for has some.
    pub fn get(self) -> io::Result<(u64, u64)> {
        let limit = getrlimit(rustix::process::Resource::Memlock);
        let told = |bytes: Option<u64>| bytes.unwrap_or(u64::MAX).max(WANTED_BYTES);
        Ok((told(limit.current), told(limit.maximum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_is_told_enough() {
        let (soft, hard) = Resource::MEMLOCK.get().expect("always known");
        assert!(soft >= WANTED_BYTES && hard >= soft);
    }
}
