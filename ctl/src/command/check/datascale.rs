//! `check datascale`: how much more memory a server takes for many keys, as its metrics say.

use super::After;
use super::load::{Load, Shape, place, report_errors, see_that_it_is_empty, tidy_up, write};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Writes in all, and clients.
const LOADS: [Load; 4] = [
    Load { limit: 10_000, clients: 50 },
    Load { limit: 100_000, clients: 200 },
    Load { limit: 1_000_000, clients: 500 },
    Load { limit: 3_000_000, clients: 1000 },
];

const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 512;

/// The figure that is compared.
const FIGURE: &str = "process_resident_memory_bytes";

/// How long the metrics may take.
const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the command.
pub async fn run(context: &Context, load: &str, prefix: &str, after: After) -> Result<(), Failure> {
    let load = LOADS[place(load)?];
    let hint = format!("etcdctl del --prefix {prefix}");
    see_that_it_is_empty(&context.cluster(), prefix, &hint).await?;
    let before = memory(context, "before").await?;
    let (pairs, bytes, clients) = (load.limit, KEY_BYTES + VALUE_BYTES, load.clients);
    let start = format!(
        "Start data scale check for work load [{pairs} key-value pairs, {bytes} bytes per key-value, {clients} \
         concurrent clients].\n"
    );
    print(start.as_bytes())?;
    let shape = Shape { prefix: prefix.to_owned(), key_bytes: KEY_BYTES, value: vec![0; VALUE_BYTES].into() };
    let due = move |number: u64| (number < load.limit).then(Instant::now);
    let writes = write(context, load, &shape, Arc::new(due)).await;
    let used = memory(context, "after").await? - before;
    tidy_up(context, prefix, after).await?;
    if report_errors(&writes)? {
        return Err(Failure::new(Exit::Error, ""));
    }
    let megabytes = used / f64::from(1 << 20);
    print(format!("PASS: Approximate system memory used : {megabytes:.2} MB.\n").as_bytes())
}

/// What the first endpoint takes of the memory.
async fn memory(context: &Context, when: &str) -> Result<f64, Failure> {
    let endpoint = context.endpoints[0].strip_prefix("http://").unwrap_or(&context.endpoints[0]);
    let read = timeout(METRICS_TIMEOUT, metrics(endpoint)).await;
    let read = read.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    match read.as_deref().map(figure) {
        Ok(Some(bytes)) => Ok(bytes),
        failed => {
            if let Err(error) = failed {
                print(format!("fetch error: {error}\n").as_bytes())?;
            }
            print(format!("FAIL: Could not read {FIGURE} {when} the put operations.\n").as_bytes())?;
            Err(Failure::new(Exit::Error, ""))
        }
    }
}

/// The text of a server's metrics.
async fn metrics(endpoint: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(endpoint).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The figure among metrics; nothing if it is not there, or nothing.
fn figure(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(FIGURE)?.strip_prefix(' '));
    line?.trim().parse().ok().filter(|bytes| *bytes > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_figure() {
        let text = "# HELP process_resident_memory_bytes x\r\nprocess_resident_memory_bytes 2.5e+07\n";
        assert_eq!(figure(text), Some(25e6));
        assert_eq!(figure("process_resident_memory_bytes 0\n"), None);
        assert_eq!(figure(""), None);
    }
}
