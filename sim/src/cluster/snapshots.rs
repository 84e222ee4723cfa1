//! Snapshots between members: what `plinth_member::transfer` decides, carried out over packets and simulated files.

use super::network::Packet;
use super::node::{Process, at_of, id_of, open_store};
use super::options::{MS, Time};
use super::world::{Broken, Event, World};
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::pagefile::{PageFile, PageStore, PageWriter};
use plinth_engine::store::Store;
use plinth_member::transfer::{Lost, News, Piece, Refused, Step};
use plinth_raft::{EntryId, PeerMessage};

/// Bytes of a piece, about.
pub const PIECE_BYTES: usize = 40_000;
/// An answer that takes longer is lost.
const ANSWER_WITHIN: Time = 400 * MS;

/// The file of a copy.
pub struct Copied {
    number: u64,
    file: SimStore,
    opened: Option<Store<PageFile<SimStore>>>,
}

impl World {
    fn process_and_time(&mut self, at: usize) -> Option<(&mut Process, Millis)> {
        let now = self.nodes[at].clock.read(self.now);
        self.nodes[at].process.as_mut().map(|process| (process, now))
    }

    /// A flush has ended that began after these followers were to get a snapshot.
    pub(super) fn offer_snapshots(&mut self, at: usize) -> Result<(), Broken> {
        let Some((process, _)) = self.process_and_time(at) else { return Ok(()) };
        for to in std::mem::take(&mut process.flushed_for) {
            let (process, now) = self.process_and_time(at).expect("it runs");
            let offered = process.source.offer(&mut process.member, to, now);
            let id = offered.map_err(|error| format!("member {at} cannot make a snapshot: {error}"))?;
            self.tell(|| format!("member {at} pins a snapshot at {id:?} for {to}"));
        }
        self.plan_pump(at);
        Ok(())
    }

    /// Looks after those who copy.
    pub(super) fn look_after_snapshots(&mut self, at: usize) {
        let Some((process, now)) = self.process_and_time(at) else { return };
        for (to, news) in process.source.look_after(&mut process.member, now) {
            self.tell(|| format!("member {at}: snapshot for {to}: {news:?}"));
        }
    }

    /// A leader's message about a snapshot arrived.
    pub(super) fn announced(&mut self, at: usize, message: PeerMessage) -> Result<(), Broken> {
        let Some((process, now)) = self.process_and_time(at) else { return Ok(()) };
        let begun = process.fetch.announced(&process.member, &process.log, message, now).is_some();
        let current = process.fetch.current();
        if begun {
            self.tell(|| format!("member {at} is to fetch {current:?}"));
        }
        self.fetch_on(at)
    }

    /// Somebody asks for a piece, or gives up.
    pub(super) fn serve(&mut self, at: usize, from: usize, asked: (u64, u64), question: &[u8]) -> Result<(), Broken> {
        let Some((process, now)) = self.process_and_time(at) else { return Ok(()) };
        let answer = match process.source.answer(&mut process.member, id_of(from), question, now) {
            Ok((piece, news)) => {
                if news == Some(News::GivenUp) {
                    self.plan_pump(at);
                }
                Some(piece)
            }
            Err(Refused::Data(error)) => return Err(format!("member {at}: snapshot: {error}").into()),
            Err(Refused::Gone | Refused::Malformed) => None,
        };
        self.send(at, from, Packet::Piece { asked, answer });
        Ok(())
    }

    /// An answer arrived, or is given up.
    pub(super) fn take_piece(
        &mut self,
        at: usize,
        (number, page): (u64, u64),
        answer: Result<bytes::Bytes, Lost>,
    ) -> Result<(), Broken> {
        let Some((process, now)) = self.process_and_time(at) else { return Ok(()) };
        process.fetch.answered(number, page, answer, now);
        self.fetch_on(at)
    }

    /// Does what is to be done for the copy under way, as far as that goes without waiting.
    pub(super) fn fetch_on(&mut self, at: usize) -> Result<(), Broken> {
        let life = self.nodes[at].life;
        while let Some((process, now)) = self.process_and_time(at) {
            let may_install = process.flush.is_none();
            let Some(step) = process.fetch.step(&process.member, may_install, now) else { return Ok(()) };
            match step {
                Step::Wait { until } => {
                    let pause = self.nodes[at].clock.really(until.0.saturating_sub(now.0)).max(1);
                    self.plan(pause, Event::Fetch { at, life });
                    return Ok(());
                }
                Step::Ask { number, page, to, question } => {
                    let asked = (number, page);
                    self.send(at, at_of(to), Packet::Ask { asked, question });
                    self.plan(ANSWER_WITHIN, Event::Unanswered { at, life, asked });
                }
                Step::GiveUp { to, question } => self.send(at, at_of(to), Packet::Ask { asked: (0, 0), question }),
                Step::Drop { number, why, .. } => {
                    process.copied.take_if(|copied| copied.number == number);
                    self.tell(|| format!("member {at} drops its copy {number}: {why}"));
                }
                Step::Offer { number, message } => return self.offer_copied(at, number, message),
                step => self.handle_file(at, step, now)?,
            }
        }
        Ok(())
    }

    /// What concerns the file of a copy. Disks that are full take nothing.
    fn handle_file(&mut self, at: usize, step: Step, now: Millis) -> Result<(), Broken> {
        let is_full = self.nodes[at].full_until > self.now;
        let (process, _) = self.process_and_time(at).expect("it runs");
        match step {
            Step::Begin { number, .. } => {
                process.copied = Some(Copied { number, file: SimStore::new(), opened: None });
                process.fetch.written(number, Ok(()), now);
            }
            Step::Write { number, piece, is_last, .. } => {
                let copied = process.copied.as_mut().filter(|copied| copied.number == number);
                let file = &mut copied.ok_or("a piece of a copy without a file")?.file;
                let written = if is_full { Err("no room".to_string()) } else { write(file, piece, is_last) };
                process.fetch.written(number, written, now);
            }
            Step::Open { number } => {
                let copied = process.copied.as_mut().filter(|copied| copied.number == number);
                let copied = copied.ok_or("a copy without a file is opened")?;
                let file = std::mem::take(&mut copied.file);
                let store = open_store(file, &self.options)
                    .map_err(|why| format!("the fetched snapshot does not open: {why}"))?;
                let id = EntryId { index: store.applied().index, term: store.applied().term };
                let (process, _) = self.process_and_time(at).expect("it runs");
                process.copied = Some(Copied { number, file: SimStore::new(), opened: Some(store) });
                process.fetch.opened(number, Ok(id), now);
                self.tell(|| format!("member {at} has copy {number}, of {id:?}"));
            }
            other => return Err(format!("{other:?} is no matter of a file").into()),
        }
        Ok(())
    }

    /// Offers a copy to consensus.
    fn offer_copied(&mut self, at: usize, number: u64, message: PeerMessage) -> Result<(), Broken> {
        let fails = self.options.crashes_at_install && self.random.chance(20);
        let (process, _) = self.process_and_time(at).expect("it runs");
        let copied = process.copied.take_if(|copied| copied.number == number);
        let store = copied.and_then(|copied| copied.opened).ok_or("what is offered was opened")?;
        let index = store.applied().index;
        let term = message.term;
        let place = move || if fails { Err(std::io::Error::other("the machine goes down")) } else { Ok(()) };
        let offered = process.member.offer_snapshot(message, store, Box::new(place));
        self.tell(|| format!("member {at} offers its copy {number} of term {term}"));
        if let Err(fatal) = offered {
            return self.stop(at, &fatal);
        }
        self.pump_once(at)?;
        if let Some((process, _)) = self.process_and_time(at) {
            let is_taken = process.member.store().applied().index >= index;
            process.fetch.offered(number, is_taken);
        }
        Ok(())
    }
}

fn write(file: &mut SimStore, piece: Piece, is_last: bool) -> Result<(), String> {
    for (offset, bytes) in piece {
        let end = offset + bytes.len() as u64;
        if file.len() < end {
            file.grow(end).map_err(|error| error.to_string())?;
        }
        file.write_at(offset, &bytes).map_err(|error| error.to_string())?;
    }
    if is_last { file.sync().map_err(|error| error.to_string()) } else { Ok(()) }
}
