//! Standard output.

use crate::failure::Failure;
use std::io::Write;

/// Writes to standard output at once: what reads it may be waiting.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}
