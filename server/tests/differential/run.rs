//! Sends a sequence to two servers, one operation after the other, and compares everything they say.

use super::op::{self, Op};
use super::plant::Plant;
use super::side::{CONTRACT, Side};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// Time at the end in which nothing more may come.
const QUIET: Duration = Duration::from_millis(300);
/// With this the reference says that the machine is too busy for it. Whether it has applied the operation is open, so
/// the run is worth nothing, and it is no fault of the subject's.
const REFERENCE_OVERLOADED: &str = "etcdserver: request timed out";

/// What a run saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Operations by name.
    pub operations: BTreeMap<&'static str, usize>,
    /// Error messages and cancel reasons.
    pub refusals: BTreeMap<String, usize>,
    /// Events delivered to watchers under test.
    pub events: usize,
}

/// A difference, or a server that broke a rule of its own.
#[derive(Debug)]
pub struct Mismatch {
    /// Index of the operation.
    pub at: usize,
    /// The operation as generated and what is wrong with its answers.
    pub what: String,
    /// The run shows nothing, because the machine was too busy for the reference.
    pub is_void: bool,
}

/// What is compared with what.
#[derive(Clone, Copy)]
pub struct Servers<'a> {
    pub reference: &'a Path,
    pub subject: &'a Path,
    /// What both are told besides.
    pub arguments: &'a [String],
}

/// The reference and the subject, running.
pub struct Pair {
    reference: Side,
    subject: Side,
    seen: Seen,
    is_void: bool,
}

impl Pair {
    /// Starts both.
    pub async fn start(servers: Servers<'_>) -> Result<Pair, String> {
        let start = |binary| Side::start(binary, servers.arguments);
        let (reference, subject) = tokio::join!(start(servers.reference), start(servers.subject));
        let (mut reference, subject) = (reference?, subject?);
        reference.translate = reference.version() < CONTRACT && subject.version() >= CONTRACT;
        Ok(Pair { reference, subject, seen: Seen::default(), is_void: false })
    }

    /// Plants a fault into what the subject says, to see whether it is found.
    pub fn plant(&mut self, plant: Plant) {
        self.subject.plant = Some(plant);
    }

    /// Whether the planted fault has had its occasion.
    pub fn planted(&self) -> bool {
        self.subject.plant.as_ref().is_some_and(Plant::is_done)
    }

    /// Runs a sequence; stops at the first difference.
    pub async fn run(&mut self, ops: &[Op]) -> Result<(), Mismatch> {
        for (at, op) in ops.iter().enumerate() {
            *self.seen.operations.entry(op::name(op)).or_insert(0) += 1;
            if let Err(what) = self.step(op).await {
                let what = format!("{}{what}{}", op::show(std::slice::from_ref(op)), self.post_mortem().await);
                return Err(Mismatch { at, what, is_void: self.is_void });
            }
        }
        sleep(QUIET).await;
        self.settle().await.map_err(|what| Mismatch {
            at: ops.len(),
            what: format!("after the last operation: {what}"),
            is_void: false,
        })
    }

    /// What is to be said of servers that ended.
    async fn post_mortem(&mut self) -> String {
        sleep(QUIET).await;
        let sides = [("reference", &mut self.reference), ("subject", &mut self.subject)];
        let ended = sides.into_iter().filter_map(|(name, side)| Some((name, side.server.post_mortem()?)));
        ended.map(|(name, what)| format!("\nthe {name}: {what}")).collect()
    }

    /// What happened so far.
    pub fn into_seen(mut self) -> Seen {
        for side in [&mut self.reference, &mut self.subject] {
            let watchers = side.streams.open_ones().flat_map(|(_, stream)| stream.watchers.values());
            self.seen.events += watchers.map(|watcher| watcher.events.len()).sum::<usize>();
        }
        self.seen
    }

    async fn step(&mut self, op: &Op) -> Result<(), String> {
        let (reference, subject) = (&mut self.reference, &mut self.subject);
        match op {
            Op::Watch(stream, request) => {
                let both = tokio::join!(reference.watch(*stream, request), subject.watch(*stream, request));
                which(both)?;
            }
            Op::Cancel(stream, request) => {
                let both = tokio::join!(reference.cancel(*stream, *request), subject.cancel(*stream, *request));
                which(both)?;
            }
            Op::Progress(stream) => {
                let (left, right) = which(tokio::join!(reference.progress(*stream), subject.progress(*stream)))?;
                compare("the revision of a progress answer", &format!("{left:?}"), &format!("{right:?}"))?;
            }
            Op::CloseStream(stream) => {
                reference.streams.close(*stream);
                subject.streams.close(*stream);
            }
            Op::As(caller) => {
                reference.ask_as(*caller);
                subject.ask_as(*caller);
            }
            Op::Expire(puts) => {
                let both = tokio::join!(reference.expire(puts), subject.expire(puts));
                let (left, right) = which(both)?;
                compare("answers", &left, &right)?;
            }
            unary => {
                let (left, right) = tokio::join!(reference.answer(unary), subject.answer(unary));
                self.is_void = left.contains(REFERENCE_OVERLOADED);
                if let Some(message) = refusal(&left) {
                    *self.seen.refusals.entry(message).or_insert(0) += 1;
                }
                compare("answers", &left, &right)?;
            }
        }
        self.settle().await
    }

    async fn settle(&mut self) -> Result<(), String> {
        which(tokio::join!(self.reference.settle(), self.subject.settle()))?;
        let control = self.reference.new_control();
        for reason in control.lines().filter_map(|line| line.trim().strip_prefix("cancel_reason: ")) {
            if reason != "\"\"," {
                *self.seen.refusals.entry(reason.to_owned()).or_insert(0) += 1;
            }
        }
        compare("watch control messages", &control, &self.subject.new_control())?;
        compare("events", &self.reference.new_events(), &self.subject.new_events())
    }
}

/// The results of both, or whose fault it is that there are none.
fn which<T>(both: (Result<T, String>, Result<T, String>)) -> Result<(T, T), String> {
    let left = both.0.map_err(|what| format!("the REFERENCE: {what}"))?;
    let right = both.1.map_err(|what| format!("the subject: {what}"))?;
    Ok((left, right))
}

/// The message of a failed call, from its text.
fn refusal(text: &str) -> Option<String> {
    text.starts_with("Failure").then(|| text.lines().nth(2).unwrap_or_default().trim().to_owned())
}

/// Fails with a line-by-line difference.
fn compare(what: &str, reference: &str, subject: &str) -> Result<(), String> {
    if reference == subject {
        return Ok(());
    }
    let (left, right): (Vec<&str>, Vec<&str>) = (reference.lines().collect(), subject.lines().collect());
    let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
    let tail =
        left[same..].iter().rev().zip(right[same..].iter().rev()).take_while(|(left, right)| left == right).count();
    let show = |mark: &str, lines: &[&str]| lines.iter().map(|line| format!("{mark} {line}\n")).collect::<String>();
    let context = &left[same.saturating_sub(6)..same];
    Err(format!(
        "{what} differ (- reference, + subject):\n{}{}{}",
        show(" ", context),
        show("-", &left[same..left.len() - tail]),
        show("+", &right[same..right.len() - tail]),
    ))
}
