//! What matching and delivering costs. Run with
//! `cargo test --release -p plinth-engine --test watch cost -- --ignored --nocapture --test-threads 1`.

use std::time::Instant;

use plinth_engine::watch::{EventBatch, EventBatchBuilder, EventMode, History, Hub, HubConfig, StreamKey, WatchSpec};

use crate::support::IDS;

struct Bench {
    hub: Hub,
    streams: Vec<StreamKey>,
    revision: i64,
    out: Vec<u8>,
}

impl Bench {
    fn new(streams: usize) -> Self {
        let mut hub = Hub::new(HubConfig::default(), 1);
        let streams = (0..streams).map(|_| hub.open_stream()).collect();
        Self { hub, streams, revision: 1, out: Vec::with_capacity(1 << 20) }
    }

    fn watch(&mut self, stream: usize, key: &[u8], range_end: &[u8], prev_kv: bool) {
        let spec = WatchSpec { key, range_end, prev_kv, ..WatchSpec::default() };
        self.hub.create(self.streams[stream], &spec, self.revision, -1).expect("a fresh watch");
    }

    /// One put per key, as one batch.
    fn batch(&mut self, keys: impl Iterator<Item = Vec<u8>>, mode: EventMode) -> EventBatch {
        let mut builder = EventBatchBuilder::new(mode, self.revision);
        for key in keys {
            self.revision += 1;
            let mut pair = vec![0x0a, key.len() as u8];
            pair.extend_from_slice(&key);
            pair.extend_from_slice(&[0x10, 1, 0x18, 1, 0x20, 1, 0x2a, 0x80, 2]);
            pair.resize(pair.len() + 256, b'v');
            builder.put(self.revision, 0, false, &pair, Some(&pair));
        }
        builder.finish(self.revision)
    }

    /// Pulls everything as a shell would; the transport is a buffer that is emptied.
    fn pull(&mut self) -> usize {
        let mut messages = 0;
        while let Some(stream) = self.hub.pop_ready() {
            while self.hub.next_message(stream, IDS, &mut self.out) {
                messages += 1;
                if self.out.len() > 1 << 19 {
                    self.out.clear();
                }
            }
        }
        messages
    }

    /// Median nanoseconds to publish a batch and to pull what it gives, and messages per batch.
    fn run(&mut self, batches: &[EventBatch]) -> (f64, f64, usize) {
        self.pull();
        let mut publish = Vec::new();
        let mut pull = Vec::new();
        let mut messages = 0;
        for batch in batches {
            let start = Instant::now();
            self.hub.publish(batch);
            publish.push(start.elapsed().as_nanos() as f64);
            let start = Instant::now();
            messages += self.pull();
            pull.push(start.elapsed().as_nanos() as f64);
        }
        (median(publish), median(pull), messages / batches.len())
    }
}

/// Robust against a busy machine.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn registry_key(i: usize) -> Vec<u8> {
    format!("/registry/pods/namespace-{:03}/pod-{:07}", i % 100, i).into_bytes()
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_thousand_watchers_on_one_prefix() {
    for (streams, prev_kv) in [(1000, false), (10, false), (1, false), (1000, true)] {
        let mut bench = Bench::new(streams);
        for i in 0..1000 {
            bench.watch(i % streams, b"/registry/pods/", b"/registry/pods0", prev_kv);
        }
        let mode = if prev_kv { EventMode::WithPrev } else { EventMode::Plain };
        let batches: Vec<EventBatch> = (0..500).map(|i| bench.batch(std::iter::once(registry_key(i)), mode)).collect();
        bench.run(&batches[..100]);
        let (publish, pull, messages) = bench.run(&batches[100..]);
        assert_eq!(messages, 1000);
        let per = messages as f64;
        println!(
            "1000 watchers of a prefix on {streams} streams, prev_kv {prev_kv}: {:.0} ns a delivery ({:.0} match + queue, {:.0} encode)",
            (publish + pull) / per,
            publish / per,
            pull / per,
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_watchers_that_do_not_match() {
    for count in [0usize, 100, 1000, 10_000, 100_000] {
        for kind in ["keys", "prefixes", "intervals"] {
            let mut bench = Bench::new(100);
            for i in 0..count {
                let mut key = format!("/registry/other/namespace-{:07}/", i * 7919 % 10_000_019).into_bytes();
                if kind == "keys" {
                    bench.watch(i % 100, &key, b"", false);
                } else {
                    let start = key.clone();
                    *key.last_mut().unwrap() += if kind == "prefixes" { 1 } else { 2 };
                    bench.watch(i % 100, &start, &key, false);
                }
            }
            bench.watch(0, b"/zzz", b"", false);
            let batches: Vec<EventBatch> = (0..300)
                .map(|b| {
                    let keys = (0..64).map(|i| (b * 64 + i) * 104_729 % 10_000_019);
                    bench.batch(
                        keys.map(|n| format!("/registry/other/namespace-{n:07}+").into_bytes()),
                        EventMode::Plain,
                    )
                })
                .collect();
            bench.run(&batches[..100]);
            let (publish, ..) = bench.run(&batches[100..]);
            println!("{count} {kind} that do not match: {:.0} ns an event", publish / 64.0);
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_many_watchers_each_with_its_own_prefix() {
    for count in [100usize, 10_000, 100_000] {
        let mut bench = Bench::new(100);
        for i in 0..count {
            let key = format!("/registry/leases/node-{i:06}/").into_bytes();
            let mut end = key.clone();
            *end.last_mut().unwrap() += 1;
            bench.watch(i % 100, &key, &end, false);
        }
        let batches: Vec<EventBatch> = (0..300)
            .map(|b| {
                let keys = (0..64).map(|i| (b * 64 + i) * 104_729 % count);
                bench.batch(keys.map(|n| format!("/registry/leases/node-{n:06}/x").into_bytes()), EventMode::Plain)
            })
            .collect();
        bench.run(&batches[..100]);
        let (publish, pull, _) = bench.run(&batches[100..]);
        let events = 64.0;
        println!("{count} prefixes, one matches: {:.0} ns an event, {:.0} to encode", publish / events, pull / events);
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_history_passes() {
    for count in [512usize, 10_000, 100_000] {
        let mut bench = Bench::new(100);
        let chunk = bench.batch((0..1000).map(registry_key), EventMode::Plain);
        bench.hub.publish(&chunk);
        for i in 0..count {
            let key = registry_key(i);
            let spec = WatchSpec { key: &key, start_revision: 2, ..WatchSpec::default() };
            bench.hub.create(bench.streams[i % 100], &spec, bench.revision, -1).expect("a fresh watch");
        }
        let mut passes = Vec::new();
        while let Some(request) = bench.hub.next_catch_up() {
            let start = Instant::now();
            bench.hub.catch_up(request.id, History::Events(chunk.clone()));
            passes.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
        let count_of_passes = passes.len();
        println!("{count} watchers read 1000 revisions: {count_of_passes} passes of {:.0} us", median(passes));
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_building_events() {
    for mode in [EventMode::Off, EventMode::Plain, EventMode::WithPrev] {
        let mut bench = Bench::new(1);
        let nanos = (0..300).map(|_| {
            let keys: Vec<Vec<u8>> = (0..64).map(registry_key).collect();
            let start = Instant::now();
            bench.batch(keys.into_iter(), mode);
            start.elapsed().as_nanos() as f64 / 64.0
        });
        println!("{mode:?}: {:.0} ns an event, making up its pair included", median(nanos.collect()));
    }
}
