//! What gRPC makes of a request's head: which method, which deadline, or why the call is refused.
//!
//! Checks, their order and their texts are those of grpc-go's server, because clients show the texts to people.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use super::call::Metadata;
use super::message::Coding;
use super::service::Method;
use super::status::{Code, Status};
use crate::h2::RequestHead;

const CONTENT_TYPE: &[u8] = b"application/grpc";

/// Why a call does not reach a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `:status` of the answer.
    pub http_status: u16,
    /// Its gRPC status.
    pub status: Status,
    /// The encodings that would have been accepted, if that is the reason.
    pub accepted: Option<&'static str>,
}

/// A request's head as gRPC understands it. Kept with remembered heads, so computed once for repeated requests.
#[derive(Clone, Debug)]
pub struct CallHead {
    /// Position of the method in `Service::methods`.
    pub method: Result<usize, Refusal>,
    /// `grpc-timeout`
    pub timeout: Option<Duration>,
    /// `grpc-encoding`
    pub coding: Coding,
    /// The content type says that it is gRPC, if perhaps a broken one.
    pub is_grpc: bool,
}

impl Metadata for RequestHead<CallHead> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        RequestHead::get(self, name.as_bytes())
    }
}

/// Paths to methods.
pub struct MethodTable {
    methods: &'static [Method],
    by_path: HashMap<&'static [u8], usize, FxBuildHasher>,
}

impl MethodTable {
    /// A table of all methods of a service.
    pub fn new(methods: &'static [Method]) -> MethodTable {
        let by_path: HashMap<_, _, _> =
            methods.iter().enumerate().map(|(place, method)| (method.path.as_bytes(), place)).collect();
        assert_eq!(by_path.len(), methods.len(), "every path is there once");
        MethodTable { methods, by_path }
    }

    /// The method at a position.
    pub fn get(&self, method: usize) -> Method {
        self.methods[method]
    }

    fn find(&self, path: &[u8]) -> Result<usize, Status> {
        if let Some(&method) = self.by_path.get(path) {
            return Ok(method);
        }
        // The slash at the beginning is optional.
        let name = String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(path));
        let Some((service, method)) = name.rsplit_once('/') else {
            let text = format!("malformed method name: {}", quoted(&String::from_utf8_lossy(path)));
            return Err(Status::new(Code::Unimplemented, text));
        };
        let same_service =
            |known: &&Method| known.path[1..].rsplit_once('/').is_some_and(|(known, _)| known == service);
        match self.methods.iter().filter(same_service).find(|known| known.path.ends_with(&format!("/{method}"))) {
            Some(known) => Ok(self.by_path[known.path.as_bytes()]),
            None if self.methods.iter().any(|known| same_service(&known)) => {
                Err(Status::new(Code::Unimplemented, format!("unknown method {method} for service {service}")))
            }
            None => Err(Status::new(Code::Unimplemented, format!("unknown service {service}"))),
        }
    }
}

impl CallHead {
    /// Reads a head.
    pub fn new(head: &RequestHead<CallHead>, methods: &MethodTable) -> CallHead {
        let content_type = head.get(b"content-type").unwrap_or_default();
        let claims_grpc = content_type.windows(CONTENT_TYPE.len()).any(|window| window == CONTENT_TYPE);
        let refused = |http_status, code, text: String| {
            let status = Status::new(code, text);
            let method = Err(Refusal { http_status, status, accepted: None });
            CallHead { method, timeout: None, coding: Coding::Identity, is_grpc: claims_grpc }
        };
        let (mut authorities, mut hosts) = (0, 0);
        let (mut content_type, mut is_grpc) = (String::new(), false);
        let (mut encoding, mut timeout) = (None, Ok(None));
        for field in head.fields() {
            let value = field.value();
            match field.name() {
                b":authority" => authorities += 1,
                b"host" => hosts += 1,
                b"content-type" if is_grpc_content(value) => is_grpc = true,
                b"content-type" => content_type = String::from_utf8_lossy(value).into_owned(),
                b"grpc-encoding" => encoding = Some(value),
                b"grpc-timeout" => timeout = parse_timeout(value).map(Some),
                _ => {}
            }
        }
        if authorities > 1 || hosts > 1 {
            let text = format!(
                "num values of :authority: {authorities}, num values of host: {hosts}, \
                 both must only have 1 value as per HTTP/2 spec"
            );
            return refused(400, Code::Internal, text);
        }
        if !is_grpc {
            let text = format!("invalid gRPC request content-type {}", quoted(&content_type));
            return refused(415, Code::InvalidArgument, text);
        }
        let timeout = match timeout {
            Ok(timeout) => timeout,
            Err(text) => return refused(400, Code::Internal, format!("malformed grpc-timeout: {text}")),
        };
        if head.method() != b"POST" {
            let method = quoted(&String::from_utf8_lossy(head.method()));
            let text = format!("Received a HEADERS frame with :method {method} which should be POST");
            return refused(405, Code::Internal, text);
        }
        if timeout == Some(Duration::ZERO) {
            return refused(200, Code::DeadlineExceeded, super::DEADLINE_EXCEEDED.into());
        }
        let method = match methods.find(head.path()) {
            Ok(method) => method,
            Err(status) => return refused(200, status.code, status.message.into_owned()),
        };
        let Some(coding) = Coding::by_name(encoding.unwrap_or_default()) else {
            let encoding = quoted(&String::from_utf8_lossy(encoding.unwrap_or_default()));
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding}");
            let status = Status::new(Code::Unimplemented, text);
            let refusal = Refusal { http_status: 200, status, accepted: Some(Coding::ACCEPTED) };
            return CallHead { method: Err(refusal), timeout: None, coding: Coding::Identity, is_grpc: true };
        };
        CallHead { method: Ok(method), timeout, coding, is_grpc: true }
    }
}

/// `application/grpc`, alone or followed by `+` or `;` and anything.
fn is_grpc_content(value: &[u8]) -> bool {
    value.strip_prefix(CONTENT_TYPE).is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Nanoseconds in a unit of a timeout, as gRPC names them.
pub fn nanos_per_unit(unit: u8) -> Option<u64> {
    Some(match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    })
}

/// Up to eight digits and a unit. The error is the text grpc-go gives.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let text = || quoted(&String::from_utf8_lossy(value));
    if value.len() < 2 {
        return Err(format!("transport: timeout string is too short: {}", text()));
    }
    if value.len() > 9 {
        return Err(format!("transport: timeout string is too long: {}", text()));
    }
    let (&unit, digits) = value.split_last().expect("the length was checked");
    let Some(nanos_per_unit) = nanos_per_unit(unit) else {
        return Err(format!("transport: timeout unit is not recognized: {}", text()));
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = quoted(&String::from_utf8_lossy(digits));
        return Err(format!("strconv.ParseUint: parsing {digits}: invalid syntax"));
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Ok(Duration::from_nanos(count.saturating_mul(nanos_per_unit).min(i64::MAX as u64)))
}

/// A text in quotes, as Go's `%q` prints it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => write!(out, "\\x{:02x}", c as u32).expect("a String takes everything"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::service::MethodKind;
    use super::*;
    use crate::h2::hpack::Field;

    const METHODS: &[Method] = &[
        Method { path: "/test.Store/Put", kind: MethodKind::Unary },
        Method { path: "/test.Store/Range", kind: MethodKind::Unary },
        Method { path: "/test.Feed/Watch", kind: MethodKind::BidiStream },
    ];

    fn call(path: &str, fields: &[(&str, &str)]) -> CallHead {
        let mut all = vec![(":method", "POST"), (":scheme", "http"), (":path", path)];
        all.extend_from_slice(fields);
        read(&all)
    }

    fn read(fields: &[(&str, &str)]) -> CallHead {
        let fields = fields.iter().map(|(name, value)| Rc::new(Field::new(name.as_bytes(), value.as_bytes())));
        CallHead::new(&RequestHead::new(fields.collect()).unwrap(), &MethodTable::new(METHODS))
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    #[test]
    fn known_methods() {
        assert_eq!(call("/test.Store/Put", &[GRPC]).method, Ok(0));
        assert_eq!(call("/test.Store/Range", &[GRPC]).method, Ok(1));
        for content_type in ["application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+"] {
            assert_eq!(call("/test.Feed/Watch", &[("content-type", content_type)]).method, Ok(2));
        }
        assert_eq!(call("/test.Store/Put", &[GRPC, ("grpc-encoding", "identity")]).method, Ok(0));
    }

    #[test]
    fn refusals_have_the_texts_of_go() {
        let put = "/test.Store/Put";
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, Code, &'a str);
        let cases: &[Case<'_>] = &[
            ("/a.B/C", &[GRPC], 200, Code::Unimplemented, "unknown service a.B"),
            ("/test.Store/Nope", &[GRPC], 200, Code::Unimplemented, "unknown method Nope for service test.Store"),
            ("/nothing", &[GRPC], 200, Code::Unimplemented, "malformed method name: \"/nothing\""),
            (put, &[], 415, Code::InvalidArgument, "invalid gRPC request content-type \"\""),
            (
                put,
                &[("content-type", "application/json")],
                415,
                Code::InvalidArgument,
                "invalid gRPC request content-type \"application/json\"",
            ),
            (
                put,
                &[("content-type", "application/grpcx")],
                415,
                Code::InvalidArgument,
                "invalid gRPC request content-type \"application/grpcx\"",
            ),
            (
                put,
                &[GRPC, ("grpc-encoding", "snappy")],
                200,
                Code::Unimplemented,
                "grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
            ),
            (put, &[GRPC, ("grpc-timeout", "0n")], 200, Code::DeadlineExceeded, "context deadline exceeded"),
            (
                put,
                &[GRPC, ("grpc-timeout", "5")],
                400,
                Code::Internal,
                "malformed grpc-timeout: transport: timeout string is too short: \"5\"",
            ),
            (
                put,
                &[GRPC, ("host", "a"), ("host", "b")],
                400,
                Code::Internal,
                "num values of :authority: 0, num values of host: 2, both must only have 1 value as per HTTP/2 spec",
            ),
        ];
        for (path, fields, http_status, code, text) in cases {
            let refusal = call(path, fields).method.unwrap_err();
            assert_eq!(refusal.status, Status::new(*code, *text));
            assert_eq!(refusal.http_status, *http_status, "{text}");
            assert_eq!(refusal.accepted.is_some(), text.contains("Decompressor"));
        }
        let get = [(":method", "GET"), (":scheme", "http"), (":path", put), GRPC];
        let refusal = read(&get).method.unwrap_err();
        assert_eq!(refusal.http_status, 405);
        assert_eq!(refusal.status.message, "Received a HEADERS frame with :method \"GET\" which should be POST");
    }

    #[test]
    fn timeouts() {
        let cases: &[(&str, Result<Duration, &str>)] = &[
            ("1H", Ok(Duration::from_secs(3600))),
            ("2M", Ok(Duration::from_secs(120))),
            ("3S", Ok(Duration::from_secs(3))),
            ("99999999m", Ok(Duration::from_millis(99_999_999))),
            ("5u", Ok(Duration::from_micros(5))),
            ("6n", Ok(Duration::from_nanos(6))),
            ("99999999H", Ok(Duration::from_nanos(i64::MAX as u64))),
            ("S", Err("transport: timeout string is too short: \"S\"")),
            ("123456789S", Err("transport: timeout string is too long: \"123456789S\"")),
            ("5s", Err("transport: timeout unit is not recognized: \"5s\"")),
            ("-5S", Err("strconv.ParseUint: parsing \"-5\": invalid syntax")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text.as_bytes()), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn quoting() {
        assert_eq!(quoted("a\"b\\c\td"), "\"a\\\"b\\\\c\\td\"");
    }
}
