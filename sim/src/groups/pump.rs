//! A round of a machine: all work of all groups, one flush for it, one parcel for each other machine.

use super::groups_bugs::Bug;
use super::groups_options::{MS, SECOND};
use super::groups_store::Store;
use super::groups_world::{Broken, Event, World};
use super::machine::{Flight, append_entries, append_hard_state, at_of, id_of};
use plinth_raft::log::{self, LOG_SCHEMA};
use plinth_raft::{EntryId, EntryKind, GroupId, HardState, MemberId, PeerBody, Ready, Role, SnapshotMeta};
use plinth_wal::RecordKind;

impl World {
    pub(super) fn plan_pump(&mut self, at: usize) {
        let life = self.machines[at].life;
        if let Some(process) = &mut self.machines[at].process
            && !std::mem::replace(&mut process.pump_planned, true)
        {
            let pause = self.random.below(200);
            self.plan(pause, Event::Pump { at, life });
        }
    }

    pub(super) fn pump(&mut self, at: usize) -> Result<(), Broken> {
        let process = self.machines[at].process.as_mut().expect("it runs");
        process.pump_planned = false;
        if process.wal.room() == 0 {
            self.plan_disk(at);
            return Ok(());
        }
        let mut flight = Flight { lsn: process.wal.last(), readies: Vec::new(), promises: Vec::new(), is_probe: false };
        while let Some((id, ready)) = self.machines[at].process.as_mut().and_then(|process| process.groups.ready()) {
            self.carry_out(at, id, ready, &mut flight)?;
        }
        if self.machines[at].medium.is_dead() {
            self.crash(at, None);
            return Ok(());
        }
        let process = self.machines[at].process.as_mut().expect("it runs");
        if process.groups.probe_is_due() {
            process.groups.probe_begun();
            process.wal.append(GroupId(0), RecordKind::Metadata, 1, &[b"probe"]);
            flight.is_probe = true;
        }
        flight.lsn = process.wal.last();
        if self.bug == Some(Bug::PromisesTooEarly) {
            flight.promises.drain(..).for_each(|message| process.groups.send(message));
        }
        process.flights.push_back(flight);
        if process.wal.can_flush() {
            process.wal.flush().map_err(|error| format!("machine {at}: {error}"))?;
        }
        self.end_groups(at);
        self.land(at)?;
        self.send_parcels(at);
        self.plan_disk(at);
        Ok(())
    }

    /// Carries one group's work out, but for the flush.
    fn carry_out(&mut self, at: usize, id: GroupId, mut ready: Ready, flight: &mut Flight) -> Result<(), Broken> {
        if let Some(change) = ready.role.filter(|change| change.role == Role::Leader) {
            self.tell(|| format!("machine {at} leads group {id} in term {}", change.term));
            self.outcome.elections += 1;
            let other = self.leaders.insert((id, change.term), at);
            if let Some(other) = other.filter(|other| *other != at) {
                return Err(format!("group {id}: machines {other} and {at} both lead term {}", change.term).into());
            }
        }
        if let Some(meta) = ready.snapshot.take() {
            if let Some(state) = &ready.hard_state {
                // The store must not be ahead of the terms that the log knows of. What the snapshot commits is not in the log yet;
                // what was known to be committed before must not be forgotten: there may be a change of the members in it.
                let process = self.machines[at].process.as_ref().expect("it runs");
                let commit = process.commits.get(&id).copied().unwrap_or(0);
                let term = HardState { commit, ..*state };
                if !self.machines[at].write_term(id, &term)? {
                    return Ok(());
                }
            }
            self.install(at, id, &meta)?;
        }
        let process = self.machines[at].process.as_mut().expect("it runs");
        if let Some(state) = &ready.hard_state {
            process.commits.insert(id, state.commit);
            append_hard_state(&mut process.wal, &mut process.space, id, state);
        }
        append_entries(&mut process.wal, &mut process.space, id, &ready.entries);
        flight.readies.push((id, ready.number));
        flight.promises.append(&mut ready.persisted_messages);
        ready.messages.drain(..).for_each(|message| process.groups.send(message));
        for call in ready.failed_reads.drain(..) {
            self.reply(call, None, 0);
        }
        self.apply(at, id, &mut ready)?;
        self.provide_snapshots(at, id, &mut ready);
        let process = self.machines[at].process.as_mut().expect("it runs");
        process.reads.extend(ready.read_states.drain(..).map(|read| (id, read.index, read.token)));
        process.groups.recycle(ready);
        self.serve_reads(at);
        Ok(())
    }

    fn apply(&mut self, at: usize, id: GroupId, ready: &mut Ready) -> Result<(), Broken> {
        for entry in ready.committed.drain(..) {
            self.learn(at, id, &entry)?;
            let process = self.machines[at].process.as_mut().expect("it runs");
            let store = process.stores.get_mut(&id).expect("its store is here");
            let outcome = if entry.kind == EntryKind::ConfChange {
                store.applied = entry.id();
                let was_member = store.conf.contains(id_of(at));
                let changed = process.groups.apply_conf_change(id, &entry).expect("it is here");
                // A change that does not fit any more is refused alike everywhere.
                store.conf = changed.unwrap_or_else(|_| store.conf.clone());
                if was_member && !store.conf.contains(id_of(at)) {
                    process.ended.push(id);
                }
                None
            } else {
                store.apply(&entry)
            };
            process.groups.on_applied(id, entry.index);
            if let Some((call, puts)) = outcome {
                self.applied(at, id, call, puts, entry.index);
            }
        }
        Ok(())
    }

    /// Followers that need a snapshot get one of what is applied here.
    fn provide_snapshots(&mut self, at: usize, id: GroupId, ready: &mut Ready) {
        let life = self.machines[at].life;
        for to in ready.snapshot_requests.drain(..) {
            let process = self.machines[at].process.as_mut().expect("it runs");
            let mut store = process.stores[&id].clone();
            let meta = SnapshotMeta { id: store.applied, conf: store.conf.clone(), context: bytes::Bytes::new() };
            if self.bug == Some(Bug::SnapshotMislabelled)
                && let Some(last) = store.keys.keys().next_back().copied()
            {
                store.keys.remove(&last);
            }
            self.snapshots.insert((id, meta.id.index), store);
            process.groups.with(id, |group| group.provide_snapshot(to, meta));
            self.outcome.snapshots += 1;
            self.plan(2 * SECOND, Event::SnapshotOver { at, life, id, to });
        }
    }

    /// Takes a snapshot over; the log says so afterwards.
    fn install(&mut self, at: usize, id: GroupId, meta: &SnapshotMeta) -> Result<(), Broken> {
        let store = self.snapshots.get(&(id, meta.id.index)).cloned();
        let mut store = store.ok_or_else(|| format!("group {id}: nobody has made the snapshot {:?}", meta.id))?;
        (store.applied, store.conf) = (meta.id, meta.conf.clone());
        self.tell(|| format!("machine {at} installs group {id} at {:?}", meta.id));
        let machine = &mut self.machines[at];
        machine.stored.insert(id, store.clone());
        let process = machine.process.as_mut().expect("it runs");
        process.stores.insert(id, store);
        process.wal.append(id, RecordKind::SnapshotMark, LOG_SCHEMA, &[&log::encode_snapshot_mark(meta.id)]);
        process.space.forget_entries(id);
        Ok(())
    }

    /// A machine is told that it is no member any more: it was away when that was decided, and nobody speaks to it.
    pub(super) fn retire(&mut self, at: usize, id: GroupId) {
        if let Some(process) = &mut self.machines[at].process {
            process.ended.push(id);
            self.end_groups(at);
            self.plan_pump(at);
        }
    }

    /// Groups that this machine has left: a tombstone in the log, and nothing else.
    fn end_groups(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let process = machine.process.as_mut().expect("it runs");
        // What a leader that was removed has to say goes out before.
        let ended: Vec<GroupId> = std::mem::take(&mut process.ended);
        for id in ended {
            if process.groups.remove(id).is_none() {
                continue;
            }
            process.stores.remove(&id);
            process.reads.retain(|(group, ..)| *group != id);
            process.wal.append(id, RecordKind::SnapshotMark, LOG_SCHEMA, &[&log::encode_snapshot_mark(EntryId::ZERO)]);
            process.space.remove(id);
            machine.stored.remove(&id);
            self.outcome.moved += 1;
        }
    }

    /// What has become durable.
    pub(super) fn land(&mut self, at: usize) -> Result<(), Broken> {
        let bug = self.bug;
        let process = self.machines[at].process.as_mut().expect("it runs");
        let durable = process.wal.poll().map_err(|error| format!("machine {at}: {error}"))?;
        let mut landed = false;
        while process.flights.front().is_some_and(|flight| flight.lsn <= durable) {
            let flight = process.flights.pop_front().expect("there is a front");
            flight.promises.into_iter().for_each(|message| process.groups.send(message));
            for (id, number) in &flight.readies {
                if process.groups.get(*id).is_some() {
                    process.groups.on_persisted(*id, *number);
                }
            }
            if flight.is_probe {
                process.groups.probe_ended();
            }
            landed |= !flight.readies.is_empty();
            if bug == Some(Bug::FlushVouchesForOthers) {
                for later in &mut process.flights {
                    later.promises.drain(..).for_each(|message| process.groups.send(message));
                    for (id, number) in later.readies.drain(..) {
                        process.groups.on_persisted(id, number);
                    }
                }
            }
        }
        if let Some((again, release)) = process.releasing
            && again <= durable
        {
            process.wal.release_before(release);
            process.releasing = None;
        }
        if landed {
            self.plan_pump(at);
        }
        Ok(())
    }

    fn send_parcels(&mut self, at: usize) {
        while let Some(mut parcel) = self.machines[at].process.as_mut().and_then(|process| process.groups.parcel()) {
            if self.bug == Some(Bug::MessagesMisrouted) && self.random.chance(2) {
                parcel.messages.iter_mut().for_each(|message| message.group.0 = (message.group.0 + 1) % 10);
            }
            let proposes = parcel.messages.iter().any(|message| message.body == PeerBody::Propose);
            let mut frame = Vec::new();
            parcel.encode(&mut frame);
            let to = at_of(parcel.to);
            self.outcome.parcels += 1;
            self.outcome.messages += parcel.messages.len() as u64;
            self.machines[at].process.as_mut().expect("it runs").groups.recycle_parcel(parcel);
            if self.is_cut(at, to) || self.random.chance(if self.in_storm { self.options.loss } else { 0 }) {
                continue;
            }
            let doubles = self.bug == Some(Bug::ProposalsDoubled) || !proposes;
            let copies =
                1 + u64::from(
                    doubles
                        && self.in_storm
                        && self.random.chance(
                            self.options.duplicates.max(if self.bug == Some(Bug::ProposalsDoubled) { 50 } else { 0 }),
                        ),
                );
            let frame = bytes::Bytes::from(frame);
            for _ in 0..copies {
                let mut delay = 20 + self.random.below(self.options.delay);
                if self.random.chance(1) {
                    delay += self.random.below(100 * MS);
                }
                self.plan(delay, Event::Parcel { from: at, at: to, frame: frame.clone() });
            }
        }
    }

    pub(super) fn plan_disk(&mut self, at: usize) {
        let (now, life) = (self.now, self.machines[at].life);
        let time = self.machines[at].disk_time(now, &mut self.random, &self.options);
        if let Some(process) = &mut self.machines[at].process
            && !process.disk_planned
            && process.wal.disk_mut().ready() > 0
        {
            process.disk_planned = true;
            self.plan(time, Event::Disk { at, life });
        }
    }

    /// One effect of a disk.
    pub(super) fn run_disk(&mut self, at: usize) -> Result<(), Broken> {
        let process = self.machines[at].process.as_mut().expect("it runs");
        process.disk_planned = false;
        let ready = process.wal.disk_mut().ready();
        if ready > 0 {
            let choice = self.random.below(ready as u64) as usize;
            self.machines[at].process.as_mut().expect("it runs").wal.disk_mut().run(choice);
        }
        if self.machines[at].medium.is_dead() {
            self.crash(at, None);
            return Ok(());
        }
        self.land(at)?;
        let process = self.machines[at].process.as_mut().expect("it runs");
        if process.wal.can_flush() {
            process.wal.flush().map_err(|error| format!("machine {at}: {error}"))?;
        }
        self.plan_disk(at);
        Ok(())
    }

    /// Every member applies the same.
    fn learn(&mut self, at: usize, id: GroupId, entry: &plinth_raft::Entry) -> Result<(), Broken> {
        let found = (entry.term, entry.kind, entry.data.clone());
        let known = self.truth.entry((id, entry.index)).or_insert_with(|| found.clone());
        if *known != found {
            return Err(format!(
                "group {id}, entry {}: machine {at} applies one of term {}, another one of term {}",
                entry.index, found.0, known.0
            )
            .into());
        }
        Ok(())
    }

    pub(super) fn snapshot_over(&mut self, at: usize, id: GroupId, to: MemberId) {
        let process = self.machines[at].process.as_mut().expect("it runs");
        process.groups.with(id, |group| group.report_snapshot(to, false));
        self.plan_pump(at);
    }

    /// The store of a group here.
    pub(super) fn store(&self, at: usize, id: GroupId) -> Option<&Store> {
        self.machines[at].process.as_ref().and_then(|process| process.stores.get(&id))
    }
}
