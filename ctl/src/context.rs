//! What every command of etcdctl works with: endpoints, limits, and the way of printing.

use crate::failure::{Exit, Failure};
use crate::flags::Globals;
use crate::output::{Format, Report, render};
use crate::rpc::{Client, MEMBER_LIST};
use plinth_net::proto::etcdserverpb::MemberListRequest;
use std::future::Future;
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Pause between attempts to connect.
const RETRY: Duration = Duration::from_millis(100);

/// The choices a command inherits.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where servers may be.
    pub endpoints: Vec<String>,
    /// Limit for short commands.
    pub command_timeout: Duration,
    /// Limit for connecting.
    pub dial_timeout: Duration,
    /// How to print.
    pub format: Format,
    /// Byte strings and ids in hexadecimal.
    pub hex: bool,
}

impl Context {
    /// From flags that were parsed.
    pub fn new(globals: &Globals) -> Result<Context, Failure> {
        globals.refuse_unsupported()?;
        let endpoints: Vec<_> = globals.endpoints.iter().filter(|text| !text.is_empty()).cloned().collect();
        if endpoints.is_empty() {
            return Err(Failure::new(Exit::BadConnection, "no endpoint given"));
        }
        Ok(Context {
            endpoints,
            command_timeout: globals.command_timeout,
            dial_timeout: globals.dial_timeout,
            format: Format::parse(&globals.write_out)?,
            hex: globals.hex,
        })
    }

    /// Runs a short command: all of it, connecting included, within the limit.
    pub async fn limited<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::time::timeout(self.command_timeout, work).await.unwrap_or_else(|_| Err(Failure::deadline()))
    }

    /// Connects to the first endpoint that answers, trying again until `limited` ends the command.
    pub async fn connect(&self) -> Result<Client, Failure> {
        loop {
            if let Ok(client) = self.try_all().await {
                return Ok(client);
            }
            sleep(RETRY).await;
        }
    }

    /// Connects for a command that has no limit of its own: the one for connecting holds.
    pub async fn connect_unlimited(&self) -> Result<Client, Failure> {
        let end = Instant::now() + self.dial_timeout;
        let mut last = Failure::deadline().exiting(Exit::BadConnection);
        while let Ok(tried) = timeout_at(end, self.try_all()).await {
            match tried {
                Ok(client) => return Ok(client),
                Err(failure) => last = failure,
            }
            sleep(RETRY).await;
        }
        Err(last)
    }

    async fn try_all(&self) -> Result<Client, Failure> {
        let mut last = Failure::deadline();
        for endpoint in &self.endpoints {
            match Client::connect(endpoint, self.dial_timeout).await {
                Ok(client) => return Ok(client),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// The endpoints given, or with `--cluster` those of all members.
    pub async fn endpoints(&self, cluster: bool) -> Result<Vec<String>, Failure> {
        if !cluster {
            return Ok(self.endpoints.clone());
        }
        let request = MemberListRequest { linearizable: true };
        let list = self.limited(async { self.connect().await?.call(&MEMBER_LIST, request).await }).await?;
        Ok(list.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
    }

    /// Prints what was found.
    pub fn print(&self, report: &dyn Report) -> Result<(), Failure> {
        print(&render(report, self.format, self.hex)?)
    }
}

/// Writes to standard output at once: what reads it may be waiting.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}
