//! Sockets that are listened on.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::rt::{TcpListener, TcpStream};
use socket2::{Domain, Socket, Type};

use crate::grpc::PeerAddress;
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

/// A listening socket of this reactor.
pub struct Listener {
    inner: TcpListener,
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
        Ok(Listener { inner: sys::listener_from_socket(socket.into()), file: None })
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
        Ok(Listener {
            inner: sys::listener_from_socket(socket.into()),
            file: Some(SocketFile(std::path::absolute(path)?)),
        })
    }

    /// Where it listens, if that is a TCP port; tells which if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr().map_err(io::Error::from)
    }

    /// The next connection whose client is still there. Fails if the system is short of something.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, PeerAddress)> {
        loop {
            let stream = self.inner.accept().await.map_err(io::Error::from)?;
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
}
