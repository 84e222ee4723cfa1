//! Nothing is allocated for a message: three machines with thirty groups write an entry in each group again and again, from
//! the proposal to its application everywhere, parcels encoded and decoded on the way.
//!
//! Not counted: the buffer of a frame as the transport receives it, one for each parcel.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use plinth_raft::groups::Groups;
use plinth_raft::log::{bootstrap, entry_header};
use plinth_raft::{
    ConfState, EntryId, Group, GroupConfig, GroupId, MemberId, PeerMessage, RecoveredLog, Role, WindowBounds,
};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static IS_COUNTED: Cell<bool> = const { Cell::new(true) };
}

// SAFETY: hands everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_COUNTED.get() {
            COUNT.set(COUNT.get() + 1);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MACHINES: [u64; 3] = [1, 2, 3];
const GROUPS: u32 = 30;

struct Machine {
    groups: Groups,
    /// What waits for the disk, by group and `Ready`.
    flushes: Vec<(GroupId, u64)>,
    promises: Vec<PeerMessage>,
    applied: u64,
}

fn machine(id: u64) -> Machine {
    let voters = MACHINES.map(MemberId);
    let mut groups = Groups::new(MemberId(id), id, 10, 1);
    for number in 0..GROUPS {
        let first = bootstrap(voters.iter().map(|voter| (*voter, Bytes::new())).collect());
        let mut recovered = RecoveredLog::bootstrapped(first);
        recovered.applied = EntryId { index: 3, term: 1 };
        let mut config = GroupConfig::new(GroupId(number), MemberId(id), 5);
        config.conf = ConfState::of_voters(voters);
        config.window = WindowBounds { entries: 20, bytes: 1 << 20 };
        groups.add(GroupId(number), Group::new(config, recovered).expect("a group"));
    }
    Machine { groups, flushes: Vec::new(), promises: Vec::new(), applied: 0 }
}

impl Machine {
    /// One round: all work of all groups, one flush for it, one parcel for each machine.
    fn round(&mut self, frame: &mut Vec<u8>, wire: &mut VecDeque<(u64, Bytes)>, messages: &mut u64) {
        while let Some((id, mut ready)) = self.groups.ready() {
            for entry in &ready.entries {
                std::hint::black_box(entry_header(entry));
            }
            ready.messages.drain(..).for_each(|message| self.groups.send(message));
            self.promises.append(&mut ready.persisted_messages);
            self.flushes.push((id, ready.number));
            for entry in ready.committed.drain(..) {
                self.applied += 1;
                self.groups.on_applied(id, entry.index);
            }
            self.groups.recycle(ready);
        }
        self.promises.drain(..).for_each(|message| self.groups.send(message));
        self.flushes.drain(..).for_each(|(id, number)| self.groups.on_persisted(id, number));
        while let Some(parcel) = self.groups.parcel() {
            *messages += parcel.messages.len() as u64;
            frame.clear();
            parcel.encode(frame);
            let to = parcel.to.0;
            self.groups.recycle_parcel(parcel);
            IS_COUNTED.set(false);
            let bytes = Bytes::copy_from_slice(frame);
            drop(bytes.clone()); // It is shared from now on, as what a transport receives is.
            wire.push_back((to, bytes));
            IS_COUNTED.set(true);
        }
    }
}

#[test]
fn the_steady_path_allocates_nothing() {
    let mut machines = MACHINES.map(machine);
    let (mut frame, mut wire, mut messages) = (Vec::new(), VecDeque::new(), 0);
    let payload = Bytes::from_static(&[7; 300]);
    let mut step = |machines: &mut [Machine; 3], writes: bool, messages: &mut u64| {
        for machine in &mut *machines {
            machine.groups.tick();
            for number in (0..GROUPS).filter(|_| writes) {
                let id = GroupId(number);
                if machine.groups.get(id).is_some_and(|group| group.role() == Role::Leader) {
                    // Refused for a moment while leadership moves.
                    let _ = machine.groups.propose(id, payload.clone());
                }
            }
        }
        for _ in 0..6 {
            machines.iter_mut().for_each(|machine| machine.round(&mut frame, &mut wire, messages));
            while let Some((to, bytes)) = wire.pop_front() {
                let groups = &mut machines[to as usize - 1].groups;
                let parcel = groups.decode(&bytes).expect("own parcel");
                groups.receive(parcel, |id, why| panic!("{id}: {why:?}"));
            }
        }
    };
    (0..200).for_each(|_| step(&mut machines, false, &mut messages));
    (0..200).for_each(|_| step(&mut machines, true, &mut messages));
    let applied = |machines: &[Machine; 3]| machines.iter().map(|machine| machine.applied).sum::<u64>();
    let before = (COUNT.get(), applied(&machines), messages);
    assert!(before.0 > 0, "allocations are counted");
    (0..300).for_each(|_| step(&mut machines, true, &mut messages));
    let (count, entries, sent) = (COUNT.get() - before.0, applied(&machines) - before.1, messages - before.2);
    assert_eq!(entries, 300 * 3 * u64::from(GROUPS), "every entry is applied everywhere");
    assert!(sent >= 300 * 4 * u64::from(GROUPS), "{sent} messages");
    assert_eq!(count, 0, "allocations for {sent} messages");
}
