//! How long a cluster takes no writes when its leader goes: killed (`kill -9`) and asked to end (SIGTERM).
//!
//! Every member is sent a put every few milliseconds whether or not the earlier ones were answered, so that the first
//! answer after the event is found to within that time. What counts is what clients of the *other* members see.

use super::{Failure, Machine, write_json};
use crate::cli::FailoverArgs;
use crate::endpoint::Endpoint;
use crate::grpc::{self, CallError, Connection, Keep, Method};
use crate::measure::Errors;
use crate::report::{Table, micros};
use crate::server::{Cluster, Program};
use crate::workload::{key, value};
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::PutRequest;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};

/// Time between two puts to the same member.
const EVERY: Duration = Duration::from_millis(4);
/// Quiet time before the event, and after the first write behind it.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(2);
/// Longest wait for that write.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Pause before a connection that failed is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Time for a member that was started again to catch up, before the next event.
const SETTLE: Duration = Duration::from_secs(2);

/// What happens to the leader.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Event {
    Kill,
    Terminate,
}

/// What the clients of the other members saw. In microseconds.
#[derive(Clone, Serialize)]
struct Pause {
    event: Event,
    /// From the event to the answer to a put that was sent behind it.
    next_write: f64,
    /// The longest time without any answer from shortly before the event on.
    longest_gap: f64,
    errors: Errors,
    /// Puts that had no answer at the end.
    unanswered: u64,
}

#[derive(Serialize)]
struct Failovers {
    server: String,
    pauses: Vec<Pause>,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    members: usize,
    servers: Vec<Failovers>,
}

/// `plinth-perf failover`.
pub fn failover(arguments: &FailoverArgs) -> Result<(), Failure> {
    if arguments.members < 3 {
        return Err("a cluster that survives its leader has three members or more".into());
    }
    let mut servers = Vec::new();
    for program in arguments.servers.programs()? {
        let pauses = measure(arguments, &program)?;
        let failovers = Failovers { server: program.label, pauses };
        show(&failovers);
        servers.push(failovers);
    }
    let results = Results { machine: Machine::here(), members: arguments.members, servers };
    write_json(&arguments.servers.out.join("failover.json"), &results)
}

fn show(failovers: &Failovers) {
    let mut table = Table::new(&[
        "the leader is",
        "server",
        "times",
        "to the next write",
        "least",
        "most",
        "longest gap",
        "errors",
        "unanswered",
    ]);
    for (event, name) in [(Event::Kill, "killed"), (Event::Terminate, "asked to end")] {
        let of_event = || failovers.pauses.iter().filter(|pause| pause.event == event);
        let sorted = |value: fn(&Pause) -> f64| {
            let mut values: Vec<f64> = of_event().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (next, gap) = (sorted(|pause| pause.next_write), sorted(|pause| pause.longest_gap));
        let (Some(least), Some(most)) = (next.first(), next.last()) else { continue };
        let middle = next.len() / 2;
        let mut row = vec![name.to_owned(), failovers.server.clone(), next.len().to_string()];
        row.extend([next[middle], *least, *most, gap[middle]].map(micros));
        row.push(of_event().map(|pause| pause.errors.total()).sum::<u64>().to_string());
        row.push(of_event().map(|pause| pause.unanswered).sum::<u64>().to_string());
        table.row(row);
    }
    println!("{}", table.render());
    let mut errors = Errors::default();
    failovers.pauses.iter().for_each(|pause| errors.merge(&pause.errors));
    errors.0.iter().for_each(|(text, count)| println!("{}: {count} × {text}", failovers.server));
}

fn measure(arguments: &FailoverArgs, program: &Program) -> Result<Vec<Pause>, Failure> {
    let mut cluster = Cluster::start(program, &arguments.servers.data, arguments.members)?;
    let mut pauses = Vec::new();
    for repetition in 1..=arguments.repetitions {
        for event in [Event::Kill, Event::Terminate] {
            let pause = once(&mut cluster, event)?;
            let what = if event == Event::Kill { "kill" } else { "terminate" };
            eprintln!("{} {what} {repetition}/{}: {}", program.label, arguments.repetitions, micros(pause.next_write));
            pauses.push(pause);
        }
    }
    Ok(pauses)
}

/// One event, and the member back in its place behind it.
fn once(cluster: &mut Cluster, event: Event) -> Result<Pause, Failure> {
    let leader = cluster.leader()?;
    let addresses = cluster.target().addresses;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let victim = &mut cluster.members()[leader];
    let strike = || if event == Event::Kill { victim.kill() } else { victim.terminate() };
    let others = addresses.iter().enumerate().filter(|(number, _)| *number != leader).map(|(_, address)| *address);
    let pause = LocalSet::new().block_on(&runtime, watch_writes(others.collect(), event, strike))?;
    victim.wait_ended();
    victim.start_again()?;
    victim.wait_ready()?;
    std::thread::sleep(SETTLE);
    Ok(pause)
}

/// What the probes saw.
#[derive(Default)]
struct Seen {
    /// When each acknowledged put was sent and answered, in the order of the answers.
    acknowledged: RefCell<Vec<(Instant, Instant)>>,
    errors: RefCell<Errors>,
    number: Cell<u64>,
}

async fn watch_writes(
    addresses: Vec<Endpoint>,
    event: Event,
    strike: impl FnOnce() -> std::io::Result<()>,
) -> Result<Pause, Failure> {
    let seen = Rc::new(Seen::default());
    let mut probes = JoinSet::new();
    for address in addresses {
        probes.spawn_local(probe(address, seen.clone()));
    }
    tokio::time::sleep(BEFORE).await;
    if seen.acknowledged.borrow().is_empty() {
        return Err(format!("no put was acknowledged before the event: {:?}", seen.errors.borrow()).into());
    }
    let struck = Instant::now();
    strike()?;
    let next = loop {
        tokio::time::sleep(EVERY).await;
        let answered =
            |list: &Vec<(Instant, Instant)>| list.iter().rev().filter(|put| put.0 >= struck).map(|put| put.1).min();
        if let Some(next) = answered(&seen.acknowledged.borrow()) {
            break next;
        }
        if struck.elapsed() > TIME_MAX {
            return Err(format!("no put was acknowledged after the event: {:?}", seen.errors.borrow()).into());
        }
    };
    tokio::time::sleep(AFTER).await;
    probes.shutdown().await;
    let answers: Vec<Instant> = seen.acknowledged.borrow().iter().map(|put| put.1).collect();
    let gaps = answers.windows(2).filter(|pair| pair[1] >= struck).map(|pair| pair[1] - pair[0]);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let longest_gap = gaps.max().map_or(0.0, micros);
    let errors = seen.errors.take();
    let unanswered = seen.number.get() - answers.len() as u64 - errors.total();
    Ok(Pause { event, next_write: micros(next - struck), longest_gap, errors, unanswered })
}

/// Puts to one member until aborted.
async fn probe(address: Endpoint, seen: Rc<Seen>) {
    let method = Rc::new(Method::new(address, methods::PUT.path));
    loop {
        let Ok(connection) = Connection::open(address).await else {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            continue;
        };
        let broken = Rc::new(Cell::new(false));
        let mut puts = JoinSet::new();
        let mut ticks = tokio::time::interval(EVERY);
        while !broken.get() {
            ticks.tick().await;
            let (mut sender, method, seen, broken) =
                (connection.sender(), method.clone(), seen.clone(), broken.clone());
            puts.spawn_local(async move {
                let sent = Instant::now();
                match put(&mut sender, &method, &seen).await {
                    Ok(_) => seen.acknowledged.borrow_mut().push((sent, Instant::now())),
                    Err(error) => {
                        broken.set(broken.get() || !error.is_status());
                        seen.errors.borrow_mut().add(error.to_string());
                    }
                }
            });
            while puts.try_join_next().is_some() {}
        }
    }
}

async fn put(sender: &mut grpc::Sender, method: &Method, seen: &Seen) -> Result<bytes::Bytes, CallError> {
    seen.number.set(seen.number.get() + 1);
    let request = PutRequest { key: key(seen.number.get()).into(), value: value(64).into(), ..Default::default() };
    grpc::unary(sender, method, grpc::frame(&request), Keep::Nothing).await
}
