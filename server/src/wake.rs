//! Wakes a task of a reactor from outside: from a helper thread, or from the kernel through a socket.
//!
//! A byte in a socket pair is the whole mechanism: the reactor awaits the other end through its own ring, so that
//! an idle reactor sleeps and nothing polls. What happened is told by shared state, never by the byte.

use futures_lite::AsyncReadExt;
use plinth_net::rt::UnixStream;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

/// The end that wakes. `Send`.
#[derive(Debug)]
pub struct Waker {
    stream: StdUnixStream,
}

impl Waker {
    /// Wakes the reactor. A full socket buffer means that it has been woken often enough.
    pub fn wake(&self) {
        let _ = (&self.stream).write(&[1]);
    }
}

/// The end that a reactor awaits.
#[derive(Debug)]
pub struct Woken {
    stream: UnixStream,
}

impl Woken {
    /// Awaits bytes that arrive at `socket`. Must be called on the reactor that will wait.
    pub fn on(socket: OwnedFd) -> Woken {
        Woken { stream: crate::sys::adopt_unix_stream(socket) }
    }

    /// Returns when there was at least one wake since the last call.
    pub async fn wait(&mut self) -> io::Result<()> {
        let mut bytes = [0_u8; 256];
        match self.stream.read(&mut bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A connected pair. Must be called on the reactor that will wait.
pub fn pair() -> io::Result<(Waker, Woken)> {
    let (sender, receiver) = StdUnixStream::pair()?;
    sender.set_nonblocking(true)?;
    Ok((Waker { stream: sender }, Woken::on(receiver.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::rt;

    #[test]
    fn a_thread_wakes_a_reactor() {
        rt::block_on(async {
            let (waker, mut woken) = pair().expect("a socket pair");
            let thread = std::thread::spawn(move || waker.wake());
            woken.wait().await.expect("woken");
            thread.join().expect("the thread ends");
            assert!(woken.wait().await.is_err(), "the other end is gone");
        });
    }
}
