//! Waiting for a descriptor, which the standard library does not offer.

use std::io;

/// Waits until a descriptor reports one of the events asked for.
pub(crate) fn poll_forever(poll: &mut libc::pollfd) -> io::Result<()> {
    loop {
        // SAFETY: `poll` is one valid entry, as the count says.
        if unsafe { libc::poll(poll, 1, -1) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
