//! Keep-alive on both sides: how often a client may ping, and when we ping a silent one.
//!
//! The rules are those of gRPC's Go server (gRFC A8 and A9): a ping sooner than `min_time` after the last one, or
//! within two hours if no stream is open, is a strike, unless we sent headers or data in between; the third strike
//! ends the connection with ENHANCE_YOUR_CALM and `too_many_pings`.

use std::time::{Duration, Instant};

/// Strikes that are forgiven.
const STRIKES_MAX: u32 = 2;
/// Gap between pings that is fine even without an open stream.
const IDLE_PING_GAP: Duration = Duration::from_secs(2 * 60 * 60);

/// Settings of keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveConfig {
    /// Shortest gap tolerated between a client's pings.
    pub min_time: Duration,
    /// A client silent for this long is pinged. Zero: never.
    pub interval: Duration,
    /// How long the answer may take. Zero: forever.
    pub timeout: Duration,
}

/// What the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// Send a ping.
    Ping,
    /// The client did not answer: close.
    Close,
}

/// Keep-alive state of one connection.
#[derive(Debug)]
pub struct Keepalive {
    config: KeepaliveConfig,
    last_client_ping: Option<Instant>,
    strikes: u32,
    /// Headers or data were sent since the last client ping.
    answered_since: bool,
    last_read: Instant,
    /// When the ping was sent that nothing has been read since.
    pinged: Option<Instant>,
}

impl Keepalive {
    /// Begins now.
    pub fn new(config: KeepaliveConfig, now: Instant) -> Keepalive {
        Keepalive { config, last_client_ping: None, strikes: 0, answered_since: false, last_read: now, pinged: None }
    }

    /// Headers or data are being sent.
    pub fn on_answer(&mut self) {
        self.answered_since = true;
    }

    /// Bytes arrived.
    pub fn on_read(&mut self, now: Instant) {
        self.last_read = now;
        self.pinged = None;
    }

    /// The client pinged. False if it did so too often.
    #[must_use]
    pub fn on_client_ping(&mut self, has_streams: bool, now: Instant) -> bool {
        let last = self.last_client_ping.replace(now);
        if std::mem::take(&mut self.answered_since) {
            self.strikes = 0;
            return true;
        }
        let gap = if has_streams { self.config.min_time } else { IDLE_PING_GAP };
        if last.is_some_and(|last| now.saturating_duration_since(last) < gap) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }

    /// When `on_timeout` is to be called. Changes after `on_read` and `on_timeout`, and then only to later.
    pub fn deadline(&self) -> Option<Instant> {
        match self.pinged {
            None if self.config.interval.is_zero() => None,
            None => Some(self.last_read + self.config.interval),
            Some(_) if self.config.timeout.is_zero() => None,
            Some(pinged) => Some(pinged + self.config.timeout),
        }
    }

    /// Says what is due, and assumes that it is done.
    pub fn on_timeout(&mut self, now: Instant) -> Due {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Due::Nothing;
        }
        if self.pinged.is_some() {
            return Due::Close;
        }
        self.pinged = Some(now);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keepalive(now: Instant) -> Keepalive {
        let config = KeepaliveConfig { min_time: 5 * SECOND, interval: 100 * SECOND, timeout: 20 * SECOND };
        Keepalive::new(config, now)
    }

    #[test]
    fn the_third_hasty_ping_is_too_many() {
        let now = Instant::now();
        let mut keepalive = keepalive(now);
        assert!(keepalive.on_client_ping(true, now), "the first is free");
        assert!(keepalive.on_client_ping(true, now + SECOND));
        assert!(keepalive.on_client_ping(true, now + 2 * SECOND));
        assert!(!keepalive.on_client_ping(true, now + 3 * SECOND));
    }

    #[test]
    fn patient_pings_with_a_stream_are_fine_and_without_one_are_not() {
        let now = Instant::now();
        let mut with_stream = keepalive(now);
        assert!((0..100).all(|n| with_stream.on_client_ping(true, now + n * 5 * SECOND)));
        let mut without = keepalive(now);
        let fine = (0..100).take_while(|n| without.on_client_ping(false, now + *n * 5 * SECOND)).count();
        assert_eq!(fine, 3);
    }

    #[test]
    fn an_answer_in_between_forgives() {
        let now = Instant::now();
        let mut keepalive = keepalive(now);
        for n in 0..100 {
            assert!(keepalive.on_client_ping(true, now + n * SECOND / 10), "ping {n}");
            keepalive.on_answer();
        }
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_given_up() {
        let now = Instant::now();
        let mut keepalive = keepalive(now);
        assert_eq!(keepalive.deadline(), Some(now + 100 * SECOND));
        assert_eq!(keepalive.on_timeout(now + 99 * SECOND), Due::Nothing);
        assert_eq!(keepalive.on_timeout(now + 100 * SECOND), Due::Ping);
        assert_eq!(keepalive.on_timeout(now + 119 * SECOND), Due::Nothing);
        assert_eq!(keepalive.on_timeout(now + 120 * SECOND), Due::Close);
    }

    #[test]
    fn anything_read_counts_as_life() {
        let now = Instant::now();
        let mut keepalive = keepalive(now);
        assert_eq!(keepalive.on_timeout(now + 100 * SECOND), Due::Ping);
        keepalive.on_read(now + 101 * SECOND);
        assert_eq!(keepalive.on_timeout(now + 120 * SECOND), Due::Nothing);
        assert_eq!(keepalive.deadline(), Some(now + 201 * SECOND));
    }

    #[test]
    fn zero_switches_off() {
        let now = Instant::now();
        let off = KeepaliveConfig { min_time: SECOND, interval: Duration::ZERO, timeout: SECOND };
        assert_eq!(Keepalive::new(off, now).deadline(), None);
        let patient = KeepaliveConfig { min_time: SECOND, interval: SECOND, timeout: Duration::ZERO };
        let mut keepalive = Keepalive::new(patient, now);
        assert_eq!(keepalive.on_timeout(now + SECOND), Due::Ping);
        assert_eq!(keepalive.deadline(), None);
    }
}
