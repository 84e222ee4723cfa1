//! What a new connection costs a server: in clear, with a full handshake, and with a session taken up again. Each
//! connection makes one call, by whose answer the server has surely finished the handshake, and is closed.
//!
//! Servers take turns; the same certificates, suite and curve for all of them.

use super::{Failure, Machine, write_json};
use crate::certificates::Certificates;
use crate::cli::HandshakesArgs;
use crate::endpoint::{Endpoint, Wire};
use crate::grpc::{self, CallError, Connection, Keep, Method};
use crate::process;
use crate::report::Table;
use crate::server::{Program, Security, Server};
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::RangeRequest;
use rustls::HandshakeKind;
use serde::Serialize;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};

/// Time for connections that are not measured: caches of sessions fill, threads start.
const WARM_UP: Duration = Duration::from_millis(500);
/// Flow-control windows; hardly anything flows.
const WINDOW_BYTES: u32 = 65_535;

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Way {
    Clear,
    Full,
    Resumed,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Clear => "in clear",
            Way::Full => "full handshake",
            Way::Resumed => "session resumed",
        }
    }
}

/// Connections of one way to one server, all turns together.
#[derive(Serialize)]
struct Row {
    way: Way,
    server: String,
    connections: u64,
    /// Of these, how many sessions were taken up again.
    resumed: u64,
    failures: u64,
    seconds: f64,
    server_cpu_micros: f64,
    generator_cpu_micros: f64,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    clients: usize,
    rows: Vec<Row>,
}

/// `plinth-perf handshakes`.
pub fn handshakes(arguments: &HandshakesArgs) -> Result<(), Failure> {
    let certificates = Certificates::make(&arguments.servers.data.join("certificates"))?;
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..arguments.repetitions {
        for way in [Way::Clear, Way::Full, Way::Resumed] {
            for program in arguments.servers.programs()? {
                add(&mut rows, measure(arguments, &program, way, certificates)?);
            }
        }
    }
    println!("{}", table(&rows).render());
    let results = Results { machine: Machine::here(), clients: arguments.clients, rows };
    write_json(&arguments.servers.out.join("handshakes.json"), &results)
}

/// Joins the turns of the same way and server.
fn add(rows: &mut Vec<Row>, row: Row) {
    let same = |other: &&mut Row| other.way == row.way && other.server == row.server;
    let Some(sum) = rows.iter_mut().find(same) else { return rows.push(row) };
    let all = (sum.connections + row.connections).max(1) as f64;
    let weighted = |a: f64, b: f64| (a * sum.connections as f64 + b * row.connections as f64) / all;
    sum.server_cpu_micros = weighted(sum.server_cpu_micros, row.server_cpu_micros);
    sum.generator_cpu_micros = weighted(sum.generator_cpu_micros, row.generator_cpu_micros);
    sum.connections += row.connections;
    sum.resumed += row.resumed;
    sum.failures += row.failures;
    sum.seconds += row.seconds;
}

fn measure(
    arguments: &HandshakesArgs,
    program: &Program,
    way: Way,
    certificates: &'static Certificates,
) -> Result<Row, Failure> {
    let security = Security { certificates: Some(certificates), tls: way != Way::Clear, users: None };
    let program = Program { security, ..program.clone() };
    let server = Server::start(&program, &arguments.servers.data)?;
    let mut endpoint = server.address();
    if way == Way::Resumed {
        endpoint.tls = Some(certificates.resuming);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let counts = Rc::new(Counts::default());
        let end = Instant::now() + WARM_UP + Duration::from_secs_f64(arguments.seconds);
        let mut clients = JoinSet::new();
        for _ in 0..arguments.clients {
            clients.spawn_local(client(endpoint, end, counts.clone()));
        }
        tokio::time::sleep(WARM_UP).await;
        let own = std::process::id();
        let before = (Instant::now(), counts.now(), process::usage(server.pid())?, process::usage(own)?);
        tokio::time::sleep_until(tokio::time::Instant::from_std(end)).await;
        let after = (Instant::now(), counts.now(), process::usage(server.pid())?, process::usage(own)?);
        clients.join_all().await;
        let [connections, resumed, failures] = std::array::from_fn(|which| after.1[which] - before.1[which]);
        let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1e6 / connections.max(1) as f64;
        Ok(Row {
            way,
            server: program.label.clone(),
            connections,
            resumed,
            failures,
            seconds: (after.0 - before.0).as_secs_f64(),
            server_cpu_micros: each(before.2.cpu, after.2.cpu),
            generator_cpu_micros: each(before.3.cpu, after.3.cpu),
        })
    })
}

#[derive(Default)]
struct Counts {
    connections: Cell<u64>,
    resumed: Cell<u64>,
    failures: Cell<u64>,
}

impl Counts {
    fn now(&self) -> [u64; 3] {
        [&self.connections, &self.resumed, &self.failures].map(Cell::get)
    }
}

/// Connects again and again.
async fn client(endpoint: Endpoint, end: Instant, counts: Rc<Counts>) {
    let count = |cell: &Cell<u64>| cell.set(cell.get() + 1);
    while Instant::now() < end {
        match visit(endpoint).await {
            Ok((_connection, was_resumed)) => {
                count(&counts.connections);
                if was_resumed {
                    count(&counts.resumed);
                }
            }
            Err(_) => count(&counts.failures),
        }
    }
}

/// Connects and makes one call. Says whether a session was taken up again.
pub(super) async fn visit(endpoint: Endpoint) -> Result<(Connection, bool), CallError> {
    let wire = endpoint.dial().await?;
    let was_resumed = match &wire {
        Wire::Clear(_) => false,
        Wire::Tls(stream) => stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let connection = Connection::over(wire, WINDOW_BYTES, WINDOW_BYTES).await?;
    let request = RangeRequest { key: b"nothing".as_slice().into(), serializable: true, ..Default::default() };
    let method = Method::new(endpoint, methods::RANGE.path);
    grpc::unary(&mut connection.sender(), &method, grpc::frame(&request), Keep::Nothing).await?;
    Ok((connection, was_resumed))
}

/// A handshake's cost is what a connection takes beyond one in clear.
fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(&["connections", "server", "per second", "CPU µs", "beyond clear", "resumed", "gen µs", "trouble"]);
    for row in rows {
        let clear = rows.iter().find(|other| other.way == Way::Clear && other.server == row.server);
        let beyond = clear.map_or(f64::NAN, |clear| row.server_cpu_micros - clear.server_cpu_micros);
        table.row(vec![
            row.way.name().to_owned(),
            row.server.clone(),
            format!("{:.0}", row.connections as f64 / row.seconds),
            format!("{:.0}", row.server_cpu_micros),
            if row.way == Way::Clear { String::new() } else { format!("{beyond:.0}") },
            format!("{:.0} %", row.resumed as f64 * 100.0 / row.connections.max(1) as f64),
            format!("{:.0}", row.generator_cpu_micros),
            if row.failures > 0 { format!("{} failed", row.failures) } else { String::new() },
        ]);
    }
    table
}
