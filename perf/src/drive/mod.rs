//! Runs a workload against a server: threads, each with its own single-threaded runtime, connections and slots;
//! a warm-up, a measured window, and an orderly end in which nothing that was due is forgotten.
//!
//! Threads meet twice only: when all are connected and set up, and when the last has stopped sending (watchers
//! go on until they have seen every put).

mod slots;
#[cfg(test)]
mod tests;
mod watchers;

use crate::endpoint::Endpoint;
use crate::grpc::{CallError, Connection};
use crate::lean::{self, Crew, Line};
use crate::measure::{Errors, Track, Window};
use crate::pace::Pace;
use crate::process::{self, Load, Usage};
use crate::server::Target;
use crate::workload::{self, Kind, Methods, Spec};
use slots::Seat;
use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};

/// Time for connecting and setting up (creating watchers, granting leases).
const SETUP_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for requests in flight at the end to be answered.
const GRACE: Duration = Duration::from_secs(10);
/// Time for watchers to see the last events.
const WATCH_GRACE: Duration = Duration::from_secs(20);
/// Time between the last set-up and the first request.
const HEAD_START: Duration = Duration::from_millis(20);
/// What a request has besides one value: keys, guards, framing.
const REQUEST_OVERHEAD_BYTES: usize = 4_096;
/// A run with more errors than this is broken, not slow.
const ERRORS_MAX: u64 = 10_000;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Connecting or setting up failed.
    #[error("set-up: {0}")]
    Setup(String),
    /// A thread of the generator ended early.
    #[error("a generator thread failed: {0}")]
    Thread(String),
    /// The server's counters could not be read.
    #[error("reading /proc: {0}")]
    Proc(#[from] std::io::Error),
}

impl From<CallError> for RunError {
    fn from(error: CallError) -> RunError {
        RunError::Setup(error.to_string())
    }
}

/// What a run measured.
pub struct Outcome {
    /// One track per class of the spec.
    pub tracks: Vec<Track>,
    /// Delay from the send of a put to the arrival of its event at a watcher.
    pub events: Track,
    /// Events that never came.
    pub events_missing: u64,
    /// Failed requests by text.
    pub errors: Errors,
    /// Answers of the whole run, those outside the window included.
    pub answered: u64,
    /// Requests without an answer when the run was given up.
    pub unanswered: u64,
    /// Requests that were due and never sent.
    pub unsent: u64,
    /// Real length of the window.
    pub window: Duration,
    /// The server's counters at the window's start and end; zeros if no process was given.
    pub server: (Usage, Usage),
    pub generator: (Usage, Usage),
    pub machine: (Load, Load),
}

impl Outcome {
    /// Answers within the window, of all classes.
    pub fn completed(&self) -> u64 {
        self.tracks.iter().map(Track::completed).sum()
    }

    /// What the server's work is divided by: events where there are watchers of each put, else answers.
    pub fn units(&self, spec: &Spec) -> u64 {
        if spec.events_per_put() > 0 { self.events.completed() } else { self.completed() }
    }
}

/// State all threads share.
struct Shared {
    /// Answers of the whole run. Workloads whose events are counted send nothing but puts.
    answered: AtomicU64,
    failed: AtomicU64,
    events: AtomicU64,
    threads_sending: AtomicUsize,
    threads_running: AtomicUsize,
}

/// The moments of a run, known once everybody is ready.
#[derive(Clone, Copy)]
struct Plan {
    start: Instant,
    window: Window,
}

/// What one thread brings home.
struct ThreadOutcome {
    tracks: Vec<Track>,
    events: Track,
    errors: Errors,
    unanswered: u64,
    unsent: u64,
}

/// Runs `spec` against `target`. `label` names the run in the progress line.
pub fn run(target: &Target, spec: &Spec, label: &str) -> Result<Outcome, RunError> {
    run_and_tell(target, spec, label, |_| ())
}

/// The same; `tell` learns the window shortly before the first request, for what is to happen beside the load.
pub fn run_and_tell(target: &Target, spec: &Spec, label: &str, tell: impl FnOnce(Window)) -> Result<Outcome, RunError> {
    workload::stamp_now();
    let shared = Arc::new(Shared {
        answered: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        events: AtomicU64::new(0),
        threads_sending: AtomicUsize::new(spec.threads),
        threads_running: AtomicUsize::new(spec.threads),
    });
    let (ready_sender, ready) = mpsc::channel();
    let (plan_sender, plan) = tokio::sync::watch::channel(None);
    let threads: Vec<_> = (0..spec.threads)
        .map(|index| {
            let (spec, target) = (spec.clone(), target.clone());
            let part = Part { index, target, spec, shared: shared.clone(), plan: plan.clone() };
            let ready = ready_sender.clone();
            std::thread::spawn(move || {
                let result = part.run(&ready);
                part.shared.threads_running.fetch_sub(1, Ordering::SeqCst);
                result
            })
        })
        .collect();
    drop(ready_sender);
    for _ in 0..spec.threads {
        match ready.recv_timeout(SETUP_TIMEOUT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RunError::Setup(error)),
            Err(_) => return Err(RunError::Setup("a thread was not ready in time".to_owned())),
        }
    }
    let start = Instant::now() + HEAD_START;
    let window_start = start + Duration::from_secs_f64(spec.warmup_seconds);
    let window = Window { start: window_start, end: window_start + Duration::from_secs_f64(spec.seconds) };
    tell(window);
    plan_sender.send_replace(Some(Plan { start, window }));

    let own = std::process::id();
    let read = || process::usage_of(&target.pids);
    let mut progress = Progress::new(label, spec);
    progress.follow(&shared, window.start);
    let before = (Instant::now(), read()?, process::usage(own)?, process::load()?);
    progress.follow(&shared, window.end);
    let after = (Instant::now(), read()?, process::usage(own)?, process::load()?);
    progress.clear();

    let mut parts = Vec::new();
    for thread in threads {
        let part = thread.join().map_err(|_| RunError::Thread("it panicked".to_owned()))?;
        parts.push(part.map_err(RunError::Thread)?);
    }
    let events_seen = shared.events.load(Ordering::SeqCst);
    let events_due = shared.answered.load(Ordering::SeqCst) * spec.events_per_put();
    Ok(merge(parts, spec, |tracks, events, errors, unanswered, unsent| Outcome {
        tracks,
        events,
        events_missing: events_due.saturating_sub(events_seen),
        errors,
        answered: shared.answered.load(Ordering::SeqCst),
        unanswered,
        unsent,
        window: after.0.min(window.end) - before.0,
        server: (before.1, after.1),
        generator: (before.2, after.2),
        machine: (before.3, after.3),
    }))
}

fn merge(
    parts: Vec<ThreadOutcome>,
    spec: &Spec,
    build: impl FnOnce(Vec<Track>, Track, Errors, u64, u64) -> Outcome,
) -> Outcome {
    let interval = Duration::from_secs_f64(spec.interval_seconds);
    let mut tracks: Vec<Track> = spec.classes().iter().map(|_| Track::new(interval)).collect();
    let mut events = Track::new(interval);
    let mut errors = Errors::default();
    let (mut unanswered, mut unsent) = (0, 0);
    for part in &parts {
        tracks.iter_mut().zip(&part.tracks).for_each(|(track, theirs)| track.merge(theirs));
        events.merge(&part.events);
        errors.merge(&part.errors);
        unanswered += part.unanswered;
        unsent += part.unsent;
    }
    build(tracks, events, errors, unanswered, unsent)
}

/// One thread's part of a run.
struct Part {
    index: usize,
    target: Target,
    spec: Spec,
    shared: Arc<Shared>,
    plan: tokio::sync::watch::Receiver<Option<Plan>>,
}

/// What the slots and watchers of a thread write to.
pub struct Record {
    window: Window,
    tracks: RefCell<Vec<Track>>,
    events: RefCell<Track>,
    errors: RefCell<Errors>,
    /// When the request in flight in each slot was due.
    in_flight: RefCell<Vec<Option<Instant>>>,
    failures: Cell<u64>,
    shared: Arc<Shared>,
}

impl Record {
    fn new(spec: &Spec, window: Window, slots: usize, shared: Arc<Shared>) -> Record {
        let interval = Duration::from_secs_f64(spec.interval_seconds);
        Record {
            window,
            tracks: RefCell::new(spec.classes().iter().map(|_| Track::new(interval)).collect()),
            events: RefCell::new(Track::new(interval)),
            errors: RefCell::default(),
            in_flight: RefCell::new(vec![None; slots]),
            failures: Cell::new(0),
            shared,
        }
    }

    /// A request has been sent that was due then.
    pub fn sent(&self, slot: usize, due: Instant) {
        self.in_flight.borrow_mut()[slot] = Some(due);
    }

    /// There was nothing to send after all.
    pub fn retired(&self, slot: usize) {
        self.in_flight.borrow_mut()[slot] = None;
    }

    /// It has been answered.
    pub fn answered(&self, slot: usize, class: usize, due: Instant, now: Instant) {
        self.in_flight.borrow_mut()[slot] = None;
        self.tracks.borrow_mut()[class].record(&self.window, due, now);
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// It has failed.
    pub fn failed(&self, slot: usize, error: &CallError) {
        self.in_flight.borrow_mut()[slot] = None;
        self.errors.borrow_mut().add(error.to_string());
        self.failures.set(self.failures.get() + 1);
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there were so many errors that going on is pointless.
    pub fn is_broken(&self) -> bool {
        self.failures.get() > ERRORS_MAX
    }
}

impl Part {
    fn run(&self, ready: &mpsc::Sender<Result<(), String>>) -> Result<ThreadOutcome, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        LocalSet::new().block_on(&runtime, async {
            let prepared = match self.prepare().await {
                Ok(prepared) => prepared,
                Err(error) => {
                    let _ = ready.send(Err(error.to_string()));
                    return Err(error.to_string());
                }
            };
            let _ = ready.send(Ok(()));
            let mut plan = self.plan.clone();
            let plan = match plan.wait_for(Option::is_some).await {
                Ok(plan) => plan.expect("waited for it"),
                Err(_) => return Err("the run was given up".to_owned()),
            };
            self.send(prepared, plan).await
        })
    }

    /// The numbers out of `0..total` that fall to this thread.
    fn share(&self, total: usize) -> impl Iterator<Item = usize> + use<> {
        (self.index..total).step_by(self.spec.threads)
    }

    async fn prepare(&self) -> Result<Prepared, CallError> {
        let (mut connections, mut lines) = (Vec::new(), Vec::new());
        for number in self.share(self.spec.connections) {
            let address = self.target.of_connection(number);
            if self.is_lean() {
                lines.push(Line::open(address).await?);
            } else {
                connections.push(Connection::open(address).await?);
            }
        }
        let mut leases = Vec::new();
        if self.spec.kind == Kind::LeaseKeepalive {
            let numbers: Vec<usize> = self.share(self.spec.keys as usize).collect();
            let connection = connections.first().ok_or(CallError::Malformed("fewer connections than threads"))?;
            leases = slots::grant_leases(self.target.of_connection(self.index), connection, &numbers).await?;
        }
        let mut watchers = Vec::new();
        for number in self.share(self.spec.watch_connections) {
            watchers.push(watchers::WatchStream::open(self.target.of_connection(number), &self.spec, number).await?);
        }
        Ok(Prepared { connections, lines, leases: leases.into(), watchers })
    }

    async fn send(&self, prepared: Prepared, plan: Plan) -> Result<ThreadOutcome, String> {
        let spec = &self.spec;
        let slots = (prepared.connections.len() + prepared.lines.len()) * spec.streams;
        let record = Rc::new(Record::new(spec, plan.window, slots, self.shared.clone()));
        let share = slots as f64 / spec.slots() as f64;
        let limit = spec.max_requests.map_or(u64::MAX, |limit| (limit as f64 * share).ceil() as u64);
        let pace = Rc::new(match spec.rate {
            None => Pace::closed(plan.start, plan.window.end, limit),
            Some(rate) => Pace::open(plan.start, plan.window.end, limit, rate * share),
        });
        let mut watching = JoinSet::new();
        for stream in prepared.watchers {
            watching.spawn_local(stream.follow(record.clone()));
        }
        tokio::time::sleep_until(tokio::time::Instant::from_std(plan.start)).await;
        let sending = self.start_sending(prepared.connections, prepared.lines, &prepared.leases, &pace, &record);
        let (mut sending, _connections) = sending;
        let unsent = finish_sending(&pace, &mut sending).await?;
        let (given_up, unanswered) = give_up_unanswered(&record, sending).await;
        self.shared.threads_sending.fetch_sub(1, Ordering::SeqCst);
        self.finish_watching(watching).await;

        let record = Rc::into_inner(record).expect("all tasks have ended");
        let mut tracks = record.tracks.into_inner();
        for due in &unsent {
            tracks[0].record_unanswered(&plan.window, *due, given_up);
        }
        let (events, errors) = (record.events.into_inner(), record.errors.into_inner());
        Ok(ThreadOutcome { tracks, events, errors, unanswered, unsent: unsent.len() as u64 })
    }

    /// Whether the cheap client can send what this workload sends.
    fn is_lean(&self) -> bool {
        self.spec.kind != Kind::LeaseKeepalive && self.spec.value_bytes + REQUEST_OVERHEAD_BYTES <= lean::BODY_BYTES_MAX
    }

    /// Starts all slots. The connections returned live as long as they are held.
    fn start_sending(
        &self,
        connections: Vec<Connection>,
        lines: Vec<Line>,
        leases: &Rc<[i64]>,
        pace: &Rc<Pace>,
        record: &Rc<Record>,
    ) -> (JoinSet<()>, Vec<Connection>) {
        // Authority in a request's head: servers do not look at it, so that of the first member does for all.
        let (spec, address) = (&self.spec, self.target.of_connection(0));
        let mut sending = JoinSet::new();
        let methods = Methods::new(address);
        // The number of a slot within the run, from the numbers of its connection and stream within the thread.
        let global = |connection: usize, stream| stream + spec.streams * (self.index + spec.threads * connection);
        for (number, line) in lines.into_iter().enumerate() {
            let source = |stream| workload::source(spec, &methods, global(number, stream));
            let sources = (0..spec.streams).map(source).collect();
            let (pace, record) = (pace.clone(), record.clone());
            sending.spawn_local(line.run(Crew { first_slot: number * spec.streams, sources, pace, record }));
        }
        for (number, connection) in connections.iter().enumerate() {
            for stream in 0..spec.streams {
                let (slot, sender) = (number * spec.streams + stream, connection.sender());
                let seat = Seat { slot, pace: pace.clone(), record: record.clone(), sender };
                if spec.kind == Kind::LeaseKeepalive {
                    sending.spawn_local(seat.keep_alive(address, leases.clone(), global(number, stream)));
                } else {
                    sending.spawn_local(seat.unary(workload::source(spec, &methods, global(number, stream))));
                }
            }
        }
        (sending, connections)
    }

    /// Lets watchers go on until each put has arrived everywhere, or the grace is over.
    async fn finish_watching(&self, mut watching: JoinSet<()>) {
        let deadline = Instant::now() + WATCH_GRACE;
        let per_put = self.spec.events_per_put();
        while !watching.is_empty() && Instant::now() < deadline {
            let sending = self.shared.threads_sending.load(Ordering::SeqCst);
            let due = self.shared.answered.load(Ordering::SeqCst) * per_put;
            if sending == 0 && self.shared.events.load(Ordering::SeqCst) >= due {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        watching.shutdown().await;
    }
}

struct Prepared {
    connections: Vec<Connection>,
    lines: Vec<Line>,
    leases: Rc<[i64]>,
    watchers: Vec<watchers::WatchStream>,
}

/// Watchers of a spec on connections of their own, created and held; nothing is read from them.
pub async fn hold_watchers(address: Endpoint, spec: &Spec) -> Result<Vec<impl Sized + use<>>, CallError> {
    let mut streams = Vec::with_capacity(spec.watch_connections);
    for number in 0..spec.watch_connections {
        streams.push(watchers::WatchStream::open(address, spec, number).await?);
    }
    Ok(streams)
}

/// Drives the pace to its end and waits for the slots; returns when the requests never sent were due.
async fn finish_sending(pace: &Pace, sending: &mut JoinSet<()>) -> Result<Vec<Instant>, String> {
    let all_done = async { while sending.join_next().await.is_some() {} };
    tokio::pin!(all_done);
    tokio::select! {
        driven = pace.drive() => driven.map_err(|error| error.to_string())?,
        () = &mut all_done => return Ok(pace.close()),
    }
    let unsent = pace.close();
    let _ = tokio::time::timeout(GRACE, all_done).await;
    Ok(unsent)
}

/// Ends what is still in flight and counts it with the age it reached.
async fn give_up_unanswered(record: &Record, mut sending: JoinSet<()>) -> (Instant, u64) {
    sending.shutdown().await;
    let now = Instant::now();
    let mut unanswered = 0;
    for due in record.in_flight.borrow_mut().drain(..).flatten() {
        record.tracks.borrow_mut()[0].record_unanswered(&record.window, due, now);
        unanswered += 1;
    }
    (now, unanswered)
}

/// The progress line on standard error, once a second, if that is a terminal; else every ten seconds.
struct Progress {
    label: String,
    total: Duration,
    started: Instant,
    printed: Instant,
    answered: u64,
    terminal: bool,
}

impl Progress {
    fn new(label: &str, spec: &Spec) -> Progress {
        let total = Duration::from_secs_f64(spec.warmup_seconds + spec.seconds);
        let terminal = std::io::stderr().is_terminal();
        let now = Instant::now();
        Progress { label: label.to_owned(), total, started: now, printed: now, answered: 0, terminal }
    }

    /// Waits until `until`, or until all threads have ended, and prints now and then.
    fn follow(&mut self, shared: &Shared, until: Instant) {
        let every = Duration::from_secs(if self.terminal { 1 } else { 10 });
        loop {
            let now = Instant::now();
            if now >= until || shared.threads_running.load(Ordering::SeqCst) == 0 {
                return;
            }
            if now >= self.printed + every {
                self.print(shared, now);
            }
            std::thread::sleep((until - now).min(Duration::from_millis(10)));
        }
    }

    fn print(&mut self, shared: &Shared, now: Instant) {
        let answered = shared.answered.load(Ordering::Relaxed);
        let rate = (answered - self.answered) as f64 / (now - self.printed).as_secs_f64();
        let line = format!(
            "{}: {:.0} of {:.0} s, {rate:.0} requests/s, {} errors, {} events",
            self.label,
            (now - self.started).as_secs_f64(),
            self.total.as_secs_f64(),
            shared.failed.load(Ordering::Relaxed),
            shared.events.load(Ordering::Relaxed),
        );
        let (before, after) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let _ = write!(std::io::stderr(), "{before}{line}{after}");
        self.printed = now;
        self.answered = answered;
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
