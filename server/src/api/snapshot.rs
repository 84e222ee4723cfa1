//! `Maintenance.Snapshot`: the state as an etcd database, in pieces of 32 KiB, with its SHA-256 behind it.
//!
//! The state is pinned, so that it does not change while it is planned and written; requests go on meanwhile. The work is
//! done in steps between which everything else has its turn, and waits for a client that reads slowly.

use super::StreamRequest;
use crate::answer::status;
use crate::caller::Caller;
use crate::config::version::CLUSTER_VERSION;
use crate::home::Home;
use bytes::Bytes;
use plinth_api::proto::plinthpb::SnapshotRequest;
use plinth_api::wire::{field_bytes, field_varint};
use plinth_engine::auth::Auth;
use plinth_engine::pagefile::{FileStore, Pin, PinnedView};
use plinth_member::backup::{Content, Export, ExportError, Progress};
use plinth_member::downgrade::cluster_version;
use plinth_net::grpc::{Code, Status, StreamHandler, StreamReply};
use plinth_net::{rt, turn};
use prost::Message as _;
use sha2::{Digest, Sha256};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes of the database in one message, as etcd sends them.
const PIECE_BYTES: usize = 32 << 10;

/// Entries that a step plans: only keys and lengths are looked at.
const PLAN_ENTRIES: usize = 1000;

/// Entries and bytes that a step writes: about a tenth of a millisecond of copying and hashing.
const WRITE_ENTRIES: usize = 500;
const WRITE_BYTES: u64 = 64 << 10;

/// The export waits while this many bytes are queued for the client.
const QUEUE_BYTES: usize = 1 << 20;

/// How long it waits before it looks again.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for the request, which is empty.
pub struct Snapshot {
    home: Rc<Home>,
    caller: Caller,
    reply: StreamReply,
    is_asked: bool,
}

impl Snapshot {
    /// Opens the stream.
    pub fn open(request: StreamRequest) -> Box<dyn StreamHandler> {
        let StreamRequest { home, caller, reply } = request;
        Box::new(Snapshot { home, caller, reply, is_asked: false })
    }
}

impl StreamHandler for Snapshot {
    fn message(&mut self, body: Bytes) {
        if std::mem::replace(&mut self.is_asked, true) {
            return;
        }
        // What cannot be read asks for nothing, as in etcd, whose request has no fields.
        let content = match SnapshotRequest::decode(body).unwrap_or_default() {
            SnapshotRequest { without_v2: true } => Content::WithoutV2,
            SnapshotRequest { without_v2: false } => Content::Whole,
        };
        let (home, caller, reply) = (self.home.clone(), self.caller.clone(), self.reply.clone());
        rt::spawn(async move {
            if let Err(refusal) = may_copy(&home, &caller).await {
                return reply.finish(refusal);
            }
            let result = send(&home, &reply, content).await;
            if let Err(status) = &result {
                tracing::warn!(error = %status.message, "failed to send a snapshot");
            }
            reply.finish(result.err().unwrap_or(Status::OK));
        })
        .detach();
    }

    fn half_close(&mut self) {}

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

/// All of the data is for those who administer.
async fn may_copy(home: &Home, caller: &Caller) -> Result<(), Status> {
    let user = home.identified(caller).await?;
    home.may(user.as_ref(), Auth::may_administer).map(|_| ())
}

/// A pinned state, for as long as the data that it belongs to is the member's.
struct Pinned<'h> {
    home: &'h Rc<Home>,
    pin: Option<Pin>,
    /// Replacements of the data until the pin was made.
    replaced: u64,
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if self.home.data_replacements() == self.replaced
            && let Some(pin) = self.pin.take()
        {
            self.home.state_mut().member.store_mut().trees_mut().unpin(pin);
        }
    }
}

impl<'h> Pinned<'h> {
    /// Pins all that is applied by now.
    async fn new(home: &'h Rc<Home>) -> Self {
        home.flushed().await;
        let pin = home.state_mut().member.store_mut().trees_mut().pin();
        Pinned { home, pin: Some(pin), replaced: home.data_replacements() }
    }

    /// Does a step of work on the pinned state.
    fn step<R>(&self, work: impl FnOnce(&PinnedView<'_, FileStore>) -> Result<R, ExportError>) -> Result<R, Status> {
        if self.home.is_stopping() || self.home.data_replacements() != self.replaced {
            return Err(status::STOPPED);
        }
        let pin = self.pin.as_ref().expect("pinned until it is dropped");
        let state = self.home.state();
        let result = work(&state.member.store().trees().view(pin));
        result.map_err(|error| Status::new(Code::Internal, error.to_string()))
    }
}

async fn send(home: &Rc<Home>, reply: &StreamReply, content: Content) -> Result<(), Status> {
    let start = Instant::now();
    let pinned = Pinned::new(home).await;
    let version = pinned.step(|view| Ok(cluster_version(view, CLUSTER_VERSION)?))?.to_string();
    let mut export = pinned.step(|view| Export::<Vec<u8>>::new(view, &version, content))?;
    while pinned.step(|view| export.plan(view, PLAN_ENTRIES))? == Progress::More {
        turn::pass().await;
    }
    let file_bytes = export.file_bytes().expect("the plan is done");
    tracing::info!(total_bytes = file_bytes, storage_version = %version, "sending database snapshot to client");
    let mut pieces =
        Pieces { reply, version: &version, queued: Vec::new(), hash: Sha256::new(), remaining: file_bytes };
    pinned.step(|_| export.begin(Vec::new()))?;
    loop {
        while reply.queued_bytes() > QUEUE_BYTES && !reply.is_closed() {
            rt::sleep(LOOK).await;
        }
        if reply.is_closed() {
            return Err(status::STOPPED);
        }
        let progress = pinned.step(|view| export.write(view, WRITE_ENTRIES, WRITE_BYTES))?;
        pieces.take(export.sink_mut());
        if progress == Progress::Done {
            break;
        }
        turn::pass().await;
    }
    let mut rest = pinned.step(|_| export.finish())?;
    pieces.take(&mut rest);
    pieces.finish();
    home.reactor.metrics.backend_snapshot.record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    tracing::info!(total_bytes = file_bytes, took = ?start.elapsed(), "successfully sent database snapshot to client");
    Ok(())
}

/// The database on its way to the client.
struct Pieces<'r> {
    reply: &'r StreamReply,
    /// The release whose schema the database has.
    version: &'r str,
    queued: Vec<u8>,
    hash: Sha256,
    /// Bytes of the database that were not sent yet.
    remaining: u64,
}

impl Pieces<'_> {
    /// Sends whole pieces of what was written.
    fn take(&mut self, written: &mut Vec<u8>) {
        self.hash.update(&written[..]);
        self.queued.append(written);
        let whole = self.queued.len() / PIECE_BYTES * PIECE_BYTES;
        let rest = self.queued.split_off(whole);
        for piece in std::mem::replace(&mut self.queued, rest).chunks_exact(PIECE_BYTES) {
            self.send(piece);
        }
    }

    fn send(&mut self, piece: &[u8]) {
        self.remaining = self.remaining.checked_sub(piece.len() as u64).expect("the plan knows the size of the file");
        message(self.reply, self.version, self.remaining, piece);
    }

    fn finish(mut self) {
        let last = std::mem::take(&mut self.queued);
        if !last.is_empty() {
            self.send(&last);
        }
        assert_eq!(self.remaining, 0, "the plan knows the size of the file");
        let hash = std::mem::take(&mut self.hash).finalize();
        message(self.reply, self.version, 0, &hash);
    }
}

/// Sends a `SnapshotResponse`: remaining bytes, a piece, the version of the schema; etcd sets no header.
fn message(reply: &StreamReply, version: &str, remaining: u64, piece: &[u8]) {
    reply.send(|out| {
        field_varint(out, 2, remaining);
        field_bytes(out, 3, piece);
        field_bytes(out, 4, version.as_bytes());
    });
}
