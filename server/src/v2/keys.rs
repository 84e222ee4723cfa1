//! Requests below `/v2/keys`: what their parameters mean.

use super::form::Form;
use bytes::Bytes;
use plinth_net::http1::{Http1Request, Method};
use plinth_v2::command::Content;
use plinth_v2::limits::{PATH_BYTES_MAX, PATH_NAMES_MAX};
use plinth_v2::{Change, Code, V2Error, path};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To read a node.
    Get {
        /// With all that is below it.
        recursive: bool,
        /// Not before everything that was committed before is applied.
        quorum: bool,
    },
    /// To be told of changes.
    Wait {
        /// Of all that is below it.
        recursive: bool,
        /// More than one.
        stream: bool,
        /// From this index on; 0 for what comes.
        since: u64,
    },
    /// To change something.
    Change {
        /// What.
        write: Write,
        /// Without nodes in the answer.
        brief: bool,
    },
}

/// A change, before the time is known from which its time to live counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    method: Method,
    path: Bytes,
    dir: bool,
    recursive: bool,
    value: Bytes,
    prev_value: Bytes,
    prev_index: u64,
    prev_exist: Option<bool>,
    refresh: bool,
    ttl: Option<u64>,
}

/// A request that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub struct KeysRequest {
    /// The node, with its namespace.
    pub path: Vec<u8>,
    /// What is asked for.
    pub asked: Asked,
}

impl KeysRequest {
    /// Reads a request to a path behind `/v2/keys`.
    ///
    /// # Errors
    /// With what makes no sense, in etcd's order.
    pub fn read(request: &Http1Request, tail: &[u8]) -> Result<KeysRequest, V2Error> {
        let form = Form::of(request)?;
        let path = path::join(path::KEYS, tail);
        let names = path.iter().filter(|byte| **byte == b'/').count();
        if path.len() > PATH_BYTES_MAX || names > PATH_NAMES_MAX {
            return Err(V2Error::request(Code::InvalidField, "key is too long"));
        }
        let refuse = |code, cause: &str| Err(V2Error::request(code, cause));
        let prev_index = form.number("prevIndex", Code::IndexNaN)?;
        let since = form.number("waitIndex", Code::IndexNaN)?;
        let recursive = form.flag("recursive")?;
        // What is not asked to be sorted is so all the same.
        form.flag("sorted")?;
        let wait = form.flag("wait")?;
        let dir = form.flag("dir")?;
        let quorum = form.flag("quorum")?;
        let stream = form.flag("stream")?;
        if wait && request.method != Method::Get {
            return refuse(Code::InvalidField, "\"wait\" can only be used with GET requests");
        }
        if form.get("prevValue") == Some(b"") {
            return refuse(Code::PrevValueRequired, "\"prevValue\" cannot be empty");
        }
        let brief = form.flag("noValueOnSuccess")?;
        let ttl = match form.text("ttl") {
            b"" => None,
            _ => Some(form.number("ttl", Code::TtlNaN)?),
        };
        let prev_exist = form.choice("prevExist")?;
        let refresh = form.choice("refresh")?.unwrap_or(false);
        if refresh && !form.text("value").is_empty() {
            return refuse(Code::RefreshValue, "A value was provided on a refresh");
        }
        if refresh && ttl.is_none() {
            return refuse(Code::RefreshTtlRequired, "No TTL value set");
        }
        let asked = match &request.method {
            Method::Get if wait && !quorum => Asked::Wait { recursive, stream, since },
            Method::Get | Method::Head => Asked::Get { recursive, quorum: quorum && request.method == Method::Get },
            method => {
                let bytes = |name| Bytes::copy_from_slice(form.text(name));
                let (value, prev_value, path) = (bytes("value"), bytes("prevValue"), Bytes::from(path.clone()));
                let write = Write {
                    method: method.clone(),
                    path,
                    dir,
                    recursive,
                    value,
                    prev_value,
                    prev_index,
                    prev_exist,
                    refresh,
                    ttl,
                };
                Asked::Change { write, brief }
            }
        };
        Ok(KeysRequest { path, asked })
    }
}

impl KeysRequest {
    /// Whether it is about all that is below the node.
    pub fn recursive(&self) -> bool {
        match &self.asked {
            Asked::Get { recursive, .. } | Asked::Wait { recursive, .. } => *recursive,
            Asked::Change { write, .. } => write.recursive,
        }
    }
}

impl Write {
    /// Whether it hangs on the time.
    pub fn has_ttl(&self) -> bool {
        self.ttl.is_some() && self.method != Method::Delete
    }

    /// The change, if its time to live counts from `now`.
    pub fn change(self, now: i64) -> Change {
        /// Nanoseconds in a second.
        const SECOND: i64 = 1_000_000_000;
        let Write { method, path, dir, recursive, value, prev_value, prev_index, prev_exist, refresh, ttl } = self;
        // Too large a number wraps around, as in etcd.
        let expires = ttl.map_or(0, |ttl| now.wrapping_add(ttl.cast_signed().wrapping_mul(SECOND)));
        let content = Content { value, expires, refresh };
        let compares = prev_index > 0 || !prev_value.is_empty();
        match (method, prev_exist) {
            (Method::Delete, _) if compares => Change::CompareAndDelete { path, prev_value, prev_index },
            (Method::Delete, _) => Change::Delete { path, dir, recursive },
            (Method::Post, _) => Change::Create { path, dir, in_order: true, content },
            (_, Some(false)) => Change::Create { path, dir, in_order: false, content },
            (_, _) if compares => Change::CompareAndSwap { path, prev_value, prev_index, content },
            (_, Some(true)) => Change::Update { path, content },
            (_, None) => Change::Set { path, dir, content },
        }
    }
}
