//! Snapshots to and from the other members. What is done when is decided in `plinth_member::transfer`; here are the files, the
//! connections and the tasks of it.
//!
//! Pieces are cut in the background queue and so never hold up requests. A copy lies beside the data file; it is written and
//! opened on other threads. What an interrupted one has left is removed at the next start.

use super::Link;
use super::forward::{Question, read_answer};
use crate::answer::status;
use crate::home::{Home, HomeStore};
use crate::notify::Notify;
use bytes::Bytes;
use futures_lite::FutureExt;
use plinth_engine::pagefile::{FileWriter, PageWriter};
use plinth_member::transfer::{Fetch, FetchError, Lost, News, Piece, Refused, Source, Step};
use plinth_net::grpc::{Code, Status};
use plinth_net::rt::{self, sleep};
use plinth_raft::{EntryId, MemberId, PeerMessage};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes of a piece, more or less: some hundred microseconds of work.
const PIECE_BYTES: usize = 256 << 10;

/// For one piece.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Both sides of snapshots.
pub struct Snapshots {
    source: RefCell<Source>,
    /// Followers for which a state is to be pinned.
    wanted: RefCell<Vec<MemberId>>,
    is_pinning: Cell<bool>,
    fetch: RefCell<Fetch>,
    is_fetching: Cell<bool>,
    /// Another copy has taken the place of the one under way.
    superseded: Notify,
}

impl Default for Snapshots {
    fn default() -> Snapshots {
        Snapshots {
            source: RefCell::new(Source::new(PIECE_BYTES)),
            wanted: RefCell::default(),
            is_pinning: Cell::new(false),
            fetch: RefCell::default(),
            is_fetching: Cell::new(false),
            superseded: Notify::new(),
        }
    }
}

impl Snapshots {
    /// Whether a snapshot of the leader is being copied.
    pub fn is_fetching(&self) -> bool {
        self.is_fetching.get()
    }

    /// The data was replaced by a snapshot from somebody else.
    pub fn data_replaced(&self) {
        self.source.borrow_mut().clear();
    }
}

/// Consensus wants a snapshot for this follower.
pub fn provide(home: &Rc<Home>, link: &Rc<Link>, to: MemberId) {
    link.snapshots.wanted.borrow_mut().push(to);
    if !link.snapshots.is_pinning.replace(true) {
        rt::spawn(pin_for_all(home.clone(), link.clone())).detach();
    }
}

/// Pins states until everybody who waits has one.
async fn pin_for_all(home: Rc<Home>, link: Rc<Link>) {
    loop {
        if link.snapshots.wanted.borrow().is_empty() || home.is_stopping() {
            link.snapshots.is_pinning.set(false);
            return;
        }
        // So that it holds all that was applied until now.
        home.flushed().await;
        for to in link.snapshots.wanted.take() {
            let now = home.reactor.clock.now();
            match link.snapshots.source.borrow_mut().offer(&mut home.state_mut().member, to, now) {
                Ok(id) => tracing::info!(peer = %to, index = id.index, term = id.term, "sending snapshot"),
                Err(error) => tracing::error!(peer = %to, %error, "cannot make a snapshot"),
            }
        }
        home.reactor.pump.notify();
    }
}

/// Answers a question for a piece.
pub fn piece(home: &Home, link: &Link, from: MemberId, question: &[u8]) -> Result<Bytes, Status> {
    let now = home.reactor.clock.now();
    let answer = link.snapshots.source.borrow_mut().answer(&mut home.state_mut().member, from, question, now);
    match answer {
        Ok((piece, news)) => {
            news.into_iter().for_each(|news| tell(home, link, from, news));
            Ok(piece)
        }
        Err(Refused::Malformed) => Err(status::UNKNOWN_QUESTION),
        Err(Refused::Gone) => Err(status::SNAPSHOT_GONE),
        Err(Refused::Data(error)) => Err(Status::new(Code::DataLoss, error.to_string())),
    }
}

/// Looks after those who copy; to be called some times a second.
pub fn look_after(home: &Home, link: &Link) {
    let now = home.reactor.clock.now();
    let news = link.snapshots.source.borrow_mut().look_after(&mut home.state_mut().member, now);
    for (to, news) in news {
        tell(home, link, to, news);
    }
}

fn tell(home: &Home, link: &Link, to: MemberId, news: News) {
    match news {
        News::Sent => {
            link.count(to, |counts| counts.snapshots_sent += 1);
            tracing::info!(peer = %to, "sent snapshot");
        }
        News::ToldAgain => tracing::debug!(peer = %to, "the peer does not copy its snapshot: told it again"),
        News::GivenUp | News::Silent => {
            link.count(to, |counts| counts.snapshots_failed += 1);
            tracing::warn!(peer = %to, ?news, "gave up sending snapshot: the peer has stopped copying it");
        }
    }
    home.reactor.pump.notify();
}

/// The leader has a snapshot for this member.
pub fn announced(home: &Rc<Home>, link: &Rc<Link>, message: PeerMessage) {
    let snapshots = &link.snapshots;
    let from = message.from;
    let begun = {
        let state = home.state();
        snapshots.fetch.borrow_mut().announced(&state.member, &home.reactor.log(), message, home.reactor.clock.now())
    };
    if let Some(bytes) = begun {
        let index = snapshots.fetch.borrow().current().map(|(_, _, index)| index);
        tracing::info!(peer = %from, index, bytes, "receiving snapshot");
        snapshots.superseded.notify();
    }
    if !snapshots.fetch.borrow().is_idle() && !snapshots.is_fetching.replace(true) {
        rt::spawn(fetch(home.clone(), link.clone())).detach();
    }
}

/// The file of a copy.
struct Copied {
    number: u64,
    begun: Instant,
    path: PathBuf,
    writer: FileWriter,
    opened: Option<(HomeStore, FileWriter)>,
}

/// Carries out what is to be done, until there is nothing.
async fn fetch(home: Rc<Home>, link: Rc<Link>) {
    let mut copied = None;
    while !home.is_stopping() {
        let (may_install, now) = (!home.flushes.is_under_way(), home.reactor.clock.now());
        let step = link.snapshots.fetch.borrow_mut().step(&home.state().member, may_install, now);
        let Some(step) = step else { break };
        carry_out(&home, &link, step, &mut copied).await;
    }
    link.snapshots.is_fetching.set(false);
}

async fn carry_out(home: &Rc<Home>, link: &Rc<Link>, step: Step, copied: &mut Option<Copied>) {
    let fetch = &link.snapshots.fetch;
    let of = |number: u64, copied: &mut Option<Copied>| copied.take_if(|copied| copied.number == number);
    match step {
        Step::Begin { number, bytes } => {
            let path = home.data.beside(&format!("fetched-{number:x}"));
            let place = path.clone();
            let created = rt::unblock(move || create(&place, bytes)).await;
            let result = created.map(|file| {
                let writer = FileWriter::new(file);
                *copied = Some(Copied { number, begun: Instant::now(), path, writer, opened: None });
            });
            fetch.borrow_mut().written(number, result.map_err(|error| error.to_string()), home.reactor.clock.now());
        }
        Step::Ask { number, page, to, question } => {
            let answer = ask(link, number, to, question).await;
            if let Some(answer) = answer {
                fetch.borrow_mut().answered(number, page, answer, home.reactor.clock.now());
            }
        }
        Step::Write { number, piece, writes_back, is_last } => {
            let Some(writer) = copied.as_ref().map(|copied| copied.writer.clone()) else { return };
            let result = rt::unblock(move || write(writer, piece, writes_back, is_last)).await;
            fetch.borrow_mut().written(number, result.map_err(|error| error.to_string()), home.reactor.clock.now());
        }
        Step::Open { number } => {
            let Some(copied) = copied else { return };
            let (data, place) = (home.data.clone(), copied.path.clone());
            let opened = rt::unblock(move || data.open(&place)).await.map_err(|error| error.to_string());
            let result = opened.map(|opened| {
                let applied = opened.0.applied();
                copied.opened = Some(opened);
                EntryId { index: applied.index, term: applied.term }
            });
            fetch.borrow_mut().opened(number, result, home.reactor.clock.now());
        }
        Step::Offer { number, message } => {
            let Some(Copied { begun, path, opened: Some((store, writer)), .. }) = of(number, copied) else { return };
            let (from, data, place) = (message.from, home.data.clone(), path.clone());
            // Renaming and syncing a folder block the reactor for a moment; nothing could be served from the old data anyway.
            let place = Box::new(move || data.put_in_place(&place));
            let is_taken = home.install(message, store, writer, place);
            if is_taken {
                tracing::info!(peer = %from, took = ?begun.elapsed(), "installed snapshot");
            } else {
                remove(&path);
            }
            fetch.borrow_mut().offered(number, is_taken);
        }
        Step::Wait { until } => {
            let millis = until.0.saturating_sub(home.reactor.clock.now().0).max(1);
            sleep(Duration::from_millis(millis)).or(link.snapshots.superseded.wait()).await;
        }
        Step::Drop { number, from, index, why } => dropped(of(number, copied), from, index, &why),
        Step::GiveUp { to, question } => {
            let link = link.clone();
            let told = async move { drop(link.ask(to, Question::Piece, question, ANSWER_TIMEOUT).await) };
            rt::spawn(told).detach();
        }
    }
}

fn dropped(copied: Option<Copied>, from: MemberId, index: u64, why: &FetchError) {
    tracing::warn!(peer = %from, index, error = %why, "dropped snapshot");
    if let Some(copied) = copied {
        remove(&copied.path);
    }
}

fn remove(path: &Path) {
    // What stays is removed at the next start.
    let _ = std::fs::remove_file(path);
}

/// Asks for a piece; nothing if another copy has taken the place of this one.
async fn ask(link: &Link, number: u64, to: MemberId, question: Bytes) -> Option<Result<Bytes, Lost>> {
    let snapshots = &link.snapshots;
    let mut asked = pin!(link.ask(to, Question::Piece, question, ANSWER_TIMEOUT));
    loop {
        let answer = async { Some(asked.as_mut().await) };
        let superseded = async {
            snapshots.superseded.wait().await;
            None
        };
        match answer.or(superseded).await {
            Some(Ok(answer)) => {
                return Some(read_answer(answer).map_err(|refusal| Lost::Refused(refusal.message.into_owned())));
            }
            Some(Err(_)) => return Some(Err(Lost::Unanswered)),
            None if snapshots.fetch.borrow().current().is_some_and(|(current, ..)| current == number) => {}
            None => return None,
        }
    }
}

/// An empty file. A disk that has no room for what will be in it says so now.
fn create(path: &Path, bytes: u64) -> io::Result<File> {
    let file = File::options().create(true).truncate(true).write(true).open(path)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1)) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

fn write(mut file: FileWriter, piece: Piece, writes_back: bool, is_last: bool) -> io::Result<()> {
    for (offset, bytes) in piece {
        file.write_at(offset, &bytes)?;
    }
    if is_last {
        return file.sync();
    }
    if writes_back { file.write_back() } else { Ok(()) }
}
