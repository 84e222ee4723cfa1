//! How often a client may ask: a bucket for each, filled at a steady rate. The table is bounded; where it is full, those
//! whose buckets are full again are forgotten first, and newcomers share one bucket.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Clients whose buckets are kept.
const CLIENTS_MAX: usize = 50_000;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// The buckets.
#[derive(Debug)]
pub struct Limit {
    /// Requests a second; 0 is no limit.
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Limit {
    /// `rate` requests a second and client, after `burst` at once. A rate of 0 is no limit.
    pub fn new(rate: f64, burst: f64) -> Limit {
        Limit { rate, burst: burst.max(1.0), buckets: Mutex::default() }
    }

    /// Whether this client may ask now.
    pub fn allows(&self, client: &str, now: Instant) -> bool {
        if self.rate <= 0.0 {
            return true;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + since * self.rate).min(self.burst)
        };
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(client) {
            buckets.retain(|_, bucket| filled(bucket) < self.burst);
        }
        let client = if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(client) { "" } else { client };
        let bucket = buckets.entry(client.to_owned()).or_insert(Bucket { left: self.burst, at: now });
        let left = filled(bucket);
        *bucket = Bucket { left: if left >= 1.0 { left - 1.0 } else { left }, at: now };
        left >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_and_then_a_rate_for_each() {
        let (limit, start) = (Limit::new(10.0, 3.0), Instant::now());
        let allowed = |client: &str, after: u64| limit.allows(client, start + Duration::from_millis(after));
        assert_eq!([allowed("a", 0), allowed("a", 0), allowed("a", 0), allowed("a", 0)], [true, true, true, false]);
        assert!(allowed("b", 0), "others are not held up");
        assert!(!allowed("a", 50) && allowed("a", 151) && !allowed("a", 152));
        assert!(Limit::new(0.0, 0.0).allows("a", start));
    }

    #[test]
    fn the_table_is_bounded() {
        let (limit, now) = (Limit::new(1.0, 1.0), Instant::now());
        for number in 0..CLIENTS_MAX + 1000 {
            limit.allows(&number.to_string(), now);
        }
        assert!(limit.buckets.lock().expect("unpoisoned").len() <= CLIENTS_MAX + 1);
        assert!(limit.allows("new", now + Duration::from_secs(2)), "those who are silent make room");
        assert!(limit.buckets.lock().expect("unpoisoned").len() < 10);
    }
}
