//! Encrypted connections as clients see them: who is let in, under which name, and that bytes arrive whole. The client is
//! rustls by itself, on blocking sockets.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use plinth_net::grpc::{Call, Method, Service, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::rt;
use plinth_net::server::ServerOptions;
use plinth_net::transport::tls::{
    ClientSettings, Common, Credentials, Revoked, Rules, ServerSettings, Source, Trust, Version, Versions,
};
use plinth_net::transport::{Acceptor, Connector, Target, TlsAcceptor, read_some, write_all};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::Server;

/// Answers with what it was sent, or with who asks.
struct Mirror;

impl Service for Mirror {
    fn methods(&self) -> &'static [Method] {
        &[]
    }

    fn unary(&self, _: usize, _: &Call, _: Bytes, _: UnaryReply) {
        unreachable!("there are no methods")
    }

    fn stream(&self, _: usize, _: &Call, _: StreamReply) -> Box<dyn StreamHandler> {
        unreachable!("there are no methods")
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        let body = match request.path() {
            "/who" => Bytes::from(format!("{:?} {}", reply.peer().common_name, reply.peer().is_encrypted)),
            _ => request.body,
        };
        reply.respond(&Response::with_body(200, "text/plain", body));
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    serial: Vec<u8>,
}

impl Leaf {
    fn credentials(&self) -> Credentials {
        Credentials { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key_of(pair: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(pair.serialize_der()).unwrap()
}

impl Authority {
    fn new() -> Authority {
        let mut params = params("authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            rcgen::KeyUsagePurpose::KeyCertSign,
            rcgen::KeyUsagePurpose::CrlSign,
            rcgen::KeyUsagePurpose::DigitalSignature,
        ];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self, params: CertificateParams) -> Leaf {
        self.leaf_with(params, &KeyPair::generate().unwrap())
    }

    fn leaf_with(&self, mut params: CertificateParams, pair: &KeyPair) -> Leaf {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1000);
        let serial = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes()[2..].to_vec();
        params.serial_number = Some(serial.clone().into());
        let certificate = params.signed_by(pair, &self.0).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key: key_of(pair), serial }
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn trust(&self, rules: Rules) -> Trust {
        Trust { roots: vec![self.root()], rules }
    }

    fn revoke(&self, leaf: &Leaf) -> Vec<u8> {
        let now = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = rcgen::RevokedCertParams {
            serial_number: leaf.serial.clone().into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: now,
            next_update: rcgen::date_time_ymd(2021, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().der().to_vec()
    }
}

type Told = Arc<Mutex<Vec<String>>>;

/// A server and what it says of those who were refused.
fn start(settings: ServerSettings, allows_clear: bool) -> (Server, Told) {
    let settings = Arc::new(settings);
    let told = Told::default();
    let teller = told.clone();
    let tls = TlsAcceptor {
        source: Arc::new(move || Ok(Arc::clone(&settings))),
        allows_clear,
        names_callers: true,
        checks_address: false,
        on_rejected: Arc::new(move |rejected| teller.lock().unwrap().push(rejected.failure.to_string())),
    };
    let mut options = ServerOptions { acceptor: Acceptor::tls(tls), ..ServerOptions::default() };
    options.http.body_bytes_max = 8 << 20;
    (Server::start(options, || Mirror), told)
}

fn common() -> Common {
    Common { protocols: vec!["h2", "http/1.1"], ..Common::default() }
}

/// What a client trusts and shows.
fn client(authority: &Authority, leaf: Option<&Leaf>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key()).unwrap(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn open(server: &Server, config: ClientConfig, host: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// A request and the body of its answer.
fn ask(stream: &mut (impl Read + Write), path: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    // Who is refused may find the connection closed while it writes: why is to be read nevertheless.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    loop {
        let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap();
            if answer.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return Ok(answer.split_off(end + 4));
            }
        }
        let mut some = [0; 70_000];
        match stream.read(&mut some)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&some[..count]),
        }
    }
}

#[test]
fn bytes_arrive_whole_whatever_their_number() {
    let authority = Authority::new();
    let leaf = authority.leaf(params("server", &["localhost"]));
    let settings = ServerSettings::new(&leaf.credentials(), None, &common()).unwrap();
    let (server, told) = start(settings, false);
    let mut stream = open(&server, client(&authority, None), "localhost");
    assert_eq!(ask(&mut stream, "/who", b"").unwrap(), b"None true");
    for length in [0, 1, 16_383, 16_384, 16_385, 70_000, 5 << 20] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        assert!(ask(&mut stream, "/echo", &body).unwrap() == body, "{length} bytes");
        stream.conn.refresh_traffic_keys().unwrap();
    }
    // A record that comes byte by byte.
    write!(stream.conn.writer(), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").unwrap();
    let mut sealed = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut sealed).unwrap();
    }
    for byte in sealed {
        stream.sock.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    stream.write_all(b"ab").unwrap();
    let mut some = [0; 4096];
    let count = stream.read(&mut some).unwrap();
    assert!(some[..count].ends_with(b"ab"));
    assert_eq!(*told.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn who_is_let_in_and_under_which_name() {
    let authority = Authority::new();
    let server_leaf = authority.leaf(params("server", &["localhost", "127.0.0.1"]));
    let alice = authority.leaf(params("alice", &["alice.example"]));
    let revoked = authority.leaf(params("alice", &["alice.example"]));
    let bob = authority.leaf(params("bob", &["bob.example"]));
    let mut for_servers = params("alice", &["alice.example"]);
    for_servers.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let for_servers = authority.leaf(for_servers);
    let mut old = params("alice", &["alice.example"]);
    old.not_after = rcgen::date_time_ymd(2000, 2, 29);
    let old = authority.leaf(old);
    let stranger = Authority::new().leaf(params("alice", &["alice.example"]));
    let trust = authority.trust(Rules { common_names: vec!["alice".into()], hostnames: vec!["ALICE.example".into()] });
    let list = Arc::new(Revoked::read(&authority.revoke(&revoked)).unwrap());
    let settings = ServerSettings::new(&server_leaf.credentials(), Some(&trust), &common()).unwrap().with_revoked(list);
    let (server, told) = start(settings, false);
    let who = |leaf: Option<&Leaf>| {
        ask(&mut open(&server, client(&authority, leaf), "127.0.0.1"), "/who", b"").map_err(|error| error.to_string())
    };
    assert_eq!(who(Some(&alice)).unwrap(), b"Some(\"alice\") true");
    let verify = "tls: failed to verify certificate: x509: ";
    let cases = [
        (None, "CertificateRequired", "tls: client didn't provide a certificate".to_owned()),
        (Some(&bob), "BadCertificate", "client certificate authentication failed".to_owned()),
        (Some(&stranger), "UnknownCA", format!("{verify}certificate signed by unknown authority")),
        (
            Some(&for_servers),
            "UnsupportedCertificate",
            format!("{verify}certificate specifies an incompatible key usage"),
        ),
        (
            Some(&old),
            "CertificateExpired",
            format!("{verify}certificate has expired or is not yet valid: current time "),
        ),
        (Some(&revoked), "", "transport: certificate serial ".to_owned()),
    ];
    for (leaf, alert, words) in cases {
        let error = who(leaf).unwrap_err();
        // An alert is lost if the connection is reset behind it; what the server says is not.
        assert!(error.contains(alert) || error.contains("os error"), "{error} for {words}");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(told) = told.lock().unwrap().pop() {
                assert!(told.starts_with(&words), "{told}, not {words}");
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{words}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn certificates_that_are_trusted_themselves() {
    // As they are made without an authority, and as people pin them: it says to be an authority, and there is no other.
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let mut own = params("own", &["localhost"]);
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = own.self_signed(&pair).unwrap();
    let own = Leaf { chain: vec![own.der().clone()], key: key_of(&pair), serial: Vec::new() };
    let trust = Trust { roots: own.chain.clone(), rules: Rules::default() };
    let old = Versions { min: Version::Tls12, max: Version::Tls12 };
    for versions in [old, Versions::default()] {
        let common = Common { versions, ..common() };
        let settings = ServerSettings::new(&own.credentials(), Some(&trust), &common).unwrap();
        let (server, told) = start(settings, false);
        let dialer = ClientSettings::new(Some(&own.credentials()), Some(&trust), &common).map(Arc::new).unwrap();
        let source: Source<ClientSettings> = Arc::new(move || Ok(Arc::clone(&dialer)));
        let address = server.address;
        rt::block_on(async move {
            let connector = Connector::with_tls(source);
            let target = Target::parse(&format!("https://localhost:{}", address.port()));
            let mut stream = connector.connect(&target, Duration::from_secs(20)).await.unwrap();
            write_all(&mut stream, b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = [0; 4096];
            let count = read_some(&mut stream, &mut answer).await.unwrap();
            assert!(answer[..count].ends_with(b"Some(\"own\") true"));
            // The address is not among its names.
            let target = Target::parse(&format!("https://{address}"));
            let error = connector.connect(&target, Duration::from_secs(20)).await.err().unwrap().to_string();
            assert!(error.contains("doesn't contain any IP SANs"), "{error}");
        });
        drop(server);
        let told = told.lock().unwrap();
        assert!(told.iter().all(|told| told == "remote error: tls: bad certificate"), "{told:?}");
    }
}

#[test]
fn clear_and_encrypted_on_one_port_or_not() {
    let authority = Authority::new();
    let leaf = authority.leaf(params("server", &["localhost"]));
    for allows_clear in [true, false] {
        let settings = ServerSettings::new(&leaf.credentials(), None, &common()).unwrap();
        let (server, told) = start(settings, allows_clear);
        let answer = ask(&mut open(&server, client(&authority, None), "localhost"), "/who", b"").unwrap();
        assert_eq!(answer, b"None true");
        let mut clear = TcpStream::connect(server.address).unwrap();
        clear.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let answer = ask(&mut clear, "/who", b"");
        if allows_clear {
            assert_eq!(answer.unwrap(), b"None false");
        } else {
            assert!(answer.is_err());
            let words = "tls: first record does not look like a TLS handshake";
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while told.lock().unwrap().is_empty() {
                assert!(std::time::Instant::now() < deadline, "nothing was told");
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(*told.lock().unwrap(), [words]);
        }
    }
}

#[test]
fn certificate_and_key_must_belong_together() {
    let authority = Authority::new();
    let (one, other) = (authority.leaf(params("a", &["a"])), authority.leaf(params("b", &["b"])));
    let mixed = Credentials { chain: one.chain.clone(), key: other.key.clone_key() };
    let error = ServerSettings::new(&mixed, None, &common()).unwrap_err();
    assert_eq!(error, "tls: private key does not match public key");
}
