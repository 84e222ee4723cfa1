//! How a write becomes durable while somebody waits for it: directly, or buffered and synced, whichever the device does
//! sooner. Found out by doing both now and then.
//!
//! A direct write wakes one thread instead of three and copies nothing; but on a processor that is busy with something
//! else its end waits for a tick, and some devices take long for it. So the usual time of each way is followed, and the
//! other way is tried again after some hundred writes.
//!
//! Invariant: where waiting is in vain, it is left out ever more often, up to [`REST_MAX`] times in a row.

use std::time::Duration;

/// The longest that anybody should wait for the log without doing anything else: as long as other work may keep a reactor
/// from its sockets.
pub const WAIT_MAX: Duration = Duration::from_micros(500);

/// So many waits are left out at most before the next one. The first one in vain costs one, further ones twice as many as
/// the one before.
const REST_MAX: u32 = 256;

/// Writes between two tries of the way that is slower.
const TRY_AGAIN: u32 = 256;

/// First writes of each way, before there is a choice.
const FIRST: u32 = 8;

/// The usual time moves by one in so many of itself with each write.
const STEPS: f64 = 32.0;

/// A direct write takes half of the processor time or less, so it may take this much longer before it is left,
const DIRECT_LEFT: f64 = 1.6;
/// and this much longer when it is taken up again.
const DIRECT_TAKEN: f64 = 1.3;

/// One of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A write to a file opened `O_DIRECT | O_DSYNC`.
    Direct,
    /// A buffered write, then `fdatasync`.
    Buffered,
}

/// The time that half of the writes stay below: those that met a busy device or processor do not move it far.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    micros: f64,
    count: u32,
}

impl Usual {
    fn add(&mut self, micros: f64) {
        self.count = self.count.saturating_add(1);
        if self.count <= FIRST {
            // Of the first ones it is the least, which is a good guess.
            self.micros = if self.count == 1 { micros } else { self.micros.min(micros) };
        } else if micros > self.micros {
            self.micros += self.micros / STEPS;
        } else {
            self.micros -= (self.micros / STEPS).min(self.micros - micros);
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    direct: Usual,
    buffered: Usual,
    /// The last choice between the two was for buffered writes.
    is_buffered: bool,
    /// Writes since the slower way was tried.
    since_try: u32,
    /// Waits still to be left out, and how many were the last time.
    rest: u32,
    last_rest: u32,
}

impl Quiet {
    /// Whether to wait for the next write. Counts as one that was left out if not.
    pub fn may_wait(&mut self) -> bool {
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        true
    }

    /// How the next write goes.
    pub fn choose(&mut self) -> Way {
        let better = self.better();
        self.since_try += 1;
        if self.since_try >= TRY_AGAIN {
            self.since_try = 0;
            return if better == Way::Direct { Way::Buffered } else { Way::Direct };
        }
        better
    }

    /// The way that is better by what is known.
    pub fn better(&self) -> Way {
        match (self.direct.count < FIRST, self.buffered.count < FIRST) {
            (true, _) => Way::Direct,
            (_, true) => Way::Buffered,
            _ if self.is_buffered => Way::Buffered,
            _ => Way::Direct,
        }
    }

    fn compare(&mut self) {
        let factor = if self.is_buffered { DIRECT_TAKEN } else { DIRECT_LEFT };
        self.is_buffered = self.direct.micros > self.buffered.micros * factor;
    }

    /// Someone waited so long, for a write of this way, that is durable now or not.
    pub fn waited(&mut self, way: Way, time: Duration, is_durable: bool) {
        let usual = if way == Way::Direct { &mut self.direct } else { &mut self.buffered };
        // One that was given up took longer, and nobody knows how much.
        let time = if is_durable { time } else { WAIT_MAX * 2 };
        usual.add(time.as_nanos() as f64 / 1e3);
        if self.direct.count >= FIRST && self.buffered.count >= FIRST {
            self.compare();
        }
        self.last_rest = if is_durable { 0 } else { (self.last_rest * 2).clamp(1, REST_MAX) };
        self.rest = self.last_rest;
    }

    /// The time that a write of this way usually takes, once there was one.
    pub fn usual(&self, way: Way) -> Option<Duration> {
        let usual = if way == Way::Direct { self.direct } else { self.buffered };
        (usual.count > 0).then(|| Duration::from_nanos((usual.micros * 1e3) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Runs `writes` on a device that takes these times; the number of direct ones.
    fn run(quiet: &mut Quiet, writes: u32, direct: u64, buffered: u64) -> u32 {
        let mut count = 0;
        for _ in 0..writes {
            let way = quiet.choose();
            count += u32::from(way == Way::Direct);
            quiet.waited(way, micros(if way == Way::Direct { direct } else { buffered }), true);
        }
        count
    }

    #[test]
    fn the_faster_way_is_taken_and_the_other_tried_now_and_then() {
        let mut quiet = Quiet::default();
        let writes = 10 * TRY_AGAIN;
        let direct = run(&mut quiet, writes, 100, 130);
        assert!(direct > writes - 20 && direct < writes, "{direct}");
        assert_eq!(quiet.usual(Way::Buffered), Some(micros(130)));
        // The direct way slows down: it is left within some writes, and found again when it is fast.
        run(&mut quiet, 64, 1_000, 130);
        assert_eq!(quiet.better(), Way::Buffered);
        assert!(run(&mut quiet, writes, 1_000, 130) < 20);
        run(&mut quiet, 40 * TRY_AGAIN, 60, 130);
        assert_eq!(quiet.better(), Way::Direct);
    }

    #[test]
    fn waits_in_vain_are_followed_by_ever_longer_rests() {
        let mut quiet = Quiet::default();
        assert!(quiet.may_wait());
        for rest in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
            quiet.waited(Way::Direct, WAIT_MAX, false);
            assert_eq!((0..rest).filter(|_| quiet.may_wait()).count(), 0);
            assert!(quiet.may_wait());
        }
        quiet.waited(Way::Direct, WAIT_MAX / 2, true);
        assert!(quiet.may_wait(), "one that was not in vain");
    }

    #[test]
    fn a_write_now_and_then_that_takes_long_changes_nothing() {
        let mut quiet = Quiet::default();
        run(&mut quiet, 100, 100, 130);
        for write in 0..1_000 {
            let time = if write % 4 == 0 { 5_000 } else { 100 };
            quiet.waited(Way::Direct, micros(time), true);
        }
        assert_eq!(quiet.better(), Way::Direct);
    }
}
