//! Where the time of requests goes, by what the server itself measured: its latency histograms are read from
//! `/metrics` before and after a load, and the differences are divided by the requests.
//!
//! A histogram's mean times its count is time spent, whoever spent it: stages that many requests share (a flush) show
//! a count far below one per request.

use super::{Failure, Machine, write_json};
use crate::cli::BudgetArgs;
use crate::drive;
use crate::endpoint::Endpoint;
use crate::prepare;
use crate::report::{Report, Table};
use crate::server::{Program, Server};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for the page.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sum and count of each histogram by its name and labels.
type Histograms = BTreeMap<String, (f64, f64)>;

#[derive(Serialize)]
struct Stage {
    name: String,
    per_request: f64,
    mean_micros: f64,
    micros_per_request: f64,
}

#[derive(Serialize)]
struct Budget {
    machine: Machine,
    report: Report,
    stages: Vec<Stage>,
}

/// `plinth-perf budget`.
pub fn budget(arguments: &BudgetArgs) -> Result<(), Failure> {
    for program in arguments.servers.programs()? {
        let budget = measure(arguments, &program)?;
        println!("{}", crate::report::table(std::slice::from_ref(&budget.report)).render());
        let mut table = Table::new(&["histogram", "server", "per request", "mean µs", "µs per request"]);
        for stage in &budget.stages {
            table.row(vec![
                stage.name.clone(),
                program.label.clone(),
                format!("{:.3}", stage.per_request),
                format!("{:.2}", stage.mean_micros),
                format!("{:.2}", stage.micros_per_request),
            ]);
        }
        println!("{}", table.render());
        write_json(&arguments.servers.out.join(format!("budget-{}.json", program.label)), &budget)?;
    }
    Ok(())
}

fn measure(arguments: &BudgetArgs, program: &Program) -> Result<Budget, Failure> {
    let spec = arguments.shape.spec(arguments.workload)?;
    let server = Server::start(program, &arguments.servers.data)?;
    prepare::fill(server.address(), 0..spec.keys_before(), spec.value_bytes)?;
    let before = histograms(&page(server.address())?);
    let outcome = drive::run(&server.target(), &spec, &format!("budget {}", program.label))?;
    let after = histograms(&page(server.address())?);
    // All requests, those of the warm-up included: the histograms know no window.
    let requests = outcome.answered as f64;
    let stages = after.iter().filter(|(name, _)| name.contains(&arguments.histograms)).filter_map(|(name, after)| {
        let before = before.get(name).copied().unwrap_or_default();
        let (seconds, count) = (after.0 - before.0, after.1 - before.1);
        (count > 0.0).then(|| Stage {
            name: name.clone(),
            per_request: count / requests,
            mean_micros: seconds * 1e6 / count,
            micros_per_request: seconds * 1e6 / requests,
        })
    });
    let mut stages: Vec<Stage> = stages.collect();
    stages.sort_by(|one, other| other.micros_per_request.total_cmp(&one.micros_per_request));
    let report = Report::new(&program.label, "", &spec, &[outcome]);
    Ok(Budget { machine: Machine::here(), report, stages })
}

/// The page `/metrics`, which every server of the API has on its port for clients.
fn page(address: Endpoint) -> Result<String, Failure> {
    let mut socket = TcpStream::connect_timeout(&address.address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    write!(socket, "GET /metrics HTTP/1.0\r\nhost: {address}\r\naccept: text/plain\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("/metrics: {}", head.lines().next().unwrap_or_default()).into());
    }
    Ok(body.to_owned())
}

/// Sums and counts out of Prometheus's text form.
fn histograms(page: &str) -> Histograms {
    let mut found = Histograms::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = series.split_at(series.find('{').unwrap_or(series.len()));
        let Ok(value) = value.parse::<f64>() else { continue };
        if let Some(family) = name.strip_suffix("_sum") {
            found.entry(format!("{family}{labels}")).or_default().0 = value;
        } else if let Some(family) = name.strip_suffix("_count") {
            found.entry(format!("{family}{labels}")).or_default().1 = value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_counts_are_found_with_their_labels() {
        let page = "# HELP a_seconds x y\n\
                    a_seconds_bucket{stage=\"x y\",le=\"+Inf\"} 4\n\
                    a_seconds_sum{stage=\"x y\"} 0.5\n\
                    a_seconds_count{stage=\"x y\"} 4\n\
                    b_seconds_sum 1e-3\n\
                    b_seconds_count 7\n\
                    c_total 3\n";
        let found = histograms(page);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found["a_seconds{stage=\"x y\"}"], (0.5, 4.0));
        assert_eq!(found["b_seconds"], (0.001, 7.0));
    }
}
