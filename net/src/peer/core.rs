//! What all tasks of the transport share. It names none of them, so that each can be read without the others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

use super::link::{Link, Traffic};
use super::outbox::Outbox;
use super::refusal::Rejections;
use super::{Lane, PeerConfig, PeerHandler};
use crate::rt::{self, Queue};
use crate::server::{Phase, ReadBuffer, Shutdown};
use crate::transport::Connector;

/// What all tasks share.
pub(super) struct Core {
    pub(super) config: PeerConfig,
    pub(super) handler: Rc<dyn PeerHandler>,
    pub(super) queue: Queue,
    pub(super) connector: Connector,
    pub(super) read_buffer: Rc<RefCell<ReadBuffer>>,
    pub(super) shutdown: Shutdown,
    pub(super) links: RefCell<BTreeMap<u64, Rc<Link>>>,
    pub(super) traffic: RefCell<BTreeMap<u64, Rc<Traffic>>>,
    /// The accepted connections.
    pub(super) inbound: RefCell<BTreeMap<(u64, Lane), Rc<Outbox>>>,
    pub(super) strangers: Rc<Cell<usize>>,
    pub(super) http_connections: Rc<Cell<usize>>,
    pub(super) rejections: RefCell<Rejections>,
    /// Where this member listens, as the others are told.
    pub(super) own_addresses: RefCell<Rc<[String]>>,
    pub(super) random: Cell<u64>,
}

impl Core {
    /// Runs a task in the queue that the transport was made in.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        rt::spawn_into(task, self.queue).detach();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shutdown.phase() > Phase::Running
    }

    pub(super) fn traffic(&self, id: u64) -> Rc<Traffic> {
        Rc::clone(self.traffic.borrow_mut().entry(id).or_default())
    }

    /// This peer has just connected to us.
    pub(super) fn nudge(&self, id: u64) {
        if let Some(link) = self.links.borrow().get(&id) {
            link.nudge();
        }
    }

    /// A number that nobody can tell in advance without the seed (splitmix64).
    pub(super) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The accepted connections of this lane, or of all.
    pub(super) fn close_inbound(&self, of: impl Fn(u64) -> bool) {
        let mut closed = Vec::new();
        self.inbound.borrow_mut().retain(|(id, _), outbox| {
            let close = of(*id);
            if close {
                closed.push(Rc::clone(outbox));
            }
            !close
        });
        closed.iter().for_each(|outbox| outbox.close());
    }

    pub(super) fn stop(&self) {
        self.shutdown.close();
        for link in self.links.take().into_values() {
            link.close();
        }
        self.close_inbound(|_| true);
    }
}
