//! A disk that does not answer, as operators and clients see it: a line in the log when that begins and one when it is over,
//! figures, why the member is not ready, and clients that are sent to other members. When it is so, and what the member
//! itself does about it, is in `plinth_member::stall`.
//!
//! Clients leave a member only when they lose their connection; a status they hand to their user. So a member that can serve
//! nothing tells them to go, and closes new connections before a word is said; requests by HTTP/1.1, which ask whether it
//! is ready, are answered.

use super::Home;
use plinth_member::stall::Stalled;
use plinth_net::grpc::StreamReply;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A stream that is told whether this member serves, and the message that says so.
type Watcher = (StreamReply, fn(bool, &mut Vec<u8>));

/// What sends clients away, or takes them again.
pub type Doorkeeper = Box<dyn Fn(bool)>;

/// See the module.
#[derive(Default)]
pub struct Stall {
    since: Cell<Option<(Stalled, Instant)>>,
    sends_away: Cell<bool>,
    doorkeeper: RefCell<Option<Doorkeeper>>,
    /// Those that watch, and some that were closed since it last grew.
    watchers: RefCell<Vec<Watcher>>,
}

fn name(stalled: Stalled) -> &'static str {
    match stalled {
        Stalled::Log => "write-ahead log",
        Stalled::Data => "data file",
    }
}

impl Stall {
    /// Why this member is not ready, if a disk does not answer.
    pub fn reason(&self) -> Option<String> {
        let (stalled, since) = self.since.get()?;
        let seconds = since.elapsed().as_secs();
        Some(format!("the disk of the {} has not answered for {seconds} s", name(stalled)))
    }

    /// Whether all disks answer, as far as is known.
    pub fn is_well(&self) -> bool {
        self.since.get().is_none()
    }

    /// There are clients from now on.
    pub fn admit_by(&self, doorkeeper: Doorkeeper) {
        doorkeeper(self.sends_away.get());
        *self.doorkeeper.borrow_mut() = Some(doorkeeper);
    }

    /// Tells a stream how it is, and of each change.
    pub fn watch(&self, stream: StreamReply, encode: fn(bool, &mut Vec<u8>)) {
        stream.send(|out| encode(self.is_well(), out));
        let mut watchers = self.watchers.borrow_mut();
        if watchers.len() == watchers.capacity() {
            watchers.retain(|(stream, _)| !stream.is_closed());
        }
        watchers.push((stream, encode));
    }

    fn tell_watchers(&self) {
        let mut watchers = self.watchers.borrow_mut();
        watchers.retain(|(stream, _)| !stream.is_closed());
        for (stream, encode) in &*watchers {
            stream.send(|out| encode(self.is_well(), out));
        }
    }
}

/// Looks whether that has changed; with each tick.
pub fn look(home: &Rc<Home>) {
    let (stalled, serves_nothing, leads) = {
        let member = &home.state().member;
        (member.stalled(), member.serves_nothing(), member.is_leader())
    };
    let (stall, metrics) = (&home.stall, &home.reactor.metrics);
    match (stall.since.get(), stalled) {
        (None, Some(stalled)) => {
            let silent = Duration::from_millis(home.profile.election_millis);
            let begun = Instant::now().checked_sub(silent).unwrap_or_else(Instant::now);
            stall.since.set(Some((stalled, begun)));
            metrics.disk_stalled.set_bool(true);
            metrics.disk_stalls.inc();
            tracing::error!(
                disk = name(stalled),
                ?silent,
                leads,
                "the disk does not answer: until it does, this member leaves leadership to others and passes writes on to them"
            );
            stall.tell_watchers();
        }
        (Some((stalled, since)), None) => {
            let lasted = since.elapsed();
            stall.since.set(None);
            metrics.disk_stalled.set_bool(false);
            metrics.disk_stalled_millis.add(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX));
            tracing::warn!(disk = name(stalled), ?lasted, "the disk answers again");
            stall.tell_watchers();
        }
        // The other disk may have stalled meanwhile: that is the same trouble.
        (Some((_, since)), Some(stalled)) => stall.since.set(Some((stalled, since))),
        (None, None) => {}
    }
    if stall.sends_away.replace(serves_nothing) != serves_nothing
        && let Some(doorkeeper) = &*stall.doorkeeper.borrow()
    {
        doorkeeper(serves_nothing);
    }
}
