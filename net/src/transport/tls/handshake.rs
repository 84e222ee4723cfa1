//! From a connected socket to an encrypted connection with a known other side. Sockets are waited for on the reactor; the
//! arithmetic, and reading of settings, is done by the crew.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::crew;
use super::settings::{ClientSettings, ServerSettings, Source};
use super::stream::{TlsStream, feed, poll_send, with_scratch};
use super::{CertificateFacts, Failure, HANDSHAKE_BYTE};
use crate::transport::{Plain, Transport};
use crate::wait::within;

/// What a side may send until the handshake is complete: certificates of several kilobytes and their chain.
const HANDSHAKE_BYTES_MAX: usize = 64 << 10;
/// How long who is refused may take to read why, and what it may send meanwhile.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
const FAREWELL_BYTES_MAX: usize = 256 << 10;

/// Whom a handshake was with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What the certificate says that the other side has shown and we have verified; none if we did not ask for one.
    pub certificate: Option<CertificateFacts>,
    /// The host that the other side asked for.
    pub server_name: Option<String>,
}

/// A failed handshake, with what was learned of the other side before it failed.
pub(crate) type Refused = (Failure, Identity);

/// A connection on its way through the crew.
struct Step {
    connection: Box<Connection>,
    unread: Vec<u8>,
    outcome: Result<(), Failure>,
}

/// Takes `input` in, on the crew.
async fn step(mut connection: Box<Connection>, input: Vec<u8>) -> io::Result<Step> {
    crew::run(move || {
        let mut rest = input.as_slice();
        let outcome = feed(&mut connection, &mut rest);
        Step { connection, unread: rest.to_vec(), outcome }
    })
    .await
}

/// Accepts on `socket`, from which `first` was read already.
pub(crate) async fn accept(
    socket: Plain,
    first: Vec<u8>,
    source: &Source<ServerSettings>,
    limit: Duration,
) -> Result<(TlsStream, Identity), Refused> {
    let mut identity = Identity::default();
    let accepted = within(limit, accept_unbounded(socket, first, source, &mut identity)).await;
    match accepted.unwrap_or(Err(Failure::TimedOut)) {
        Ok(stream) => Ok((stream, identity)),
        Err(failure) => Err((failure, identity)),
    }
}

async fn accept_unbounded(
    mut socket: Plain,
    mut first: Vec<u8>,
    source: &Source<ServerSettings>,
    identity: &mut Identity,
) -> Result<TlsStream, Failure> {
    if first.is_empty() {
        first = read(&mut socket).await?;
    }
    if first[0] != HANDSHAKE_BYTE {
        return Err(Failure::NotTls);
    }
    let source = Arc::clone(source);
    let made = crew::run(move || {
        let settings = source()?;
        let connection = Box::new(Connection::Server(ServerConnection::new(Arc::clone(&settings.config))?));
        Ok::<_, Failure>((connection, settings))
    });
    let (connection, settings) = made.await??;
    let finished = finish(socket, connection, first, |connection| learn(connection, identity)).await?;
    if let (Some(revoked), Some(chain)) = (&settings.revoked, finished.1.peer_certificates()) {
        revoked.check(chain)?;
    }
    let (socket, connection, unread) = finished;
    Ok(TlsStream::new(socket, connection, unread))
}

/// Dials on a connected `socket` the host called `name`.
pub(crate) async fn connect(
    socket: Plain,
    name: &str,
    source: &Source<ClientSettings>,
    limit: Duration,
) -> Result<TlsStream, Failure> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let without_zone = bare.split('%').next().unwrap_or(bare);
    let server_name = ServerName::try_from(without_zone.to_owned())
        .map_err(|_| Failure::Settings(format!("{name} is no name that a certificate could have")))?;
    let source = Arc::clone(source);
    let dialed = async {
        let made = crew::run(move || {
            let settings = source()?;
            let connection = ClientConnection::new(Arc::clone(&settings.config), server_name)?;
            Ok::<_, Failure>(Box::new(Connection::Client(connection)))
        });
        let connection = made.await??;
        let (socket, connection, unread) = finish(socket, connection, Vec::new(), |_| {}).await?;
        Ok(TlsStream::new(socket, connection, unread))
    };
    within(limit, dialed).await.unwrap_or(Err(Failure::TimedOut))
}

type Finished = (Plain, Box<Connection>, Vec<u8>);

/// Exchanges messages until the handshake is complete. `learned` is called after each step.
async fn finish(
    mut socket: Plain,
    mut connection: Box<Connection>,
    first: Vec<u8>,
    mut learned: impl FnMut(&Connection),
) -> Result<Finished, Failure> {
    let mut received = first.len();
    let mut input = first;
    let mut unread = Vec::new();
    loop {
        let mut outcome = Ok(());
        if !input.is_empty() {
            let done = step(connection, input).await?;
            (connection, unread, outcome) = (done.connection, done.unread, done.outcome);
            learned(&connection);
        }
        // Also what tells the other side why it is refused.
        let sent = poll_fn(|cx| poll_send(&mut socket, &mut connection, cx)).await;
        if let Err(failure) = outcome {
            if sent.is_ok() {
                let _ = within(FAREWELL_TIME, farewell(&mut socket)).await;
            }
            return Err(failure);
        }
        sent?;
        if !connection.is_handshaking() {
            return Ok((socket, connection, unread));
        }
        // Looked at only here: with its last message a client may send as much of its requests as it likes.
        if received > HANDSHAKE_BYTES_MAX {
            return Err(Failure::TooLarge);
        }
        input = read(&mut socket).await?;
        received += input.len();
    }
}

/// Waits until the other side has ended the connection. A client that believes the handshake complete has sent its
/// first request already: a socket that is closed before that was read resets the connection, and the reason that
/// is on its way to the client is lost.
async fn farewell(socket: &mut Plain) -> Result<(), Failure> {
    poll_fn(|cx| socket.poll_close(cx)).await?;
    let mut received = 0;
    while received < FAREWELL_BYTES_MAX {
        received += read(socket).await?.len();
    }
    Ok(())
}

fn learn(connection: &Connection, identity: &mut Identity) {
    if let Connection::Server(server) = connection {
        identity.server_name = server.server_name().map(str::to_owned);
    }
    if identity.certificate.is_none() {
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        identity.certificate = leaf.and_then(|leaf| CertificateFacts::read(leaf));
    }
}

/// What has arrived, at least a byte.
async fn read(socket: &mut Plain) -> Result<Vec<u8>, Failure> {
    let read = poll_fn(|cx| {
        with_scratch(|scratch| {
            let count = socket.poll_read(cx, scratch);
            count.map(|result| result.map(|count| scratch[..count].to_vec()))
        })
    });
    let bytes = read.await?;
    if bytes.is_empty() { Err(Failure::Eof) } else { Ok(bytes) }
}
