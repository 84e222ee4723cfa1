//! The head of a request: request line and header fields, checked and taken apart.
//!
//! The syntax is `httparse`'s business; the rules of HTTP/1.1 above it (one `Host`, one meaning of the body's length,
//! sane targets) are checked here, with the answers Go's server gives. Fields that only frame the message
//! (`Transfer-Encoding`, `Content-Length`, `Expect`) are consumed by the decoder but stay readable.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;

use super::{HEADERS_MAX, Http1Error, Http1Request};

/// HTTP/1.0 or HTTP/1.1; nothing else gets this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, connections close unless `keep-alive` is asked for.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request method. Case-sensitive, as the standard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    /// HEAD: as GET, but the response has no body.
    Head,
    Post,
    Put,
    Delete,
    Options,
    Connect,
    Trace,
    Patch,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    fn from_token(token: &str) -> Self {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "CONNECT" => Method::Connect,
            "TRACE" => Method::Trace,
            "PATCH" => Method::Patch,
            other => Method::Other(other.into()),
        }
    }

    /// The token as it is on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Connect => "CONNECT",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(token) => token,
        }
    }
}

/// Header fields in the order sent; names are compared without regard to case.
#[derive(Clone, Default)]
pub struct Headers {
    /// One copy of the head; fields are ranges of it, so that a request costs two allocations for its headers.
    head: Bytes,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Headers {
    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of `name` if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of `name`.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| {
            let name = std::str::from_utf8(&self.head[name.clone()]).expect("the parser admits only ASCII tokens");
            (name, &self.head[value.clone()])
        })
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether a comma-separated list field holds `token`.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_map()
            .entries(self.iter().map(|(name, value)| (name, value.escape_ascii().to_string())))
            .finish()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    Fixed(u64),
    Chunked,
}

#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    target: Box<str>,
    version: Version,
    headers: Headers,
    keep_alive: bool,
    pub(super) body_length: BodyLength,
    pub(super) expects_continue: bool,
}

/// The length of the head at the front of `input`, its blank line included. Offsets below `scanned` are known not to
/// complete it.
pub(super) fn find_end(input: &[u8], scanned: usize) -> Option<usize> {
    let mut at = scanned.saturating_sub(2);
    while let Some(found) = input[at..].iter().position(|&byte| byte == b'\n') {
        at += found + 1;
        match input[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

impl Head {
    /// Parses a complete head, blank line included.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Http1Error> {
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(Http1Error::Malformed("the head does not end at its blank line")),
            Err(httparse::Error::TooManyHeaders) => return Err(Http1Error::HeadTooLarge),
            Err(httparse::Error::HeaderName) => return Err(Http1Error::BadRequest("invalid header name")),
            Err(httparse::Error::HeaderValue) => return Err(Http1Error::BadRequest("invalid header value")),
            Err(httparse::Error::Version) => return Err(version_error(bytes)),
            Err(_) => return Err(Http1Error::Malformed("malformed request line or header")),
        }
        let parsed = "httparse fills all parts of a complete request";
        let method = Method::from_token(request.method.expect(parsed));
        let target = request.path.expect(parsed);
        let version = if request.version.expect(parsed) == 0 { Version::Http10 } else { Version::Http11 };
        let offset_of = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
        let range = |part: &[u8]| if part.is_empty() { 0..0 } else { offset_of(part)..offset_of(part) + part.len() };
        let fields = request.headers.iter().map(|field| (range(field.name.as_bytes()), range(field.value))).collect();
        let headers = Headers { head: Bytes::copy_from_slice(bytes), fields };

        check_target(&method, target)?;
        check_host(&method, version, &headers)?;
        let body_length = body_length(version, &headers)?;
        Ok(Head {
            expects_continue: expects_continue(version, &headers, body_length)?,
            keep_alive: match version {
                Version::Http10 => headers.has_token("connection", "keep-alive"),
                Version::Http11 => !headers.has_token("connection", "close"),
            },
            target: target.into(),
            method,
            version,
            headers,
            body_length,
        })
    }

    pub(super) fn into_request(self, body: Bytes) -> Http1Request {
        let Head { method, target, version, headers, keep_alive, .. } = self;
        Http1Request { method, target, version, headers, body, keep_alive }
    }
}

/// 505 for another version that is written as one, 400 for anything else in its place.
fn version_error(bytes: &[u8]) -> Http1Error {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    match line.split(|&byte| byte == b' ').next_back() {
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Http1Error::UnsupportedVersion
        }
        _ => Http1Error::Malformed("malformed HTTP version"),
    }
}

/// Authority and the rest of an absolute-form target.
pub(super) fn split_absolute(target: &str) -> Option<(&str, &str)> {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

fn check_target(method: &Method, target: &str) -> Result<(), Http1Error> {
    let path = match split_absolute(target) {
        Some((_, path)) => path,
        None if target.starts_with('/') || target == "*" || *method == Method::Connect => target,
        None => return Err(Http1Error::Malformed("invalid request target")),
    };
    let path = path.split('?').next().unwrap_or_default().as_bytes();
    let escapes_hold = path
        .iter()
        .enumerate()
        .filter(|&(_, &byte)| byte == b'%')
        .all(|(at, _)| path.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)));
    if escapes_hold { Ok(()) } else { Err(Http1Error::Malformed("invalid URL escape")) }
}

fn check_host(method: &Method, version: Version, headers: &Headers) -> Result<(), Http1Error> {
    let mut hosts = headers.get_all("host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Http1Error::Malformed("too many Host headers")),
        (None, None) if version == Version::Http11 && *method != Method::Connect => {
            Err(Http1Error::BadRequest("missing required Host header"))
        }
        (Some(host), None) if !host.iter().copied().all(is_host_byte) => {
            Err(Http1Error::BadRequest("malformed Host header"))
        }
        _ => Ok(()),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

fn body_length(version: Version, headers: &Headers) -> Result<BodyLength, Http1Error> {
    let mut lengths = headers.get_all("content-length").map(<[u8]>::trim_ascii);
    let declared = lengths.next();
    if lengths.any(|other| Some(other) != declared) {
        return Err(Http1Error::Malformed("several Content-Length headers that differ"));
    }
    let length = declared.map(parse_content_length).transpose()?.unwrap_or(0);

    let mut codings = headers.get_all("transfer-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(BodyLength::Fixed(length)),
        // HTTP/1.0 knows no transfer codings; Go ignores the field, and so do we.
        (Some(_), _) if version == Version::Http10 => Ok(BodyLength::Fixed(length)),
        (Some(coding), None) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
        _ => Err(Http1Error::UnsupportedTransferEncoding),
    }
}

/// Digits only: `+5`, `5 ` inside lists and `0x5` are how smuggled lengths look.
fn parse_content_length(text: &[u8]) -> Result<u64, Http1Error> {
    let bad = Http1Error::Malformed("bad Content-Length");
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    let digits = std::str::from_utf8(text).map_err(|_| bad)?;
    digits.parse::<u64>().ok().filter(|&length| length <= i64::MAX as u64).ok_or(bad)
}

fn expects_continue(version: Version, headers: &Headers, body_length: BodyLength) -> Result<bool, Http1Error> {
    if headers.has_token("expect", "100-continue") {
        return Ok(version == Version::Http11 && body_length != BodyLength::Fixed(0));
    }
    match headers.get("expect") {
        None | Some([]) => Ok(false),
        Some(_) => Err(Http1Error::ExpectationFailed),
    }
}
