//! The follower's side of a snapshot: copies the leader's pinned state into a file beside its own, and puts it in the
//! place of its own when consensus takes it.
//!
//! The copy goes on after interruptions of the connection; when the leader has given it up or is no leader any more,
//! it is dropped, and the next announcement begins a new one. Files are written and opened on other threads.

use super::Link;
use super::forward::{Question, read_answer};
use super::snapshot_source::{GIVE_UP, read_context};
use crate::answer::status;
use crate::home::{Home, HomeStore};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_engine::pagefile::{FileWriter, PageWriter};
use plinth_net::rt::{self, sleep};
use plinth_raft::{MemberId, PeerBody, PeerMessage, SnapshotMeta};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// For one piece.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Without any piece for this long the copy is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// Pause before a question is repeated.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes written before it is waited until they are on the device, which the log's writes share.
const WRITE_BACK_BYTES: usize = 1 << 20;

/// How long consensus may take to become ready for the snapshot.
const OFFER_TIMEOUT: Duration = Duration::from_secs(20);

/// A copy that is under way.
pub struct Fetching {
    from: MemberId,
    id: u64,
    is_cancelled: Cell<bool>,
}

/// Why a copy was dropped.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("a newer snapshot was announced")]
    Superseded,
    #[error("the leader says: {0}")]
    Refused(String),
    #[error("the leader does not answer")]
    Silent,
    #[error("a piece is malformed")]
    Malformed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the copy cannot be opened: {0}")]
    Open(String),
    #[error("the copy is of entry {found}, but entry {announced} was announced")]
    Wrong { announced: u64, found: u64 },
    #[error("consensus did not become ready for it")]
    NotReady,
}

/// The leader has a snapshot for this member.
pub fn announced(home: &Rc<Home>, link: &Rc<Link>, message: PeerMessage) {
    let PeerBody::Snapshot(meta) = &message.body else { return };
    let Some((id, bytes)) = read_context(&meta.context) else { return };
    let (term, commit) = {
        let state = home.state();
        (state.member.group().term(), state.member.group().commit())
    };
    if message.term < term {
        return;
    }
    let from = message.from;
    if meta.id.index <= commit {
        rt::spawn(give_up(link.clone(), from, id)).detach();
        return;
    }
    let fetching = Rc::new(Fetching { from, id, is_cancelled: Cell::new(false) });
    let before = link.fetching.borrow().clone();
    if let Some(before) = before {
        if before.from == from && before.id == id {
            return;
        }
        before.is_cancelled.set(true);
    }
    *link.fetching.borrow_mut() = Some(fetching.clone());
    tracing::info!(peer = %from, index = meta.id.index, bytes, "receiving snapshot");
    rt::spawn(run(home.clone(), link.clone(), message, fetching)).detach();
}

async fn give_up(link: Rc<Link>, from: MemberId, id: u64) {
    // If it does not arrive, the leader gives up by itself.
    let _ = link.ask(from, Question::Piece, question(id, GIVE_UP), ANSWER_TIMEOUT).await;
}

async fn run(home: Rc<Home>, link: Rc<Link>, message: PeerMessage, fetching: Rc<Fetching>) {
    let PeerBody::Snapshot(meta) = message.body.clone() else { return };
    let start = Instant::now();
    let path = home.data.beside(&format!("fetched-{:x}", fetching.id));
    let result = fetch_and_install(&home, &link, message, &meta, &fetching, &path).await;
    let index = meta.id.index;
    match result {
        Ok(()) => tracing::info!(peer = %fetching.from, index, took = ?start.elapsed(), "installed snapshot"),
        Err(error) => {
            tracing::warn!(peer = %fetching.from, index, %error, "dropped snapshot");
            let _ = std::fs::remove_file(&path);
            if !fetching.is_cancelled.get() {
                give_up(link.clone(), fetching.from, fetching.id).await;
            }
        }
    }
    let mut current = link.fetching.borrow_mut();
    if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, &fetching)) {
        *current = None;
    }
}

async fn fetch_and_install(
    home: &Rc<Home>,
    link: &Link,
    message: PeerMessage,
    meta: &SnapshotMeta,
    fetching: &Fetching,
    path: &Path,
) -> Result<(), FetchError> {
    copy(home, link, fetching, path).await?;
    let (data, place) = (home.data.clone(), path.to_owned());
    let opened = rt::unblock(move || data.open(&place)).await;
    let (store, writer) = opened.map_err(|error| FetchError::Open(error.to_string()))?;
    if store.applied().index != meta.id.index || store.applied().term != meta.id.term {
        return Err(FetchError::Wrong { announced: meta.id.index, found: store.applied().index });
    }
    offer(home, message, fetching, path, store, writer).await
}

/// Copies all pieces into the file and makes it durable.
async fn copy(home: &Rc<Home>, link: &Link, fetching: &Fetching, path: &Path) -> Result<(), FetchError> {
    let place = path.to_owned();
    let writer = FileWriter::new(rt::unblock(move || create(&place)).await?);
    let (mut page, mut unwritten) = (0, 0);
    loop {
        let start = Instant::now();
        let mut piece = next_piece(home, link, fetching, page).await?;
        if piece.len() < 13 {
            return Err(FetchError::Malformed);
        }
        page = piece.get_u64_le();
        let is_last = piece.get_u8() == 1;
        let pace = u64::from(piece.get_u32_le());
        let bytes = piece.len();
        unwritten += bytes;
        let writes_back = unwritten >= WRITE_BACK_BYTES;
        let target = writer.clone();
        rt::unblock(move || write(target, piece, writes_back)).await?;
        if is_last {
            break;
        }
        unwritten = if writes_back { 0 } else { unwritten };
        if let Some(micros) = (bytes as u64 * 1_000_000).checked_div(pace << 10) {
            sleep(Duration::from_micros(micros).saturating_sub(start.elapsed())).await;
        }
    }
    let mut writer = writer;
    Ok(rt::unblock(move || writer.sync()).await?)
}

async fn next_piece(home: &Home, link: &Link, fetching: &Fetching, page: u64) -> Result<Bytes, FetchError> {
    let deadline = Instant::now() + SILENCE;
    loop {
        if fetching.is_cancelled.get() || home.is_stopping() {
            return Err(FetchError::Superseded);
        }
        let asked = link.ask(fetching.from, Question::Piece, question(fetching.id, page), ANSWER_TIMEOUT).await;
        match asked.map(read_answer) {
            Ok(Ok(piece)) => return Ok(piece),
            Ok(Err(refusal)) => return Err(FetchError::Refused(refusal.message.into_owned())),
            Err(_) if Instant::now() >= deadline => return Err(FetchError::Silent),
            Err(_) => sleep(RETRY).await,
        }
    }
}

fn question(id: u64, page: u64) -> Bytes {
    let mut question = BytesMut::with_capacity(16);
    question.put_u64_le(id);
    question.put_u64_le(page);
    question.freeze()
}

fn create(path: &PathBuf) -> io::Result<File> {
    File::options().create(true).truncate(true).write(true).open(path)
}

fn write(mut file: FileWriter, mut piece: Bytes, writes_back: bool) -> Result<(), FetchError> {
    while piece.has_remaining() {
        if piece.remaining() < 12 {
            return Err(FetchError::Malformed);
        }
        let offset = piece.get_u64_le();
        let length = piece.get_u32_le() as usize;
        if piece.remaining() < length {
            return Err(FetchError::Malformed);
        }
        file.write_at(offset, &piece.split_to(length))?;
    }
    if writes_back {
        file.write_back()?;
    }
    Ok(())
}

/// Waits until consensus can take the snapshot, and hands it over.
async fn offer(
    home: &Rc<Home>,
    message: PeerMessage,
    fetching: &Fetching,
    path: &Path,
    store: HomeStore,
    writer: FileWriter,
) -> Result<(), FetchError> {
    let deadline = Instant::now() + OFFER_TIMEOUT;
    while home.flushes.is_under_way() || !home.state().member.may_install(message.term) {
        if fetching.is_cancelled.get() || home.is_stopping() {
            return Err(FetchError::Superseded);
        }
        if Instant::now() >= deadline {
            return Err(FetchError::NotReady);
        }
        sleep(Duration::from_millis(5)).await;
    }
    let (data, from) = (home.data.clone(), path.to_owned());
    // Renaming and syncing a folder block the reactor for a moment; nothing could be served from the old data anyway.
    let place = Box::new(move || data.put_in_place(&from));
    match home.install(message, store, writer, place) {
        true => Ok(()),
        false => Err(FetchError::Refused(status::SNAPSHOT_GONE.message.into_owned())),
    }
}
