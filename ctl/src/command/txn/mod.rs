//! `txn`: comparisons, what to do if all hold, and what to do if not, from standard input; an empty line ends each.

mod compare;

use crate::command::{del, get, put};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json::Json;
use crate::output::print::print;
use crate::output::{Report, Text};
use crate::{usage, words};
use clap::{Parser, Subcommand};
use plinth_api::methods::TXN;
use plinth_api::proto::etcdserverpb::request_op::Request;
use plinth_api::proto::etcdserverpb::response_op::Response;
use plinth_api::proto::etcdserverpb::{Compare, RequestOp, TxnRequest, TxnResponse};
use prost::Message;
use std::ffi::OsString;
use std::io::BufRead;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Ask for each part
    #[arg(short, long)]
    interactive: bool,
    /// Ignored
    #[arg(hide = true)]
    args: Vec<OsString>,
}

/// A line of what to do.
#[derive(Parser)]
#[command(infer_subcommands = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Subcommand)]
enum Operation {
    Put(put::Args),
    Get(get::Args),
    Del(del::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if !args.args.is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let ask = |text: &str| if args.interactive { print(format!("{text}\n").as_bytes()) } else { Ok(()) };
    let mut input = std::io::stdin().lock();
    ask("compares:")?;
    let compare = comparisons(&mut input)?;
    ask("success requests (get, put, del):")?;
    let success = operations(&mut input).await?;
    ask("failure requests (get, put, del):")?;
    let failure = operations(&mut input).await?;
    drop(input);
    context.print(&context.cluster().call(&TXN, TxnRequest { compare, success, failure }).await?)
}

/// A line, of which there has to be one.
fn line(input: &mut dyn BufRead) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input.read_until(b'\n', &mut bytes)?;
    match bytes.strip_suffix(b"\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).trim().to_owned()),
        None => Err(Failure::new(Exit::InvalidInput, "EOF")),
    }
}

/// The lines before an empty one; whoever types them learns of a mistake at once.
fn comparisons(input: &mut dyn BufRead) -> Result<Vec<Compare>, Failure> {
    let mut comparisons = Vec::new();
    loop {
        match line(input)? {
            line if line.is_empty() => return Ok(comparisons),
            line => comparisons.push(compare::parse(&line)?),
        }
    }
}

async fn operations(input: &mut dyn BufRead) -> Result<Vec<RequestOp>, Failure> {
    let mut operations = Vec::new();
    loop {
        let line = line(input)?;
        if line.is_empty() {
            return Ok(operations);
        }
        operations.push(operation(&line, input).await?);
    }
}

/// One line of what to do. A put without a value takes the rest of the input as its value.
async fn operation(line: &str, input: &mut dyn BufRead) -> Result<RequestOp, Failure> {
    let invalid = |what: &str| Failure::new(Exit::InvalidInput, format!("{what}: {line}"));
    let words = words::split(line)?;
    if words.len() < 2 {
        return Err(invalid("invalid txn compare request"));
    }
    let definition = usage::as_go(<Line as clap::CommandFactory>::command());
    let words = std::iter::once(OsString::from("txn")).chain(words);
    let matches = definition.try_get_matches_from(words).map_err(|_| invalid("invalid txn request"))?;
    let parsed = <Line as clap::FromArgMatches>::from_arg_matches(&matches);
    let request = match parsed.map_err(|_| invalid("invalid txn request"))?.operation {
        Operation::Put(args) => {
            let mut rest = Rest(input);
            Request::RequestPut(args.request(&mut rest)?)
        }
        Operation::Get(args) => Request::RequestRange(args.request()?),
        Operation::Del(args) => {
            let request = args.request()?;
            args.think_again().await;
            Request::RequestDeleteRange(request)
        }
    };
    Ok(RequestOp { request: Some(request) })
}

/// A reader behind a reference.
struct Rest<'a>(&'a mut dyn BufRead);

impl std::io::Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Report for TxnResponse {
    fn simple(&self, out: &mut Text) {
        out.line(if self.succeeded { "SUCCESS" } else { "FAILURE" });
        for response in &self.responses {
            out.line("");
            match &response.response {
                Some(Response::ResponseDeleteRange(answer)) => answer.simple(out),
                Some(Response::ResponsePut(answer)) => answer.simple(out),
                Some(Response::ResponseRange(answer)) => answer.simple(out),
                Some(Response::ResponseTxn(answer)) => answer.simple(out),
                None => {}
            }
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        out.field("Succeeded", self.succeeded);
        self.responses.iter().all(|response| match &response.response {
            Some(Response::ResponseDeleteRange(answer)) => answer.fields(out),
            Some(Response::ResponsePut(answer)) => answer.fields(out),
            Some(Response::ResponseRange(answer)) => answer.fields(out),
            Some(Response::ResponseTxn(answer)) => answer.fields(out),
            None => true,
        })
    }

    fn json(&self, hex: bool) -> Json {
        let response = |response: &Option<Response>| match response {
            Some(Response::ResponseRange(answer)) => ("response_range", answer.json(hex)),
            Some(Response::ResponsePut(answer)) => ("response_put", answer.json(hex)),
            Some(Response::ResponseDeleteRange(answer)) => ("response_delete_range", answer.json(hex)),
            Some(Response::ResponseTxn(answer)) => ("response_txn", answer.json(hex)),
            None => ("response_range", Json::Null),
        };
        let responses = Json::list(&self.responses, |item| {
            let (name, json) = response(&item.response);
            Json::object().with("Response", Json::object().nonzero(name, json))
        });
        Json::object()
            .nonzero("header", self.header.as_ref())
            .nonzero("succeeded", self.succeeded)
            .nonzero("responses", responses)
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parsed(line: &str) -> Result<Request, Failure> {
        operation(line, &mut &b"rest\n\n"[..]).await.map(|operation| operation.request.expect("made"))
    }

    #[tokio::test]
    async fn lines_become_requests() {
        let Ok(Request::RequestPut(put)) = parsed("put k 'a b' --prev-kv").await else { panic!("not a put") };
        assert_eq!((&put.key[..], &put.value[..], put.prev_kv), (&b"k"[..], &b"a b"[..], true));
        let Ok(Request::RequestPut(put)) = parsed("p k").await else { panic!("not a put") };
        assert_eq!(&put.value[..], b"rest\n\n");
        let Ok(Request::RequestRange(get)) = parsed("get \"\\xff\" --prefix").await else { panic!("not a get") };
        assert_eq!((&get.key[..], &get.range_end[..]), (&b"\xff"[..], &b"\0"[..]));
        for (line, exit, text) in [
            ("put", Exit::InvalidInput, "invalid txn compare request: put"),
            ("foo a b", Exit::InvalidInput, "invalid txn request: foo a b"),
            ("put a b --foo", Exit::InvalidInput, "invalid txn request: put a b --foo"),
            ("get a --order=x", Exit::BadFeature, "bad sort order x"),
        ] {
            assert_eq!(parsed(line).await, Err(Failure::new(exit, text)));
        }
    }

    #[test]
    fn blocks_end_with_an_empty_line() {
        let mut input = &b" ver(\"k\") = \"1\" \n\t\nver(\"k\") = \"1\"\n"[..];
        assert_eq!(comparisons(&mut input).map(|found| found.len()), Ok(1));
        assert_eq!(comparisons(&mut input), Err(Failure::new(Exit::InvalidInput, "EOF")));
        assert_eq!(comparisons(&mut &b"mod k"[..]), Err(Failure::new(Exit::InvalidInput, "EOF")));
    }
}
