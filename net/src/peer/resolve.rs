//! Host names become addresses on a thread of their own: the system's resolver blocks, for many seconds if its servers
//! are silent, and one name that hangs must not keep others waiting.
//!
//! A caller that gives up leaves the thread to end by itself. At most one runs for each lane of a peer.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::mpsc;

use futures_io::AsyncRead;

use crate::sys;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The addresses of `host:port`. Numeric ones are not looked up.
pub(super) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    match address.parse() {
        Ok(numeric) => Ok(vec![numeric]),
        Err(_) => look_up(address.to_owned()).await,
    }
}

async fn look_up(name: String) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The thread holds one end and lets it go when it is done, which the reactor sees as the end of the other.
    let (signal, done) = UnixStream::pair()?;
    let mut done = sys::stream_from_socket(done.into());
    std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        // Nobody listens if the caller gave up.
        let _ = sender.send(addresses_of(&name));
        drop(signal);
    })?;
    poll_fn(|cx| Pin::new(&mut done).poll_read(cx, &mut [0])).await?;
    receiver.try_recv().map_err(|_| io::Error::other("the resolver failed"))?
}

fn addresses_of(name: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = name.to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn names_and_numbers() {
        glommio::LocalExecutor::default().run(async {
            assert_eq!(resolve("127.0.0.1:2380").await.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 2380))]);
            assert_eq!(resolve("[::1]:2380").await.unwrap(), [SocketAddr::from((Ipv6Addr::LOCALHOST, 2380))]);
            let local = resolve("localhost:2380").await.unwrap();
            assert!(!local.is_empty());
            assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 2380));
            for wrong in ["", "localhost", "localhost:port"] {
                assert!(resolve(wrong).await.is_err(), "{wrong}");
            }
        });
    }
}
