//! A small HTTP/1.1 server: one handler for all requests, over TLS if there are files for it.
//!
//! Bounds: connections, the time that a head may take, the size of a head and of a body. A client that leaves ends what
//! its request was waiting for.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use plinth_net::transport::tls::{
    CertificateFacts, Common, Credentials, Rules, ServerSettings, Trust, read_certificates, read_key,
};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 20_000;

/// How long a handshake, and the head of a request, may take.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 8 << 20;

/// Pause after the system had no more sockets to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Whoever sends a request.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// What its certificate says, if it had to show one.
    pub certificate: Option<Arc<CertificateFacts>>,
}

/// An answer: a status and a text of a kind.
pub type Answer = Response<Full<Bytes>>;

/// An answer with a body of this type.
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// The body of a request.
///
/// # Errors
/// In words for the client, if it is too large or breaks off.
pub async fn body(request: Request<Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

/// Binds a listener as Go does: `:80` is every interface.
///
/// # Errors
/// If that cannot be had.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listen tcp {address}: {error}"));
    let Some(port) = address.strip_prefix(':') else {
        return TcpListener::bind(address).await.map_err(named);
    };
    match TcpListener::bind(format!("[::]:{port}")).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(format!("0.0.0.0:{port}")).await.map_err(named)
        }
        bound => bound.map_err(named),
    }
}

/// Serves until the process ends.
pub async fn serve<H, F>(listener: TcpListener, encryption: Option<Encryption>, handler: H)
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let encryption = encryption.map(Arc::new);
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                crate::warn!("a connection cannot be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (handler, encryption) = (handler.clone(), encryption.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(socket, address, encryption, handler).await {
                crate::debug!("connection of {address}: {error}");
            }
            drop(place);
        });
    }
}

async fn connection<H, F>(
    socket: TcpStream,
    address: SocketAddr,
    encryption: Option<Arc<Encryption>>,
    handler: H,
) -> Result<(), String>
where
    H: Fn(Request<Incoming>, Peer) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut peer = Peer { address: address.ip().to_canonical(), certificate: None };
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES_MAX);
    let Some(encryption) = encryption else {
        let service = service_fn(move |request| answered(handler(request, peer.clone())));
        return server.serve_connection(TokioIo::new(socket), service).await.map_err(|error| error.to_string());
    };
    let stream = encryption.accept(socket).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    peer.certificate = shown.and_then(|leaf| CertificateFacts::read(leaf)).map(Arc::new);
    let service = service_fn(move |request| answered(handler(request, peer.clone())));
    server.serve_connection(TokioIo::new(stream), service).await.map_err(|error| error.to_string())
}

async fn answered(answer: impl Future<Output = Answer>) -> Result<Answer, std::convert::Infallible> {
    Ok(answer.await)
}

/// Certificate, key and authorities of clients, as their files are now.
#[derive(Debug)]
pub struct Encryption {
    cert: String,
    key: String,
    /// Clients must show a certificate of one of these.
    client_ca: Option<String>,
    common: Common,
    present: Mutex<Option<(Vec<SystemTime>, Arc<ServerConfig>)>>,
}

impl Encryption {
    /// Reads the files.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn new(cert: String, key: String, client_ca: Option<String>) -> Result<Encryption, String> {
        let common = Common { protocols: vec!["http/1.1"], ..Common::default() };
        Encryption::with(cert, key, client_ca, common)
    }

    /// The same for other protocols, versions and suites.
    ///
    /// # Errors
    /// If the files cannot be used.
    pub fn with(cert: String, key: String, client_ca: Option<String>, common: Common) -> Result<Encryption, String> {
        let encryption = Encryption { cert, key, client_ca, common, present: Mutex::new(None) };
        encryption.present()?;
        Ok(encryption)
    }

    /// Does the handshake of a connection, within a limit.
    ///
    /// # Errors
    /// In words for the log.
    pub async fn accept(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let acceptor = TlsAcceptor::from(self.present()?);
        match tokio::time::timeout(HEAD_TIME, acceptor.accept(socket)).await {
            Ok(stream) => stream.map_err(|error| error.to_string()),
            Err(_) => Err("no handshake in time".to_owned()),
        }
    }

    /// What the files say. They are read again when one of them has changed; while they cannot be used, what was read
    /// before counts.
    fn present(&self) -> Result<Arc<ServerConfig>, String> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let written = |file: &String| std::fs::metadata(file).and_then(|facts| facts.modified());
        let times: io::Result<Vec<SystemTime>> = files.into_iter().flatten().map(written).collect();
        let times = times.unwrap_or_default();
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, config)) = &*present
            && (*read == times || times.is_empty())
        {
            return Ok(Arc::clone(config));
        }
        match (self.read(), &mut *present) {
            (Ok(config), present) => {
                *present = Some((times, Arc::clone(&config)));
                Ok(config)
            }
            (Err(error), Some((read, config))) => {
                crate::error!("the certificate of before is shown: {error}");
                *read = times;
                Ok(Arc::clone(config))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn read(&self) -> Result<Arc<ServerConfig>, String> {
        let read = |file: &String| std::fs::read(file).map_err(|error| format!("{file}: {error}"));
        let chain = read_certificates(&read(&self.cert)?)?;
        let credentials = Credentials { chain, key: read_key(&read(&self.key)?)? };
        let trust = match &self.client_ca {
            None => None,
            Some(file) => Some(Trust { roots: read_certificates(&read(file)?)?, rules: Rules::default() }),
        };
        Ok(ServerSettings::new(&credentials, trust.as_ref(), &self.common)?.config())
    }
}
