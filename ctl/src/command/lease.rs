//! `lease`: grants, revokes, shows and keeps leases. Ids are hexadecimal.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json::{Json, header_fields};
use crate::output::print::print;
use crate::output::{Format, Report, Text};
use crate::quote;
use crate::session::{KeepAlive, keep_alive_once};
use clap::Subcommand;
use plinth_api::methods::{LEASE_GRANT, LEASE_REVOKE, LEASE_TIME_TO_LIVE, LEASES};
use plinth_api::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};
use prost::Message;

/// Commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Grants a lease of so many seconds
    Grant {
        /// Seconds
        #[arg(value_name = "TTL")]
        args: Vec<String>,
    },
    /// Revokes a lease, and deletes its keys
    Revoke {
        /// Id of the lease
        #[arg(value_name = "LEASE")]
        args: Vec<String>,
    },
    /// Shows how long a lease has left
    Timetolive {
        /// Show its keys as well
        #[arg(long)]
        keys: bool,
        /// Id of the lease
        #[arg(value_name = "LEASE")]
        args: Vec<String>,
    },
    List {
        /// Ignored
        #[arg(hide = true)]
        args: Vec<String>,
    },
    KeepAlive {
        /// One time only
        #[arg(long)]
        once: bool,
        /// Id of the lease
        #[arg(value_name = "LEASE")]
        args: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Grant { args } => {
            let ttl = only(&args, "lease grant command needs TTL argument")?;
            let ttl = quote::parse_int(ttl, 10).map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
            let answer = context.call(&LEASE_GRANT, LeaseGrantRequest { ttl, id: 0 }).await;
            context.print(&answer.map_err(|failure| failed("grant", failure))?)
        }
        Command::Revoke { args } => {
            let id = lease(only(&args, "lease revoke command needs 1 argument")?)?;
            let answer = context.call(&LEASE_REVOKE, LeaseRevokeRequest { id }).await;
            let answer = answer.map_err(|failure| failed("revoke", failure))?;
            context.print(&Revoked { id, answer })
        }
        Command::Timetolive { keys, args } => {
            let id = lease(only(&args, "lease timetolive command needs lease ID as argument")?)?;
            let answer = context.call(&LEASE_TIME_TO_LIVE, LeaseTimeToLiveRequest { id, keys }).await;
            context.print(&TimeToLive { keys, answer: answer.map_err(|failure| failure.exiting(Exit::BadConnection))? })
        }
        Command::List { .. } => {
            let answer = context.call(&LEASES, LeaseLeasesRequest {}).await;
            context.print(&answer.map_err(|failure| failure.exiting(Exit::BadConnection))?)
        }
        Command::KeepAlive { once, args } => {
            let id = lease(only(&args, "lease keep-alive command needs lease ID as argument")?)?;
            if once { keep_once(context, id).await } else { keep(context, id).await }
        }
    }
}

fn only<'a>(args: &'a [String], text: &str) -> Result<&'a str, Failure> {
    match args {
        [arg] => Ok(arg),
        _ => Err(Failure::arguments(text)),
    }
}

fn lease(text: &str) -> Result<i64, Failure> {
    quote::parse_int(text, 16)
        .map_err(|error| Failure::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}

fn failed(what: &str, failure: Failure) -> Failure {
    Failure::new(failure.exit, format!("failed to {what} lease ({})", failure.text))
}

async fn keep_once(context: &Context, id: i64) -> Result<(), Failure> {
    let cluster = context.cluster();
    let asked = context.limited(keep_alive_once(&cluster, id)).await;
    match asked.map_err(|failure| failure.exiting(Exit::BadConnection))? {
        Some(answer) => context.print(&answer),
        None => Err(Failure::new(Exit::BadConnection, "etcdserver: requested lease not found")),
    }
}

async fn keep(context: &Context, id: i64) -> Result<(), Failure> {
    let mut keep_alive = KeepAlive::new(context.cluster(), id);
    while let Some(answer) = keep_alive.next().await.map_err(|failure| failure.exiting(Exit::BadConnection))? {
        context.print(&answer)?;
    }
    match context.format {
        Format::Simple => print(format!("lease {id:016x} expired or revoked.\n").as_bytes()),
        _ => Ok(()),
    }
}

/// The header alone: so the reference tool prints answers about leases.
fn header_message(header: Option<&ResponseHeader>) -> Option<Vec<u8>> {
    Some(header.map(Message::encode_to_vec).unwrap_or_default())
}

/// What the answers about one lease have in common.
fn lease_fields(out: &mut Text, header: Option<&ResponseHeader>, id: i64, ttl: i64) {
    out.header(header);
    out.lease("ID", id);
    out.field("TTL", ttl);
}

impl Report for LeaseGrantResponse {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("lease {:016x} granted with TTL({}s)", self.id, self.ttl));
    }

    fn fields(&self, out: &mut Text) -> bool {
        lease_fields(out, self.header.as_ref(), self.id, self.ttl);
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let object = header_fields(Json::object(), self.header.as_ref());
        object.with("ID", self.id).with("TTL", self.ttl).with("Error", self.error.as_str())
    }

    fn message(&self) -> Option<Vec<u8>> {
        header_message(self.header.as_ref())
    }
}

struct Revoked {
    id: i64,
    answer: LeaseRevokeResponse,
}

impl Report for Revoked {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("lease {:016x} revoked", self.id));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.answer.header.as_ref());
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object().nonzero("header", self.answer.header.as_ref())
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.answer.encode_to_vec())
    }
}

struct TimeToLive {
    keys: bool,
    answer: LeaseTimeToLiveResponse,
}

impl Report for TimeToLive {
    fn simple(&self, out: &mut Text) {
        let LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys, .. } = &self.answer;
        if *granted_ttl == 0 && *ttl == -1 {
            return out.line(format_args!("lease {id:016x} already expired"));
        }
        let mut line = format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)").into_bytes();
        if self.keys {
            line.extend_from_slice(b", attached keys([");
            line.extend_from_slice(&keys.join(&b' '));
            line.extend_from_slice(b"])");
        }
        out.bytes.extend_from_slice(&line);
        out.bytes.push(b'\n');
    }

    fn fields(&self, out: &mut Text) -> bool {
        lease_fields(out, self.answer.header.as_ref(), self.answer.id, self.answer.ttl);
        out.field("GrantedTTL", self.answer.granted_ttl);
        self.answer.keys.iter().for_each(|key| out.quoted("Key", key));
        true
    }

    fn json(&self, _hex: bool) -> Json {
        header_fields(Json::object(), self.answer.header.as_ref())
            .with("id", self.answer.id)
            .with("ttl", self.answer.ttl)
            .with("granted-ttl", self.answer.granted_ttl)
            .with("keys", Json::list_or_null(&self.answer.keys, |key| key.into()))
    }

    fn message(&self) -> Option<Vec<u8>> {
        header_message(self.answer.header.as_ref())
    }
}

impl Report for LeaseLeasesResponse {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("found {} leases", self.leases.len()));
        self.leases.iter().for_each(|lease| out.line(format_args!("{:016x}", lease.id)));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        self.leases.iter().for_each(|lease| out.lease("ID", lease.id));
        true
    }

    fn json(&self, _hex: bool) -> Json {
        let leases = Json::list(&self.leases, |lease| Json::object().with("id", lease.id));
        header_fields(Json::object(), self.header.as_ref()).with("leases", leases)
    }

    fn message(&self) -> Option<Vec<u8>> {
        header_message(self.header.as_ref())
    }
}

impl Report for LeaseKeepAliveResponse {
    fn simple(&self, out: &mut Text) {
        out.line(format_args!("lease {:016x} keepalived with TTL({})", self.id, self.ttl));
    }

    fn fields(&self, out: &mut Text) -> bool {
        lease_fields(out, self.header.as_ref(), self.id, self.ttl);
        true
    }

    fn json(&self, _hex: bool) -> Json {
        header_fields(Json::object(), self.header.as_ref()).with("ID", self.id).with("TTL", self.ttl)
    }

    fn message(&self) -> Option<Vec<u8>> {
        header_message(self.header.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rendered;

    #[test]
    fn time_to_live() {
        let live = |ttl, granted_ttl, keys: &[&'static str]| TimeToLive {
            keys: true,
            answer: LeaseTimeToLiveResponse {
                header: None,
                id: 31,
                ttl,
                granted_ttl,
                keys: keys.iter().map(|key| (*key).into()).collect(),
            },
        };
        let text = "lease 000000000000001f granted with TTL(60s), remaining(59s), attached keys([a b])\n";
        assert_eq!(rendered(&live(59, 60, &["a", "b"]), Format::Simple), text);
        assert_eq!(rendered(&live(-1, 0, &[]), Format::Simple), "lease 000000000000001f already expired\n");
        let json = "{\"id\":31,\"ttl\":59,\"granted-ttl\":60,\"keys\":[\"YQ==\"]}\n";
        assert_eq!(rendered(&live(59, 60, &["a"]), Format::Json), json);
    }

    #[test]
    fn ids_that_make_no_sense() {
        let failure = lease("xyz").expect_err("not a number");
        let text = "bad lease ID arg (strconv.ParseInt: parsing \"xyz\": invalid syntax), expecting ID in Hex";
        assert_eq!(failure, Failure::arguments(text));
    }
}
