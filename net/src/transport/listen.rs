//! Sockets that are listened on.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::rt::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use super::remote::PeerAddress;
use crate::sys;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Several sockets, one per reactor, may listen on the same address.
    pub reuse_port: bool,
    /// Connections the kernel holds until they are accepted.
    pub backlog: i32,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions { reuse_port: false, backlog: 1024 }
    }
}

/// What the kernel was asked for a connection by.
type Accepting = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// A listening socket of this reactor.
pub struct Listener {
    inner: Rc<TcpListener>,
    /// The kernel was asked, and whoever did may have gone: a connection that it has given by then is the next one's, not
    /// lost with its client waiting.
    accepting: RefCell<Option<Accepting>>,
    /// The file of a Unix socket.
    file: Option<SocketFile>,
}

/// Removed when nobody listens any more.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; nobody could do anything about another error.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds and listens. Must be called on the reactor that will serve.
    pub fn bind(address: SocketAddr, options: ListenOptions) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(options.backlog)?;
        Ok(Listener::of(sys::listener_from_socket(socket.into()), None))
    }

    /// Listens on a Unix socket. One that an earlier process has left behind is replaced; any other file is not.
    pub fn bind_unix(path: &Path) -> io::Result<Listener> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixListener::bind(path)?;
        let file = SocketFile(std::path::absolute(path)?);
        Ok(Listener::of(sys::listener_from_socket(socket.into()), Some(file)))
    }

    fn of(socket: TcpListener, file: Option<SocketFile>) -> Listener {
        Listener { inner: Rc::new(socket), accepting: RefCell::default(), file }
    }

    /// Where it listens, if that is a TCP port; tells which if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr().map_err(io::Error::from)
    }

    /// The next connection whose client is still there. Fails if the system is short of something. May be dropped at any
    /// time, and asked for by one at a time.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, PeerAddress)> {
        loop {
            let stream = poll_fn(|cx| self.poll_accept(cx)).await?;
            if self.file.is_some() {
                return Ok((stream, PeerAddress::Unix));
            }
            // Either fails only if the client is gone already.
            if let Ok(address) = stream.peer_addr()
                && stream.set_nodelay(true).is_ok()
            {
                return Ok((stream, PeerAddress::Tcp(address)));
            }
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let mut accepting = self.accepting.borrow_mut();
        let asked = accepting.get_or_insert_with(|| {
            let socket = self.inner.clone();
            Box::pin(async move { socket.accept().await.map_err(io::Error::from) })
        });
        let accepted = asked.as_mut().poll(cx);
        if accepted.is_ready() {
            *accepting = None;
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::within;
    use std::time::Duration;

    #[test]
    fn a_connection_outlives_who_asked_for_it() {
        crate::rt::block_on(async {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
            let address = listener.local_addr().unwrap();
            let mut asked = Box::pin(listener.accept());
            assert!(poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await);
            // Now the kernel has heard of it.
            crate::rt::sleep(Duration::from_millis(20)).await;
            drop(asked);
            let client = std::net::TcpStream::connect(address).unwrap();
            let accepted = within(Duration::from_secs(5), listener.accept()).await.expect("it is there").unwrap();
            assert_eq!(accepted.1, PeerAddress::Tcp(client.local_addr().unwrap()));
        });
    }
}
