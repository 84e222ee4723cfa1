//! `put`: writes a key; its value comes from standard input, as it is, if it is not an argument.

use crate::context::Context;
use crate::failure::Failure;
use crate::flags::lease_id;
use crate::output::json::Json;
use crate::output::{Report, Text};
use plinth_api::methods::PUT;
use plinth_api::proto::etcdserverpb::{PutRequest, PutResponse};
use prost::Message;
use std::ffi::OsString;
use std::io::Read;

/// Arguments.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Args {
    /// Attach to this lease (hexadecimal).
    #[arg(long, default_value = "0")]
    lease: String,
    /// Print the pair before.
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value the key has.
    #[arg(long)]
    ignore_value: bool,
    /// Keep the lease the key has.
    #[arg(long)]
    ignore_lease: bool,
    /// key [value]
    #[arg(value_name = "KEY [VALUE]")]
    args: Vec<OsString>,
}

impl Args {
    /// The request these arguments ask for; `input` is read if the value is not among them.
    pub fn request(&self, input: &mut dyn Read) -> Result<PutRequest, Failure> {
        let missing = || Failure::arguments("put command needs 1 argument and input from stdin or 2 arguments");
        let (key, value) = match self.args.as_slice() {
            [] => return Err(missing()),
            [key] if self.ignore_value => (key, Vec::new()),
            _ if self.ignore_value => {
                return Err(Failure::arguments("put command needs only 1 argument when 'ignore-value' is set"));
            }
            [key] => {
                let mut value = Vec::new();
                input.read_to_end(&mut value)?;
                (key, if value.is_empty() { return Err(missing()) } else { value })
            }
            // Words behind the value are ignored, as the reference tool does.
            [key, value, ..] => (key, value.as_encoded_bytes().to_vec()),
        };
        let lease = lease_id(&self.lease)?;
        Ok(PutRequest {
            key: key.as_encoded_bytes().to_vec().into(),
            value: value.into(),
            lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = args.request(&mut std::io::stdin().lock())?;
    let answer = context.call(&PUT, request).await?;
    context.print(&answer)
}

impl Report for PutResponse {
    fn simple(&self, out: &mut Text) {
        out.line("OK");
        self.prev_kv.iter().for_each(|kv| out.pair(kv));
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        self.prev_kv.iter().for_each(|kv| out.kv("Prev", kv));
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object().nonzero("header", self.header.as_ref()).nonzero("prev_kv", self.prev_kv.as_ref())
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_from_argument_or_input() {
        let args = |words: &[&str]| Args {
            lease: "1f".to_owned(),
            args: words.iter().map(OsString::from).collect(),
            ..Args::default()
        };
        let request = args(&["k", "v"]).request(&mut &b"unread"[..]).expect("complete");
        assert_eq!((&request.value[..], request.lease), (&b"v"[..], 31));
        let request = args(&["k"]).request(&mut &b"in\n"[..]).expect("complete");
        assert_eq!(&request.value[..], b"in\n");
        assert!(args(&[]).request(&mut &b""[..]).is_err());
        assert!(args(&["a"]).request(&mut &b""[..]).is_err());
    }
}
