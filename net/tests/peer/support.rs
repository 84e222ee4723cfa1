//! Members that write down what happens to them, and plain sockets that play members.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::peer::wire::{Answer, Hello, Verdict};
use plinth_net::peer::{Answerer, Lane, PeerConfig, PeerHandler, PeerOptions, Peers, Refusal};
use plinth_net::rt;
use plinth_net::server::{ListenOptions, Listener};
use plinth_net::transport::{Acceptor, Connector};
use socket2::{Domain, Socket, Type};

pub const CLUSTER: u64 = 0xc1;

/// A limit that only a hang reaches.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a reactor.
pub fn run<F: Future>(test: F) -> F::Output {
    rt::block_on(test)
}

/// Waits until something is so.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it never happens that {what}");
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// What a handler was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message(u64, Lane, Bytes),
    Unreachable(u64),
    Connected(u64, Lane),
    Disconnected(u64, Lane, String),
    Refused(u64, Refusal),
    Rejected(u64, u64, Refusal),
    InboundLost(u64, Lane, String),
}

/// Writes everything down. Requests of kind 1 are echoed, of kind 2 fail with code 7, of kind 3 are kept, of kind 4
/// are dropped.
#[derive(Default)]
pub struct Recorder {
    pub events: RefCell<Vec<Event>>,
    pub kept: RefCell<Vec<Answerer>>,
    pub verdict: Cell<Option<Refusal>>,
    pub round_trips: Cell<usize>,
}

impl Recorder {
    fn note(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    pub fn count(&self, is_counted: impl Fn(&Event) -> bool) -> usize {
        self.events.borrow().iter().filter(|event| is_counted(event)).count()
    }

    pub fn has(&self, event: &Event) -> bool {
        self.events.borrow().contains(event)
    }

    pub fn messages(&self, from: u64, lane: Lane) -> Vec<Bytes> {
        let of = |event: &Event| match event {
            Event::Message(sender, on, payload) if (*sender, *on) == (from, lane) => Some(payload.clone()),
            _ => None,
        };
        self.events.borrow().iter().filter_map(of).collect()
    }
}

impl PeerHandler for Recorder {
    fn admit(&self, _from: u64, cluster: u64) -> Result<(), Refusal> {
        assert_eq!(cluster, CLUSTER, "the transport checks the cluster");
        self.verdict.get().map_or(Ok(()), Err)
    }

    fn message(&self, from: u64, lane: Lane, payload: Bytes) {
        self.note(Event::Message(from, lane, payload));
    }

    fn request(&self, _from: u64, kind: u16, body: Bytes, answer: Answerer) {
        match kind {
            1 => answer.answer(body),
            2 => answer.fail(7),
            3 => self.kept.borrow_mut().push(answer),
            _ => drop(answer),
        }
    }

    fn unreachable(&self, id: u64) {
        self.note(Event::Unreachable(id));
    }

    fn connected(&self, id: u64, lane: Lane) {
        self.note(Event::Connected(id, lane));
    }

    fn disconnected(&self, id: u64, lane: Lane, why: &str) {
        self.note(Event::Disconnected(id, lane, why.to_owned()));
    }

    fn refused(&self, id: u64, refusal: Refusal) {
        self.note(Event::Refused(id, refusal));
    }

    fn http(&self, request: Http1Request, reply: Http1Reply) {
        reply.respond(&Response::with_body(200, "text/plain", format!("you asked for {}", request.path())));
    }

    fn rejected(&self, from: u64, cluster: u64, refusal: Refusal) {
        self.note(Event::Rejected(from, cluster, refusal));
    }

    fn inbound_lost(&self, from: u64, lane: Lane, why: &str) {
        self.note(Event::InboundLost(from, lane, why.to_owned()));
    }

    fn round_trip(&self, _id: u64, _lane: Lane, _time: Duration) {
        self.round_trips.set(self.round_trips.get() + 1);
    }
}

/// Short pauses; patience with a slow machine.
pub fn options() -> PeerOptions {
    PeerOptions {
        ping_interval: Duration::from_millis(20),
        dead_after: PATIENCE,
        connect_timeout: PATIENCE,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..PeerOptions::default()
    }
}

/// A port at which nobody listens, and which nobody else is given.
pub struct Reserved {
    pub address: SocketAddr,
    _socket: Socket,
}

pub fn reserve() -> Reserved {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Members may listen there nevertheless: their listeners set this too.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    Reserved { address: socket.local_addr().unwrap().as_socket().unwrap(), _socket: socket }
}

pub struct Member {
    pub id: u64,
    pub peers: Rc<Peers>,
    pub log: Rc<Recorder>,
    pub address: SocketAddr,
}

impl Member {
    pub fn new(id: u64) -> Member {
        Member::with(id, CLUSTER, options(), SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn with_options(id: u64, options: PeerOptions) -> Member {
        Member::with(id, CLUSTER, options, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn with(id: u64, cluster: u64, options: PeerOptions, address: SocketAddr) -> Member {
        let log = Rc::new(Recorder::default());
        let config = PeerConfig { cluster, member: id, reads: 0, seed: id, options };
        let peers = Peers::new(config, Connector::clear(), Rc::clone(&log) as _);
        let listener = Listener::bind(address, ListenOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        peers.listen(listener, Acceptor::clear());
        Member { id, peers, log, address }
    }

    pub fn set_peer(&self, other: &Member) {
        self.peers.set_peer(other.id, vec![other.address.to_string()]);
    }

    pub fn send(&self, to: u64, lane: Lane, message: &[u8]) -> bool {
        self.peers.send(to, lane, message, &mut Vec::new())
    }

    pub fn is_connected(&self, id: u64) -> bool {
        Lane::ALL.into_iter().all(|lane| self.peers.open_since(id, lane).is_some())
    }

    pub async fn until_connected(&self, id: u64) {
        until("all lanes are open", || self.is_connected(id)).await;
    }

    pub async fn until_event(&self, event: Event) {
        until(&format!("{event:?}"), || self.log.has(&event)).await;
    }
}

/// Two members that talk to each other.
pub async fn pair() -> (Member, Member) {
    pair_with(options()).await
}

pub async fn pair_with(options: PeerOptions) -> (Member, Member) {
    let (one, two) = (Member::with_options(1, options), Member::with_options(2, options));
    one.set_peer(&two);
    two.set_peer(&one);
    one.until_connected(2).await;
    two.until_connected(1).await;
    (one, two)
}

/// Runs blocking code on a thread, while the reactor goes on.
pub async fn blocking<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    join(what, std::thread::spawn(run)).await
}

pub async fn join<T>(what: &str, thread: JoinHandle<T>) -> T {
    until(what, || thread.is_finished()).await;
    thread.join().unwrap()
}

/// A plain connection to a member.
pub fn dial_raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn hello_raw(stream: &mut TcpStream, hello: Hello) -> Answer {
    stream.write_all(&hello.encode()).unwrap();
    let mut bytes = [0; 28];
    stream.read_exact(&mut bytes).unwrap();
    Answer::decode(&bytes).unwrap().unwrap().0
}

/// Reads until the other side closes, in whichever way.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the other side does not close: {error}"),
        }
    }
}

/// Accepts one connection and lets it in as member `member`.
pub fn accept_raw(listener: &TcpListener, member: u64) -> (TcpStream, Hello) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 44];
    stream.read_exact(&mut bytes).unwrap();
    let hello = Hello::decode(&bytes).unwrap().unwrap().0;
    stream.write_all(&Answer { member, verdict: Verdict::Accepted { version: 1 } }.encode()).unwrap();
    (stream, hello)
}
