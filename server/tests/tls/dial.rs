//! Clients of a server that speaks TLS: gRPC over HTTP/2, and HTTP of either version.

use super::authority::{Authority, Pair};
use super::common::client::Client;
use super::common::{PATIENCE, Port};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Endpoint;

/// What a client trusts and shows.
pub struct Dialer {
    config: ClientConfig,
}

impl Dialer {
    /// Trusts `authority`, and shows `pair` if it is asked.
    pub fn new(authority: &Authority, pair: Option<&Pair>) -> Dialer {
        Dialer::trusting(CertificateDer::from_pem_file(&authority.file).expect("a certificate"), pair, true)
    }

    /// As [`Dialer::new`], of the older version.
    pub fn old(authority: &Authority, pair: Option<&Pair>) -> Dialer {
        Dialer::trusting(CertificateDer::from_pem_file(&authority.file).expect("a certificate"), pair, false)
    }

    fn trusting(root: CertificateDer<'static>, pair: Option<&Pair>, new: bool) -> Dialer {
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = if new { [&TLS13] } else { [&TLS12] };
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions).expect("a version");
        let builder = builder.with_root_certificates(roots);
        let config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_file(&pair.cert).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        Dialer { config }
    }

    fn with_protocol(&self, protocol: &str) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }

    /// A request by HTTP/1.1; the whole answer, or why there is none.
    pub fn get(&self, port: &Port, target: &str) -> Result<String, String> {
        self.get_after(Duration::ZERO, port, target)
    }

    /// As [`Dialer::get`], by a client that takes its time between the handshake and its request.
    pub fn get_after(&self, pause: Duration, port: &Port, target: &str) -> Result<String, String> {
        self.ask(pause, port, &format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    /// As [`Dialer::get`], with fields of the head (each with its end of line) and a body.
    pub fn post(&self, port: &Port, target: &str, fields: &str, body: &str) -> Result<String, String> {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n");
        self.ask(Duration::ZERO, port, &format!("{head}{fields}\r\n{body}"))
    }

    fn ask(&self, pause: Duration, port: &Port, request: &str) -> Result<String, String> {
        let text = |error: std::io::Error| error.to_string();
        let socket = TcpStream::connect(port.address()).map_err(text)?;
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(self.with_protocol("http/1.1"), name).expect("a connection");
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(text)?;
        }
        std::thread::sleep(pause);
        stream.write_all(request.as_bytes()).map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(text)?;
        Ok(answer)
    }

    /// A client of the API.
    pub async fn client(&self, port: &Port) -> Result<Client, String> {
        let connector = tokio_rustls::TlsConnector::from(self.with_protocol("h2"));
        let address = port.address();
        let dial = tower::service_fn(move |_| {
            let (connector, address) = (connector.clone(), address.clone());
            async move {
                let socket = tokio::net::TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").expect("a name");
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, socket).await?))
            }
        });
        let endpoint = Endpoint::from_static("https://localhost").connect_timeout(PATIENCE);
        let channel = endpoint.connect_with_connector(dial).await;
        channel.map(Client::over).map_err(|error| format!("{error:?}"))
    }
}
