//! What the head of a request says to the handler: metadata and a deadline.

use super::fault;
use super::socket;
use plinth_api::metadata;
use plinth_net::grpc::{Call, Metadata, Status, nanos_per_unit};
use plinth_net::http1::{Headers, Http1Request};
use plinth_net::transport::Peer;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the module.
pub struct Head {
    metadata: Rc<Fields>,
    peer: Rc<Peer>,
    /// How long the client waits.
    pub timeout: Option<Duration>,
}

/// Header fields as metadata: `Authorization` as it is, others behind `Grpc-Metadata-`.
struct Fields {
    headers: Headers,
    authorization: Option<Vec<u8>>,
}

impl Metadata for Fields {
    fn get(&self, name: &str) -> Option<&[u8]> {
        match name {
            // That it is there says that the call came through here.
            metadata::GATEWAY_ACCEPT => Some(self.headers.get("accept").unwrap_or_default()),
            metadata::AUTHORIZATION if self.authorization.is_some() => self.authorization.as_deref(),
            _ => {
                const PREFIX: &str = "grpc-metadata-";
                let is_named = |field: &str| {
                    field.len() == PREFIX.len() + name.len()
                        && field.is_char_boundary(PREFIX.len())
                        && field[..PREFIX.len()].eq_ignore_ascii_case(PREFIX)
                        && field[PREFIX.len()..].eq_ignore_ascii_case(name)
                };
                self.headers.iter().find(|(field, _)| is_named(field)).map(|(_, value)| value)
            }
        }
    }
}

impl Head {
    /// Of a request over HTTP.
    ///
    /// # Errors
    /// The deadline cannot be read.
    pub fn new(request: &Http1Request, peer: Rc<Peer>) -> Result<Head, Status> {
        let timeout = match request.headers.get("grpc-timeout") {
            None | Some([]) => None,
            Some(text) => match parse_timeout(text) {
                Some(timeout) => timeout,
                None => {
                    let text = String::from_utf8_lossy(text);
                    return Err(fault::malformed(format!("invalid grpc-timeout: {text}")));
                }
            },
        };
        let authorization = request.headers.get("authorization").map(<[u8]>::to_vec);
        Ok(Head { metadata: Rc::new(Fields { headers: request.headers.clone(), authorization }), peer, timeout })
    }

    /// Of a request for a websocket, of which nothing is passed on but a token.
    pub fn of_socket(request: &Http1Request, peer: Rc<Peer>) -> Head {
        let fields = Fields { headers: Headers::default(), authorization: socket::authorization(&request.headers) };
        Head { metadata: Rc::new(fields), peer, timeout: None }
    }

    /// The call, as its handler sees it.
    pub fn call(&self) -> Call {
        let now = Instant::now();
        let deadline = self.timeout.and_then(|timeout| now.checked_add(timeout));
        Call::new(self.metadata.clone(), self.peer.clone(), deadline, now)
    }
}

/// An amount and a unit, as gRPC has it, read as Go's gateway reads it: signs are taken, nothing means no deadline.
fn parse_timeout(text: &[u8]) -> Option<Option<Duration>> {
    let (unit, amount) = text.split_last()?;
    let amount: i64 = std::str::from_utf8(amount).ok()?.parse().ok()?;
    let whole = i128::from(amount) * i128::from(nanos_per_unit(*unit)?);
    let passed = Some(Some(Duration::ZERO));
    if whole == 0 {
        return Some(None);
    }
    u64::try_from(whole.min(i128::from(i64::MAX))).map_or(passed, |nanos| Some(Some(Duration::from_nanos(nanos))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Metadata as _;
    use plinth_net::http1::{Limits, parse};

    fn peer() -> Rc<Peer> {
        Rc::new(Peer::in_clear(plinth_net::transport::PeerAddress::Unix))
    }

    fn request(fields: &str) -> Http1Request {
        let text = format!("POST /v3/kv/put HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        parse(text.as_bytes(), Limits::default()).expect("well-formed").expect("complete").0
    }

    #[test]
    fn timeouts_as_the_gateway_reads_them() {
        let millis = |millis| Some(Some(Duration::from_millis(millis)));
        for (text, expected) in [
            ("5S", millis(5_000)),
            ("1H", millis(3_600_000)),
            ("2M", millis(120_000)),
            ("7m", millis(7)),
            ("3000u", millis(3)),
            ("+1S", millis(1_000)),
            ("0S", Some(None)),
            ("-1S", millis(0)),
            ("99999999999999H", Some(Some(Duration::from_nanos(i64::MAX as u64)))),
            ("5", None),
            ("S", None),
            ("5x", None),
            ("1.5S", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
        let error = Head::new(&request("Grpc-Timeout: 5x\r\n"), peer()).err().expect("refused");
        assert_eq!(error, fault::malformed("invalid grpc-timeout: 5x"));
    }

    #[test]
    fn fields_become_metadata() {
        let call = |fields: &str| Head::new(&request(fields), peer()).expect("read").call();
        let plain = call("hasleader: true\r\ntoken: x\r\n");
        assert!(plain.is_from_gateway() && !plain.requires_leader() && plain.token().is_none());
        let all = call(
            "Authorization: Bearer t\r\nGRPC-metadata-HasLeader: true\r\n\
             Grpc-Metadata-client-api-version: 3.7\r\nAccept: */*\r\nGrpc-Timeout: 1S\r\n",
        );
        assert_eq!((all.token(), all.requires_leader()), (Some(&b"t"[..]), true));
        assert_eq!(all.client_api_version(), Some(&b"3.7"[..]));
        assert_eq!(all.metadata("grpcgateway-accept"), Some(&b"*/*"[..]));
        assert!(all.deadline().is_some());
        assert_eq!(call("Grpc-Metadata-Token: direct\r\nAuthorization: t\r\n").token(), Some(&b"direct"[..]));
    }
}
