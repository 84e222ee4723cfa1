//! Where requests go, and what is asked of who connects: encryption, a token. Small and copied everywhere; what it
//! points to lives as long as the process.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// A server as a client sees it.
#[derive(Clone, Copy)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// How to encrypt; `None` in clear.
    pub tls: Option<&'static Dialer>,
    /// What is shown with every request.
    pub token: Option<&'static str>,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address, tls: None, token: None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Endpoint {
    /// The scheme of its URL.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Connects, and completes the handshake if there is one.
    pub async fn dial(&self) -> io::Result<Wire> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        match self.tls {
            None => Ok(Wire::Clear(socket)),
            Some(dialer) => dialer.encrypt(self.address.ip(), socket).await.map(|tls| Wire::Tls(Box::new(tls))),
        }
    }
}

/// Encrypts connections.
pub struct Dialer(TlsConnector);

impl Dialer {
    /// As `config` says, for the rest of the process's life.
    pub fn leak(config: Arc<ClientConfig>) -> &'static Dialer {
        Box::leak(Box::new(Dialer(TlsConnector::from(config))))
    }

    async fn encrypt(&self, host: IpAddr, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.connect(ServerName::IpAddress(host.into()), socket).await
    }
}

/// A connection.
pub enum Wire {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Clear(socket) => Pin::new(socket).poll_read(cx, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Clear(socket) => Pin::new(socket).poll_write(cx, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Clear(socket) => Pin::new(socket).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Clear(socket) => Pin::new(socket).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
