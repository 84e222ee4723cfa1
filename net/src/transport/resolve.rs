//! Host names become addresses on threads of their own: the system's resolver blocks, for many seconds if its servers
//! are silent, and one name that hangs must not keep others waiting.
//!
//! Invariant: a name is looked up by one thread of a resolver at most. Who gives up waiting leaves the thread behind,
//! and finds it, or what it found, when he asks again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::mpsc;

use crate::rt::TcpStream;
use futures_io::AsyncRead;

use crate::sys;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

type Found = io::Result<Vec<SocketAddr>>;

/// Looks names up for one lane.
pub(crate) struct Resolver {
    running: BTreeMap<String, Lookup>,
    look_up: fn(&str) -> Found,
}

/// A thread at work.
struct Lookup {
    /// Ends when the thread is done.
    done: TcpStream,
    found: mpsc::Receiver<Found>,
}

impl Resolver {
    /// One that asks the system.
    pub(crate) fn new() -> Resolver {
        Resolver { running: BTreeMap::new(), look_up: addresses_of }
    }

    /// The addresses of `host:port`. Numeric ones are not looked up.
    pub(crate) async fn resolve(&mut self, address: &str) -> Found {
        if let Ok(numeric) = address.parse() {
            return Ok(vec![numeric]);
        }
        let lookup = match self.running.entry(address.to_owned()) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(place) => place.insert(Lookup::start(address.to_owned(), self.look_up)?),
        };
        let ended = poll_fn(|cx| Pin::new(&mut lookup.done).poll_read(cx, &mut [0])).await;
        let found = lookup.found.try_recv();
        self.running.remove(address);
        ended?;
        found.map_err(|_| io::Error::other("the resolver failed"))?
    }

    /// Forgets names that are not asked for any more.
    pub(crate) fn keep_only(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.running.retain(|name, _| is_wanted(name));
    }
}

impl Lookup {
    fn start(name: String, look_up: fn(&str) -> Found) -> io::Result<Lookup> {
        let (sender, found) = mpsc::sync_channel(1);
        // The thread holds one end and lets it go when it is done, which the reactor sees as the end of the other.
        let (signal, done) = UnixStream::pair()?;
        let done = sys::stream_from_socket(done.into());
        std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            // Nobody listens if the name was forgotten.
            let _ = sender.send(look_up(&name));
            drop(signal);
        })?;
        Ok(Lookup { done, found })
    }
}

fn addresses_of(name: &str) -> Found {
    let found: Vec<SocketAddr> = name.to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;
    use crate::wait::within;
    use std::net::Ipv6Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, MutexGuard};
    use std::time::Duration;

    #[test]
    fn names_and_numbers() {
        rt::block_on(async {
            let mut resolver = Resolver::new();
            let four = SocketAddr::from(([127, 0, 0, 1], 2380));
            assert_eq!(resolver.resolve("127.0.0.1:2380").await.unwrap(), [four]);
            let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 2380));
            assert_eq!(resolver.resolve("[::1]:2380").await.unwrap(), [six]);
            let local = resolver.resolve("localhost:2380").await.unwrap();
            assert!(!local.is_empty());
            assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 2380));
            for wrong in ["", "localhost", "localhost:port"] {
                assert!(resolver.resolve(wrong).await.is_err(), "{wrong}");
            }
            assert!(resolver.running.is_empty());
        });
    }

    /// Held by the test for as long as the name hangs.
    static HANGS: Mutex<()> = Mutex::new(());
    static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

    fn hang(name: &str) -> Found {
        LOOKUPS.fetch_add(1, Ordering::SeqCst);
        if name == "panics:1" {
            panic!("as no resolver should");
        }
        let _wait: MutexGuard<'_, ()> = HANGS.lock().unwrap();
        Ok(vec![SocketAddr::from(([127, 0, 0, 9], 1))])
    }

    #[test]
    fn a_name_that_hangs_is_looked_up_once() {
        let hanging = HANGS.lock().unwrap();
        rt::block_on(async {
            let mut resolver = Resolver { look_up: hang, ..Resolver::new() };
            assert!(resolver.resolve("panics:1").await.is_err());
            for _ in 0..5 {
                let waited = within(Duration::from_millis(5), resolver.resolve("hangs:1")).await;
                assert!(waited.is_none());
            }
            resolver.keep_only(|name| name == "hangs:1");
            drop(hanging);
            assert_eq!(resolver.resolve("hangs:1").await.unwrap(), [SocketAddr::from(([127, 0, 0, 9], 1))]);
            assert_eq!(LOOKUPS.load(Ordering::SeqCst), 2);
            resolver.keep_only(|_| false);
            assert!(resolver.running.is_empty());
        });
    }
}
