//! The server on glommio: listener, one task per connection, graceful shutdown.
//!
//! `serve` runs on one reactor. Several reactors each call it with a listener of their own on the same address
//! (`ListenOptions::reuse_port`), and the kernel spreads connections over them.

mod connection;
mod options;
mod read_buffer;
mod shutdown;
mod transport;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::net::{TcpListener, TcpStream};
use glommio::timer::{Timer, sleep};
use socket2::{Domain, Protocol, Socket, Type};

pub use options::{ListenOptions, ServerOptions};
pub use shutdown::{Phase, Shutdown};
pub use transport::{Plain, Transport};

use crate::grpc::{CallLimits, GrpcConnection, MethodTable, Peer, Service};
use crate::h2::{Config, KeepaliveConfig};
use crate::sys;
use connection::{ConnectionTask, ConnectionTimer, Shared};
use read_buffer::ReadBuffer;

/// How long accepting pauses when the system has no descriptor or memory to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket of this reactor.
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Binds and listens. Must be called on the reactor that will serve.
    pub fn bind(address: SocketAddr, options: ListenOptions) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(options.backlog)?;
        Ok(Listener { inner: sys::listener_from_socket(socket.into()) })
    }

    /// Where it listens; tells the port if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr().map_err(io::Error::from)
    }
}

/// What the connections of a server share.
struct Shelf {
    service: Rc<dyn Service>,
    options: ServerOptions,
    methods: Rc<MethodTable>,
    limits: Rc<CallLimits>,
    read_buffer: Rc<RefCell<ReadBuffer>>,
    shutdown: Shutdown,
}

/// Serves until `shutdown` is given and every connection is closed.
pub async fn serve(listener: Listener, service: Rc<dyn Service>, options: ServerOptions, shutdown: Shutdown) {
    let limits = CallLimits {
        max_recv_message_bytes: options.max_recv_message_bytes,
        max_in_flight_per_reactor: options.max_in_flight_per_reactor,
        overload: options.overload.clone(),
        in_flight_on_reactor: Cell::new(0),
    };
    let shelf = Shelf {
        methods: Rc::new(MethodTable::new(service.methods())),
        service,
        options,
        limits: Rc::new(limits),
        read_buffer: Rc::default(),
        shutdown: shutdown.clone(),
    };
    accept(listener, &shelf).await;
    let subscription = shutdown.subscribe(false);
    let mut timeout = pin!(Timer::new(shelf.options.drain_timeout));
    poll_fn(|cx| {
        if shutdown.phase() < Phase::Closing && timeout.as_mut().poll(cx).is_ready() {
            shutdown.close();
        }
        subscription.poll_no_connections(cx)
    })
    .await;
}

/// Accepts until the shutdown begins.
async fn accept(listener: Listener, shelf: &Shelf) {
    let subscription = shelf.shutdown.subscribe(false);
    loop {
        let accepted = {
            let mut accepting = pin!(listener.inner.accept());
            poll_fn(|cx| match subscription.poll_phase(cx, Phase::Draining) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accepting.as_mut().poll(cx).map(Some),
            })
            .await
        };
        match accepted {
            None => return,
            Some(Ok(stream)) => shelf.start(stream),
            // Either this one connection failed, or the system is short of something; it gets time to recover.
            Some(Err(_)) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

impl Shelf {
    fn start(&self, stream: TcpStream) {
        let Ok(address) = stream.peer_addr() else { return };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let peer = Rc::new(Peer { address, common_name: None });
        let now = Instant::now();
        let keepalive = KeepaliveConfig {
            min_time: self.options.keepalive_min_time,
            interval: self.options.keepalive_interval,
            timeout: self.options.keepalive_timeout,
        };
        let config = Config { max_concurrent_streams: self.options.max_concurrent_streams, keepalive };
        let core = GrpcConnection::new(config, Rc::clone(&self.limits), Rc::clone(&self.methods), peer, now);
        let task = ConnectionTask {
            transport: Plain(stream),
            shared: Rc::new(Shared::new(core)),
            service: Rc::clone(&self.service),
            read_buffer: Rc::clone(&self.read_buffer),
            max_in_flight: self.options.max_in_flight_per_connection,
            shutdown: self.shutdown.clone(),
            subscription: self.shutdown.subscribe(true),
            timer: ConnectionTimer::default(),
            phase: Phase::Running,
            read_ended: false,
        };
        glommio::spawn_local(task).detach();
    }
}
