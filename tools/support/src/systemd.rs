//! What systemd is told: that a program is ready, that it goes on, that it stops.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells it, if it listens.
///
/// # Errors
/// If it listens, and cannot be told.
pub fn tell(what: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path.as_ref()),
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address?).map(drop)
}

/// How often it wants to hear that this goes on: half of its patience.
pub fn pulse() -> Option<Duration> {
    let microseconds: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(microseconds / 2)).filter(|pulse| !pulse.is_zero())
}
