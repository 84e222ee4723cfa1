//! Clients of the v2 store: its commands go through the same log, and take effect once, in order, on every member alike.
//!
//! Where a store is compared with another, its trees are among what is compared. Here it is seen to that an answer is newer
//! than all that was acknowledged before the question, and that what a member has in memory is what it has stored.

use super::clients::{Answer, Ask, Call, Caller};
use super::options::{MS, Time};
use super::world::{Event, World};
use plinth_engine::store::Store;
use plinth_engine::trees::{TreeId, Trees};
use plinth_v2::command::Content;
use plinth_v2::{Change, Tree, V2Command};
use std::ops::ControlFlow;

/// Time between two commands, on average.
const EVERY: Time = 40 * MS;

/// A second in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// Whether what a member holds in memory is what it has stored.
pub(super) fn check_v2<T: Trees>(store: &Store<T>) -> Result<(), String> {
    let mut tree = Tree::default();
    let mut bad = None;
    for (place, events) in [(TreeId::V2, false), (TreeId::V2Events, true)] {
        let scanned = store.trees().scan(place, b"", &mut |key, value| {
            let loaded = if events { tree.load_event(key, value) } else { tree.load_node(key, value) };
            bad = bad.take().or(loaded.err());
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| error.to_string())?;
    }
    bad.map_or(tree.check(), Err).map_err(|damaged| format!("the v2 store: {damaged}"))?;
    let same = tree.nodes().eq(store.v2().nodes()) && tree.history().from(0).eq(store.v2().history().from(0));
    if same && tree.index() == store.v2().index() {
        Ok(())
    } else {
        Err("the v2 store in memory is not the stored one".into())
    }
}

impl World {
    /// A turn of the clients of the v2 store.
    pub(super) fn change_v2(&mut self) {
        if self.in_storm {
            let command = self.draw_v2();
            let at = self.random.below(self.nodes.len() as u64) as usize;
            self.call(Caller::V2, at, Ask::V2(command));
        }
        let pause = 1 + self.random.below(2 * EVERY);
        self.plan(pause, Event::V2);
    }

    fn draw_v2(&mut self) -> V2Command {
        // The time of the world is that of its leaders; it only has to grow.
        let at = SECOND * 1_800_000_000 + 1000 * self.now.cast_signed();
        let names = ["/1/a", "/1/a/b", "/1/a/b/c", "/1/d", "/1/d/e"];
        let path = names[self.random.below(5) as usize].as_bytes().into();
        let ttl = self.random.below(4).cast_signed() * SECOND;
        let content = Content {
            value: self.last_call.to_string().into(),
            expires: if self.random.chance(30) { at + ttl } else { 0 },
            refresh: false,
        };
        let change = match self.random.below(10) {
            0..4 => Change::Set { path, dir: false, content },
            4 => Change::Set { path, dir: true, content },
            5 => Change::Create { path, dir: false, in_order: true, content },
            6 => Change::Update { path, content },
            7 => Change::CompareAndSwap { path, prev_value: Default::default(), prev_index: self.last_v2, content },
            8 => Change::Delete { path, dir: true, recursive: true },
            _ => Change::Sync,
        };
        V2Command { at, shown_at: at, brief: false, change }
    }

    /// What a client of the v2 store is answered.
    pub(super) fn v2_answered(&mut self, call: &Call, answer: &Answer) -> Result<(), String> {
        let Answer::Done(_, body) = answer else { return Ok(()) };
        let Some(answer) = plinth_v2::Answer::decode(body) else { return Ok(()) };
        let grows = !matches!(&call.ask, Ask::V2(command) if command.change == Change::Sync);
        let took_effect = u64::from(grows && answer.status < 300);
        if answer.index < call.floor.cast_unsigned() + took_effect {
            return Err(format!("{:?} is answered at index {}, behind {}", call.ask, answer.index, call.floor));
        }
        self.last_v2 = self.last_v2.max(answer.index);
        self.outcome.acknowledged += 1;
        Ok(())
    }
}
