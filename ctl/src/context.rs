//! What every command of etcdctl works with: endpoints, limits, and the way of printing.

use crate::cluster::Cluster;
use crate::failure::{Exit, Failure};
use crate::flags::Globals;
use crate::output::print::print;
use crate::output::{Format, Report, render};
use crate::rpc::Options;
use plinth_api::methods::{MEMBER_LIST, Method};
use plinth_api::proto::etcdserverpb::MemberListRequest;
use prost::Message;
use std::future::Future;
use std::time::Duration;

/// The choices a command inherits.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where servers may be.
    pub endpoints: Vec<String>,
    /// Limit for short commands.
    pub command_timeout: Duration,
    /// The user chose that limit.
    pub command_timeout_given: bool,
    pub options: Options,
    pub format: Format,
    /// Byte strings and ids in hexadecimal.
    pub hex: bool,
}

impl Context {
    /// From flags that were parsed.
    pub fn new(globals: &Globals, command_timeout_given: bool) -> Result<Context, Failure> {
        let endpoints = globals.places()?;
        let options = globals.connection()?;
        if endpoints.is_empty() {
            return Err(Failure::new(Exit::BadConnection, "etcdclient: no available endpoints"));
        }
        let format = Format::parse(&globals.write_out)?;
        let (command_timeout, hex) = (globals.command_timeout, globals.hex);
        Ok(Context { endpoints, command_timeout, command_timeout_given, options, format, hex })
    }

    /// All endpoints as one.
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.endpoints.clone(), self.options.clone())
    }

    /// One endpoint alone.
    pub fn only(&self, endpoint: &str) -> Cluster {
        Cluster::new(vec![endpoint.to_owned()], self.options.clone())
    }

    /// Runs a short command: all of it, connecting included, within the limit.
    pub async fn limited<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::time::timeout(self.command_timeout, work).await.unwrap_or_else(|_| Err(Failure::deadline()))
    }

    /// One call within the limit.
    pub async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.limited(self.cluster().call(method, request)).await
    }

    /// The endpoints given, or with `--cluster` those of all members.
    pub async fn members_or_given(&self, cluster: bool) -> Result<Vec<String>, Failure> {
        if !cluster {
            return Ok(self.endpoints.clone());
        }
        let list = self.call(&MEMBER_LIST, MemberListRequest { linearizable: true }).await.map_err(|failure| {
            let text = format!("failed to fetch endpoints from etcd cluster member list: {}", failure.text);
            Failure::new(failure.exit, text)
        })?;
        Ok(list.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
    }

    /// Prints what was found.
    pub fn print(&self, report: &dyn Report) -> Result<(), Failure> {
        print(&render(report, self.format, self.hex)?)
    }
}
