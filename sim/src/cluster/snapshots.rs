//! Snapshots between members: the leader pins a flushed state, the follower fetches it piece by piece and offers it.
//!
//! Pieces are asked for one after the other, and again if an answer does not come, so that a transfer survives lost
//! messages and short partitions. Who serves forgets a snapshot that nobody has asked about for a while.

use super::bugs::Bug;
use super::network::Packet;
use super::node::{at_of, open_store};
use super::options::{MS, SECOND, Time};
use super::world::{Broken, Event, World};
use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::pagefile::{PageFile, PageStore, PageWriter, Pin, SnapshotCursor};
use plinth_engine::store::Store;
use plinth_member::META_CONF_STATE;
use plinth_raft::{ConfState, EntryId, MemberId, PeerBody, PeerMessage, SnapshotMeta};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 40_000;
/// Who fetches asks again after this time.
const ASK_AGAIN: Time = 400 * MS;
/// And gives up after so many times.
const ASKS_MAX: u32 = 20;
/// Who serves gives up when nobody has asked for this time.
const SERVE_MAX: Time = 10 * SECOND;

/// A snapshot that somebody may fetch.
pub struct Served {
    to: MemberId,
    pin: Pin,
    cursor: SnapshotCursor,
    pieces: Vec<(u64, Vec<u8>)>,
    is_whole: bool,
    is_fetched: bool,
    asked_at: Time,
}

/// A snapshot on its way here.
pub struct Fetch {
    message: PeerMessage,
    snapshot: u64,
    file: SimStore,
    piece: usize,
    asks: u32,
    arrived: Option<Store<PageFile<SimStore>>>,
}

fn number_of(message: &PeerMessage) -> u64 {
    let PeerBody::Snapshot(meta) = &message.body else { panic!("a snapshot message") };
    u64::from_le_bytes(meta.context[..].try_into().expect("eight bytes"))
}

impl World {
    /// Pins what a flush has just begun to make durable, for everybody who waits. `stale` is the plan to pin first and
    /// name later what is applied by then.
    pub(super) fn pin_snapshots(&mut self, at: usize) -> Result<(), Broken> {
        let now = self.now;
        let mislabelled = self.bug == Some(Bug::SnapshotMislabelled);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        for to in std::mem::take(&mut process.wanted) {
            let process = self.nodes[at].process.as_mut().expect("it runs");
            let store = process.member.store();
            let conf = store.meta(META_CONF_STATE).map_err(|error| error.to_string())?;
            let conf = ConfState::decode(conf.ok_or("a leader without a configuration")?);
            let conf = conf.map_err(|error| error.to_string())?;
            let id = EntryId { index: store.applied().index, term: store.applied().term };
            if !mislabelled {
                assert!(process.flush.is_none() || process.flush.as_ref().is_some_and(|job| job.applied == id.index));
            }
            let trees = process.member.store_mut().trees_mut();
            let pin = trees.pin();
            let cursor = trees.snapshot_start(&pin).map_err(|error| error.to_string())?;
            self.snapshots += 1;
            let served =
                Served { to, pin, cursor, pieces: Vec::new(), is_whole: false, is_fetched: false, asked_at: now };
            process.served.insert(self.snapshots, served);
            let context = self.snapshots.to_le_bytes().to_vec().into();
            process.member.provide_snapshot(to, SnapshotMeta { id, conf, context });
            let number = self.snapshots;
            self.tell(|| format!("member {at} pins snapshot {number} at {id:?} for {to}"));
        }
        self.plan_pump(at);
        Ok(())
    }

    /// A leader's message about a snapshot arrived: fetch it, unless that one is on its way already.
    pub(super) fn begin_fetch(&mut self, at: usize, message: PeerMessage) {
        let snapshot = number_of(&message);
        let Some(process) = &mut self.nodes[at].process else { return };
        if process.fetch.as_ref().is_some_and(|fetch| fetch.snapshot >= snapshot) {
            return;
        }
        let file = SimStore::new();
        let told = format!("member {at} is to fetch snapshot {snapshot} of term {}", message.term);
        process.fetch = Some(Fetch { message, snapshot, file, piece: 0, asks: 0, arrived: None });
        self.tell(|| told);
        self.ask(at, snapshot, 0);
    }

    /// Asks for the next piece, and plans to ask again.
    pub(super) fn ask(&mut self, at: usize, snapshot: u64, piece: usize) {
        let life = self.nodes[at].life;
        let Some(process) = &mut self.nodes[at].process else { return };
        let Some(fetch) = &mut process.fetch else { return };
        if (fetch.snapshot, fetch.piece) != (snapshot, piece) || fetch.arrived.is_some() {
            return;
        }
        fetch.asks += 1;
        if fetch.asks > ASKS_MAX {
            process.fetch = None;
            self.tell(|| format!("member {at} gives up snapshot {snapshot}"));
            return;
        }
        let leader = at_of(fetch.message.from);
        self.send(at, leader, Packet::Ask { snapshot, piece });
        self.plan(ASK_AGAIN, Event::AskAgain { at, life, snapshot, piece });
    }

    /// Somebody asks for a piece.
    pub(super) fn serve(&mut self, at: usize, from: usize, snapshot: u64, piece: usize) -> Result<(), Broken> {
        let now = self.now;
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        let Some(served) = process.served.get_mut(&snapshot) else {
            self.send(at, from, Packet::NoSnapshot { snapshot });
            return Ok(());
        };
        served.asked_at = now;
        let trees = process.member.store().trees();
        while served.pieces.len() <= piece && !served.is_whole {
            let pieces = &mut served.pieces;
            let mut write = |offset: u64, bytes: &[u8]| pieces.push((offset, bytes.to_vec()));
            let more = trees.snapshot_step(&served.pin, &mut served.cursor, PIECE_BYTES, &mut write);
            served.is_whole = !more.map_err(|error| format!("snapshot: {error}"))?;
        }
        let content = served.pieces.get(piece).cloned();
        if content.is_none() {
            served.is_fetched = true;
            process.member.report_snapshot(served.to, true);
            self.plan_pump(at);
        }
        self.send(at, from, Packet::Piece { snapshot, piece, content });
        Ok(())
    }

    /// Gives up snapshots that nobody wants any more.
    pub(super) fn forget_snapshots(&mut self, at: usize) {
        let now = self.now;
        let Some(process) = &self.nodes[at].process else { return };
        let leads = process.member.is_leader();
        let old: Vec<u64> = process
            .served
            .iter()
            .filter(|(_, served)| served.asked_at + SERVE_MAX < now || !leads)
            .map(|(number, _)| *number)
            .collect();
        for number in old {
            let process = self.nodes[at].process.as_mut().expect("it runs");
            let served = process.served.remove(&number).expect("listed");
            process.member.store_mut().trees_mut().unpin(served.pin);
            let fate = if served.is_fetched { "was fetched" } else { "is given up" };
            let told = format!("member {at}: snapshot {number} {fate}");
            if leads && !served.is_fetched {
                process.member.report_snapshot(served.to, false);
            }
            self.tell(|| told);
        }
    }

    /// A piece arrived.
    pub(super) fn take_piece(
        &mut self,
        at: usize,
        snapshot: u64,
        piece: usize,
        content: Option<(u64, Vec<u8>)>,
    ) -> Result<(), Broken> {
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        let Some(fetch) = &mut process.fetch else { return Ok(()) };
        if (fetch.snapshot, fetch.piece) != (snapshot, piece) || fetch.arrived.is_some() {
            return Ok(());
        }
        let Some((offset, bytes)) = content else {
            fetch.file.sync().map_err(|error| error.to_string())?;
            let store = open_store(std::mem::take(&mut fetch.file), &self.options);
            fetch.arrived = Some(store.map_err(|why| format!("the fetched snapshot does not open: {why}"))?);
            self.tell(|| format!("member {at} has snapshot {snapshot}"));
            self.plan_pump(at);
            return Ok(());
        };
        let end = offset + bytes.len() as u64;
        if fetch.file.len() < end {
            fetch.file.grow(end).map_err(|error| error.to_string())?;
        }
        fetch.file.write_at(offset, &bytes).map_err(|error| error.to_string())?;
        fetch.piece += 1;
        fetch.asks = 0;
        self.ask(at, snapshot, piece + 1);
        Ok(())
    }

    /// The leader does not have it any more.
    pub(super) fn drop_fetch(&mut self, at: usize, snapshot: u64) {
        let Some(process) = &mut self.nodes[at].process else { return };
        if process.fetch.as_ref().is_some_and(|fetch| fetch.snapshot == snapshot && fetch.arrived.is_none()) {
            process.fetch = None;
        }
    }

    /// Offers a snapshot that is here as soon as the member may install it.
    pub(super) fn offer_fetched(&mut self, at: usize) -> Result<(), plinth_member::Fatal> {
        let fails = self.options.crashes_at_install && self.random.chance(20);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        let ready =
            process.fetch.take_if(|fetch| fetch.arrived.is_some() && process.member.may_install(fetch.message.term));
        let Some(Fetch { message, arrived: Some(store), .. }) = ready else { return Ok(()) };
        let at_term = message.term;
        let place = move || if fails { Err(std::io::Error::other("the machine goes down")) } else { Ok(()) };
        let offered = process.member.offer_snapshot(message, store, Box::new(place));
        self.tell(|| format!("member {at} offers its snapshot of term {at_term}"));
        offered
    }
}
