//! The order of one round: what a member does between two times that it waits, and in which order what comes of it is
//! handed to the outside.
//!
//! ```text
//! the log gets its next work - messages leave - apply, bounded - leadership - a snapshot's arrival - answers -
//! messages again - snapshots to pin - events - background - the list of members - removal
//! ```
//!
//! Why so: the disk and the followers work while this member applies. Leadership comes before answers, so that an answer
//! names its term. Events come after answers, since there may be many watchers, and a gap in them is closed when all that
//! was collected is published. The background is woken by what waits in the state, not by who asked for it: a follower that
//! nobody talks to compacts as well. Removal comes last: it may end the process.
//!
//! The server's home and the simulator's machines both drive members by [`run`]; what differs between them is [`Outside`].

use crate::handover;
use crate::history;
use crate::log::Log;
use crate::member::{Applied, Changed, Effects, Fatal, Lost, Member, Pumped};
use crate::planted::{Planted, is_planted};
use crate::stall::Asked;
use plinth_engine::lease::Millis;
use plinth_engine::trees::Trees;
use plinth_engine::watch::{EventBatch, EventMode, Hub};
use plinth_raft::{MemberId, PeerMessage, RoleChange, SnapshotMeta};
use plinth_wal::Disk;

/// What surrounds a member. Each call takes all there is of its kind, and may look at the member, but not begin a round.
pub trait Outside {
    /// The log's disk.
    type Disk: Disk;
    /// The data.
    type Trees: Trees;
    /// Who waits.
    type Waiter;
    /// Why a round ended before its time.
    type Stop: From<Fatal>;

    /// Lends member and watchers. Neither may be borrowed when this is called.
    fn with<R>(&mut self, act: impl FnOnce(&mut Member<Self::Trees, Self::Waiter>, &mut Hub) -> R) -> R;

    /// Lends member and log. Neither may be borrowed when this is called.
    fn with_log<R>(&mut self, act: impl FnOnce(&mut Member<Self::Trees, Self::Waiter>, &mut Log<Self::Disk>) -> R)
    -> R;

    /// Now.
    fn now(&mut self) -> Millis;

    /// What is collected of the entries, if watchers want this much.
    fn event_mode(&mut self, watched: EventMode) -> EventMode {
        watched
    }

    /// What is asked of the data file's disk.
    fn data_asked(&mut self) -> Asked {
        Asked::default()
    }

    /// The log has its work; what follows is sent and applied.
    fn advanced(&mut self) {}

    /// Whether applying has to wait for the data file. When that has ended, begin another round.
    fn must_wait(&mut self) -> bool {
        false
    }

    /// Commands were applied, and are not answered yet: takes [`Effects::unasked`], [`Effects::granted`] and
    /// [`Effects::sign_ins`].
    fn applied(&mut self, effects: &mut Effects<Self::Waiter>) -> Result<(), Self::Stop>;

    /// Leadership has changed.
    fn role_changed(&mut self, change: RoleChange) -> Result<(), Self::Stop>;

    /// A snapshot took the place of the data; watchers read on in it.
    fn installed(&mut self, meta: SnapshotMeta) -> Result<(), Self::Stop>;

    /// Answers whose commands were applied.
    fn answer(&mut self, applied: &mut Vec<Applied<Self::Waiter>>) -> Result<(), Self::Stop>;

    /// Reads for those whose moment has come.
    fn read(&mut self, reads: &mut Vec<Self::Waiter>) -> Result<(), Self::Stop>;

    /// Tells those who get no outcome.
    fn lose(&mut self, lost: &mut Vec<(Self::Waiter, Lost)>);

    /// Tells those whose change of the configuration was applied or declined.
    fn changed(&mut self, changed: &mut Vec<Changed<Self::Waiter>>);

    /// Sends messages, or as many as there is room for: consensus copes with the loss of any.
    fn send(&mut self, messages: &mut Vec<PeerMessage>);

    /// Pins a snapshot for a follower, now or soon.
    fn provide_snapshot(&mut self, to: MemberId);

    /// These events were published to the hub.
    fn published(&mut self, _batch: &EventBatch) -> Result<(), Self::Stop> {
        Ok(())
    }

    /// Streams have something new.
    fn deliver(&mut self);

    /// There is something to compact or to read for watchers: see [`history`].
    fn wake_background(&mut self);

    /// All is handed over: whoever is connected follows the list of members.
    fn follow_members(&mut self) -> Result<(), Self::Stop> {
        Ok(())
    }

    /// This member is no longer part of the cluster, for ever.
    fn removed(&mut self);
}

/// Does all that can be done without waiting, a bounded part of applying included. An error of the member is fatal.
pub fn run<O: Outside>(outside: &mut O, effects: &mut Effects<O::Waiter>) -> Result<Pumped, O::Stop> {
    let now = outside.now();
    let watched = outside.with(|_, hub| hub.event_mode());
    let mode = outside.event_mode(watched);
    outside.with_log(|member, log| {
        member.set_event_mode(mode);
        member.advance(log, now, effects)
    })?;
    outside.advanced();
    // Followers write while this member applies.
    outside.send(&mut effects.messages);
    let now = outside.now();
    let pumped = match outside.must_wait() {
        true => {
            outside.with(|member, _| member.release(effects));
            Pumped::Idle
        }
        false => outside.with(|member, _| member.apply_committed(now, effects))?,
    };
    outside.applied(effects)?;
    assert!(effects.unasked.is_empty() && effects.granted.is_empty(), "what was applied is counted in its round");
    hand_over(outside, effects)?;
    Ok(pumped)
}

/// Time passes by one tick of consensus. A round should follow.
pub fn tick<O: Outside>(outside: &mut O, effects: &mut Effects<O::Waiter>) -> Result<(), O::Stop> {
    let (now, data) = (outside.now(), outside.data_asked());
    outside.with_log(|member, log| {
        log.tick();
        member.tick(now, effects);
        if member.watch_disks(log.asked(), data, effects)
            && !is_planted(Planted::LeadsWithStalledData)
            && let Some(to) = handover::successor(member, |_| true)
        {
            // The successor votes, and this member leads: it is not refused.
            let _ = member.transfer_leader(to);
        }
    });
    hand_over(outside, effects)
}

/// Hands everything to the outside, in order.
pub fn hand_over<O: Outside>(outside: &mut O, effects: &mut Effects<O::Waiter>) -> Result<(), O::Stop> {
    let was_asked = !effects.applied.is_empty();
    for change in effects.roles.drain(..) {
        outside.role_changed(change)?;
    }
    if let Some(meta) = effects.installed.take() {
        outside.with(|member, hub| hub.compacted(member.store().compact_revision()));
        outside.installed(meta)?;
    }
    if !effects.applied.is_empty() {
        outside.answer(&mut effects.applied)?;
        assert!(effects.applied.is_empty(), "a waiter was left without its answer");
    }
    if !effects.reads.is_empty() {
        outside.read(&mut effects.reads)?;
        assert!(effects.reads.is_empty(), "a read whose moment has come was left behind");
    }
    if !effects.lost.is_empty() {
        outside.lose(&mut effects.lost);
        assert!(effects.lost.is_empty(), "a waiter was not told that it gets no outcome");
    }
    if !effects.changed.is_empty() {
        outside.changed(&mut effects.changed);
        assert!(effects.changed.is_empty(), "a change of members was left without its answer");
    }
    outside.send(&mut effects.messages);
    assert!(effects.messages.is_empty(), "a message that stays leaves behind those of the next round");
    for to in effects.snapshot_requests.drain(..) {
        outside.provide_snapshot(to);
    }
    let has_news = !effects.events.is_empty();
    for batch in effects.events.drain(..) {
        outside.with(|_, hub| hub.publish(&batch));
        outside.published(&batch)?;
    }
    if has_news {
        outside.deliver();
    }
    let has_work = outside.with(|member, hub| {
        history::close_gap(member, hub);
        member.store().is_compacting() || hub.wants_history()
    });
    if has_work && (was_asked || !is_planted(Planted::IdleWithoutWaiters)) {
        outside.wake_background();
    }
    outside.follow_members()?;
    if std::mem::take(&mut effects.removed) {
        outside.removed();
    }
    Ok(())
}
