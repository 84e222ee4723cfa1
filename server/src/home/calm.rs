//! Whether so little goes on that the reactor may wait for the log itself, instead of being woken by it: a lone put then
//! wakes one thread instead of three.
//!
//! Invariants: a reactor waits no longer than [`WAIT_MAX`](plinth_wal_uring::WAIT_MAX) at a time, and only if it is the only
//! member: others are to have their messages meanwhile. A write whose end wakes nobody is looked for until it is found.

use super::Home;
use plinth_net::rt::{self, sleep};
use plinth_net::turn;
use plinth_wal_uring::Way;
use std::rc::Rc;
use std::time::Duration;

/// With more requests than this since the last round there is other work to do while the log writes.
const REQUESTS_MAX: u64 = 16;

/// Time between two looks for a write that was waited for in vain.
const LOOK: Duration = Duration::from_micros(200);

/// See the module.
#[derive(Default)]
pub struct Calm {
    /// Requests that had come when the last round began.
    requests: u64,
    /// How writes go that are waited for, as it was told last.
    way: Option<Way>,
}

impl Calm {
    /// Tells the log whether the write of the round that begins will be waited for.
    pub fn attend_log(&mut self, home: &Home) {
        let requests = turn::short_work();
        let came = requests.wrapping_sub(std::mem::replace(&mut self.requests, requests));
        let is_calm = came <= REQUESTS_MAX && home.state().member.group().is_alone();
        home.reactor.log_mut().disk_mut().attend(is_calm);
    }

    /// Waits for the write of the round that has ended, if it is to be waited for. Whether another round should begin.
    pub async fn wait_for_log(&mut self, home: &Rc<Home>) -> bool {
        if !home.reactor.log().wal().disk().is_attended() {
            return false;
        }
        // What this round answered leaves first.
        rt::yield_now().await;
        let is_durable = home.reactor.log_mut().disk_mut().wait_attended();
        if !is_durable {
            rt::spawn(look_for_log(home.clone())).detach();
        }
        self.tell_way(home);
        is_durable
    }

    /// Tells how the log writes when little goes on, once that is known, and in a log of debugging when it changes.
    fn tell_way(&mut self, home: &Home) {
        let log = home.reactor.log();
        let disk = log.wal().disk();
        let way = disk.attended_way();
        let (Some(direct), Some(buffered)) = (disk.attended_time(Way::Direct), disk.attended_time(Way::Buffered))
        else {
            return;
        };
        if self.way == Some(way) {
            return;
        }
        let text = "the log writes this way when little goes on";
        match self.way.replace(way) {
            None => tracing::info!(?way, ?direct, ?buffered, "{text}"),
            Some(_) => tracing::debug!(?way, ?direct, ?buffered, "{text}"),
        }
    }
}

/// Takes the place of the wake-up by a write that was waited for in vain.
async fn look_for_log(home: Rc<Home>) {
    while home.reactor.log().wal().disk().is_attended() {
        sleep(LOOK).await;
        home.reactor.pump.notify();
    }
}
