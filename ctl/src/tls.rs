//! Connections that are encrypted: which endpoints ask for it, whom we trust, and what we show.

use crate::failure::Failure;
use hyper_util::rt::TokioIo;
use plinth_net::transport::tls::{
    self, ClientSettings, Common, Credentials, Rules, Trust, read_certificates, read_key, system_roots,
};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};
use tonic::transport::{Channel, Endpoint};

/// What the flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// Authorities to trust, instead of the system's.
    pub cacert: Option<String>,
    /// Certificate to show.
    pub cert: Option<String>,
    pub key: Option<String>,
    /// Trust anybody.
    pub skip_verify: bool,
    /// Encrypt where an endpoint does not say whether to.
    pub is_wanted: bool,
    /// The name that servers have to prove, instead of that of their endpoint.
    pub server_name: Option<String>,
}

impl Encryption {
    /// Reads what the flags name, and makes of it what connections need.
    pub fn settings(&self) -> Result<Arc<ClientConfig>, Failure> {
        self.settings_for("h2")
    }

    /// The same for another protocol.
    pub fn settings_for(&self, protocol: &'static str) -> Result<Arc<ClientConfig>, Failure> {
        let file = |file: &Option<String>| file.clone().unwrap_or_default();
        let credentials = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let chain = read_certificates(&read(cert)?).map_err(Failure::arguments)?;
                Some(Credentials { chain, key: read_key(&read(key)?).map_err(Failure::arguments)? })
            }
            (cert, key) => {
                let text =
                    format!("KeyFile and CertFile must both be present[key: {}, cert: {}]", file(key), file(cert));
                return Err(Failure::arguments(text));
            }
        };
        let roots = match &self.cacert {
            Some(file) => read_certificates(&read(file)?).map_err(Failure::arguments)?,
            None if self.skip_verify => Vec::new(),
            None => system_roots().map_err(Failure::arguments)?,
        };
        let trust = Trust { roots, rules: Rules::default() };
        let trust = Some(&trust).filter(|_| !self.skip_verify);
        let common = Common { protocols: vec![protocol], ..Common::default() };
        let settings = ClientSettings::new(credentials.as_ref(), trust, &common);
        settings.map(|settings| settings.config()).map_err(Failure::arguments)
    }
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let reason = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    std::fs::read(file).map_err(|error| Failure::arguments(format!("open {file}: {}", reason(error))))
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `host:port`
    Tcp(String),
    /// The path of a socket.
    Unix(String),
}

impl Place {
    /// The name that the server there has to prove, unless it is another one.
    fn server_name(&self, other: Option<&str>) -> io::Result<ServerName<'static>> {
        let host = match self {
            Place::Tcp(address) => address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host),
            Place::Unix(_) => "localhost",
        };
        // Names out of DNS end with a dot.
        let host = other.unwrap_or(host).trim_end_matches('.');
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no name of a server"));
        ServerName::try_from(host.to_owned()).map_err(invalid)
    }

    /// What requests are addressed to.
    pub fn authority(&self) -> &str {
        match self {
            Place::Tcp(address) => address,
            Place::Unix(_) => "localhost",
        }
    }
}

/// A connected socket of either kind.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Opens an encrypted channel to `place`, as `endpoint` says, to a server that proves its name or `name`.
pub async fn connect(
    endpoint: Endpoint,
    place: Place,
    settings: Arc<ClientConfig>,
    name: Option<String>,
) -> Result<Channel, tonic::transport::Error> {
    let dial = tower::service_fn(move |_| {
        let (settings, place, name) = (settings.clone(), place.clone(), name.clone());
        async move { socket(&place, Some(settings), name.as_deref()).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(dial).await
}

/// Connects, and encrypts if there are settings for it.
pub async fn socket(
    place: &Place,
    settings: Option<Arc<ClientConfig>>,
    name: Option<&str>,
) -> io::Result<Box<dyn Socket>> {
    let name = place.server_name(name)?;
    let socket: Box<dyn Socket> = match place {
        Place::Tcp(address) => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Box::new(socket)
        }
        Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    match settings {
        None => Ok(socket),
        Some(settings) => Ok(Box::new(TlsConnector::from(settings).connect(name, socket).await.map_err(in_words)?)),
    }
}

/// An error of the handshake in the words of Go's library.
fn in_words(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => {
            let words = tls::Failure::from(inner.clone());
            io::Error::new(error.kind(), format!("authentication handshake failed: {words}"))
        }
        None => error,
    }
}
