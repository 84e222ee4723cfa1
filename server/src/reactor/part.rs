//! The end of a member as others see it, in order and in little time.
//!
//! ```text
//!   leadership is handed over ▶ streams end, clients are told to go ▶ calls in flight get a grace ▶ what still waits is
//!   refused ▶ answers leave ▶ (the caller) the data file and the log are made whole
//! ```
//!
//! Nothing that was acknowledged hangs on any of it: answers are given for what is durable.

use super::serve::Serving;
use crate::cluster::{Link, handover};
use crate::home::Home;
use futures_lite::FutureExt;
use plinth_net::rt::sleep;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How long leadership may take to be handed over: some round trips, unless the other member lags.
const HANDOVER: Duration = Duration::from_millis(300);

/// How long calls in flight may take to be answered.
const GRACE: Duration = Duration::from_millis(250);

/// How long the last answers may take to reach clients.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// After this time from the beginning connections are cut.
pub const DRAIN: Duration = GRACE.saturating_add(LAST_ANSWERS);

/// Says goodbye to everybody. Afterwards nothing new is taken, and nothing waits.
pub async fn part(home: &Rc<Home>, link: &Link, serving: Serving) {
    handover::leave(home, HANDOVER).await;
    serving.drain();
    let mut gone = pin!(serving.wait_until_gone());
    let is_gone = async { (&mut gone).await }.or(sleep_false(GRACE)).await;
    home.stop();
    if !is_gone {
        gone.or(sleep_false(LAST_ANSWERS)).await;
    }
    link.peers().stop();
}

async fn sleep_false(time: Duration) -> bool {
    sleep(time).await;
    false
}
