//! Groups in which nothing happens sleep: no tick, no heartbeat. Their leader puts them to sleep when every member has
//! everything, and says so with the next parcel; a follower sleeps when it has the same term, leader and committed log. From
//! then on the signs of life of the machines stand for the leader's heartbeats.
//!
//! - *Every input wakes*: all of them pass [`Groups::with`] or [`Groups::receive`]. A proposal to a sleeping follower wakes
//!   the leader by its message.
//! - *A leader sleeps only when all members are known to have its whole log*, committed and applied here, also learners, and no
//!   configuration change, transfer or read is under way; and when all their machines hear it in its present life, and
//!   are heard. Nobody is left behind asleep, and a member that has yet to be created keeps the group awake.
//! - *A follower sleeps only when it was told so by the leader of its term, for the commit index that it has*: not after a
//!   restart before it has caught up. And only while the leader's machine is alive: a notice that was long on its way does not
//!   put it back to sleep under a leader that is gone, since nobody would wake it again.
//! - *When a machine falls silent or starts anew*, the groups that it led wake on the others, without the loyalty that they had
//!   for a leader they heard from: they campaign after their draw. Only they wake.
//! - *A leader wakes when a quorum of machines is not left* that hear it and are heard, to check its quorum and step down. While
//!   there is one it sleeps on: a machine whose signs come and go does not wake all that it follows.
//! - *A machine that has started anew* does not know who leads: groups led here that it is a member of wake for it.
//!
//! What others got wrong here has its tests, each with their issue: `tests/groups/sleep.rs`.
//!
//! In between, while a group is awake, its heartbeats are spared to whom appends went and from whom answers came
//! (`Group::save_heartbeats`).

use super::Groups;
use super::machines::News;
use super::parcel::{Asleep, Sign};
use crate::core::agrees;
use crate::message::{PeerBody, PeerMessage};
use crate::types::{MemberId, Role};

impl Groups {
    /// What a group that is at rest says and hears all the time: it tells nothing, wakes nobody and keeps nobody awake.
    pub(super) fn is_echo(&self, place: usize, message: &PeerMessage) -> bool {
        let Some(slot) = self.slots.at(place) else { return false };
        message.term == slot.group.term()
            && match &message.body {
                PeerBody::HeartbeatResponse { round: None, .. } => true,
                PeerBody::AppendResponse { index, reject: None, .. } => *index <= slot.group.commit(),
                PeerBody::Heartbeat { round: None, commit } => {
                    *commit <= slot.group.commit() && slot.group.leader() == Some(message.from)
                }
                _ => false,
            }
    }

    /// A sign of life arrived.
    pub(super) fn hear(&mut self, from: MemberId, sign: Sign) {
        if let Some(news) = self.machines.heard(from, sign) {
            self.wake_for(from, news);
        }
    }

    /// The leader says that a group sleeps.
    pub(super) fn follow_to_sleep(&mut self, from: MemberId, asleep: Asleep) {
        let Some(place) = self.slots.place(asleep.group) else { return };
        let group = &self.slots.slot(place).group;
        let is_level = group.commit() == asleep.commit && group.last_index() == asleep.commit;
        if group.leader() == Some(from)
            && group.role() == Role::Follower
            && group.term() == asleep.term
            && is_level
            && group.is_at_rest()
            && self.machines.is_alive(from)
        {
            self.lay_down(place, from);
        }
    }

    /// A leader whose group has nothing to do and nobody behind lets it sleep.
    pub(super) fn fell_asleep(&mut self, place: usize) -> bool {
        let Some(slot) = self.slots.at(place) else { return false };
        if slot.idle <= self.election_ticks || self.disk.is_stuck() || !slot.group.is_level() {
            return false;
        }
        if !slot.members.iter().all(|member| self.machines.is_mutual(*member)) {
            return false;
        }
        let asleep = Asleep { group: slot.id, term: slot.group.term(), commit: slot.group.commit() };
        for member in &slot.members {
            if let Some(machine) = self.machines.get_mut(*member) {
                machine.asleep.push(asleep);
            }
        }
        self.lay_down(place, self.own);
        true
    }

    fn lay_down(&mut self, place: usize, under: MemberId) {
        self.slots.lay_down(place, Some(under));
        self.slots.slot(place).group.shrink();
    }

    /// Something has changed about a machine: the groups that it concerns wake.
    pub(super) fn wake_for(&mut self, machine: MemberId, news: News) {
        for place in self.slots.places() {
            let Some(slot) = self.slots.at(place) else { continue };
            let is_led_there = slot.under == Some(machine) && news != News::Deaf;
            let is_led_here = slot.under == Some(self.own) && slot.members.contains(&machine);
            let is_mistaken = news == News::Reborn && !slot.is_asleep() && slot.group.leader() == Some(machine);
            if is_mistaken {
                self.tell(place, |group| group.report_gone(machine));
            } else if is_led_there || (is_led_here && (news == News::Reborn || !self.has_quorum(place))) {
                self.slots.wake(place);
                // What was asleep may campaign as soon as its draw is over.
                self.tell(place, |group| group.report_gone(machine));
            }
        }
    }

    /// Whether enough voters are on machines that hear this one and are heard.
    fn has_quorum(&self, place: usize) -> bool {
        let Some(slot) = self.slots.at(place) else { return false };
        let own = self.own;
        agrees(slot.group.conf(), |id| id == own.0 || self.machines.is_mutual(MemberId(id)))
    }
}
