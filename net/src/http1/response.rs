//! Responses, written into the connection's send buffer.
//!
//! Either whole ([`write_response`], with `Content-Length`) or streamed ([`write_stream_head`], then [`write_chunk`]
//! for every piece, the empty one last). A HEAD request gets the head of the answer only; HTTP/1.0 gets streams
//! delimited by the end of the connection.

use std::borrow::Cow;
use std::io::Write as _;

use bytes::Bytes;

use super::{Http1Error, HttpDate, Version};

/// The interim response a client that sent `Expect: 100-continue` is waiting for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A response with a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields but those that frame the message (`Content-Length`, `Connection`, `Date`).
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body; not sent to HEAD.
    pub body: Bytes,
}

/// How the response to a certain request is framed; see [`super::Http1Request::framing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The version of the request.
    pub version: Version,
    /// Whether the connection stays open behind the response. Set it to `false` to close it (shutdown).
    pub keep_alive: bool,
    /// Whether the request was HEAD, which is answered without a body.
    pub head: bool,
}

/// How the pieces of a streamed body are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyCoding {
    /// As chunks; the empty piece ends the body and the connection may live on.
    Chunked,
    /// As they are; the body ends with the connection (HTTP/1.0).
    UntilClose,
    /// Not at all (HEAD).
    None,
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: u16) -> Self {
        Response { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// A response with a body of the given type.
    pub fn with_body(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Response::new(status).header("Content-Type", content_type).body(body)
    }

    /// A plain-text error as Go's `http.Error` writes it: the text and a line end, not to be sniffed.
    pub fn error(status: u16, text: &str) -> Self {
        Response::with_body(status, "text/plain; charset=utf-8", format!("{text}\n"))
            .header("X-Content-Type-Options", "nosniff")
    }

    /// Adds a header field. Values come from us or from checked input; line ends in them would split the response.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        assert!(!value.contains(['\r', '\n', '\0']), "a header value that would split the response");
        self.headers.push((name, value));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The first value of header `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }
}

/// Appends a whole response. The caller closes the connection behind it unless `framing.keep_alive`.
pub fn write_response(out: &mut Vec<u8>, response: &Response, framing: Framing, date: &HttpDate) {
    if write_response_head(out, response, framing, date) {
        out.extend_from_slice(&response.body);
    }
}

/// Appends what comes before the body of a whole response. Whether the body is to follow.
#[must_use]
pub fn write_response_head(out: &mut Vec<u8>, response: &Response, framing: Framing, date: &HttpDate) -> bool {
    write_head(out, response.status, &response.headers, framing, date);
    if body_allowed(response.status) {
        put(out, format_args!("Content-Length: {}\r\n", response.body.len()));
    }
    out.extend_from_slice(b"\r\n");
    body_allowed(response.status) && !framing.head
}

/// Appends the head of a response whose body follows in pieces. Returns how to write them.
pub fn write_stream_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&'static str, Cow<'static, str>)],
    framing: Framing,
    date: &HttpDate,
) -> BodyCoding {
    assert!(body_allowed(status), "status {status} has no body to stream");
    let coding = match framing.version {
        _ if framing.head => BodyCoding::None,
        Version::Http11 => BodyCoding::Chunked,
        Version::Http10 => BodyCoding::UntilClose,
    };
    let keep_alive = framing.keep_alive && coding != BodyCoding::UntilClose;
    write_head(out, status, headers, Framing { keep_alive, ..framing }, date);
    if framing.version == Version::Http11 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    coding
}

/// Appends the answer that hands the connection over to another protocol.
pub fn write_upgrade_head(out: &mut Vec<u8>, headers: &[(&'static str, Cow<'static, str>)]) {
    put(out, format_args!("HTTP/1.1 101 Switching Protocols\r\n"));
    for (name, value) in headers {
        put(out, format_args!("{name}: {value}\r\n"));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a piece of a streamed body; an empty `piece` ends it.
pub fn write_chunk(out: &mut Vec<u8>, coding: BodyCoding, piece: &[u8]) {
    if coding == BodyCoding::None {
        return;
    }
    write_chunk_head(out, coding, piece.len());
    out.extend_from_slice(piece);
    write_chunk_end(out, coding);
}

/// Appends what comes before a piece of so many bytes.
pub fn write_chunk_head(out: &mut Vec<u8>, coding: BodyCoding, length: usize) {
    if coding == BodyCoding::Chunked {
        put(out, format_args!("{length:x}\r\n"));
    }
}

/// Appends what comes behind a piece.
pub fn write_chunk_end(out: &mut Vec<u8>, coding: BodyCoding) {
    if coding == BodyCoding::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(&'static str, Cow<'static, str>)],
    framing: Framing,
    date: &HttpDate,
) {
    let version = match framing.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    put(out, format_args!("{version} {status} {}\r\n", status_text(status)));
    for (name, value) in headers {
        put(out, format_args!("{name}: {value}\r\n"));
    }
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
    match (framing.version, framing.keep_alive) {
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (Version::Http11, false) => out.extend_from_slice(b"Connection: close\r\n"),
        // What each version does without being told.
        (Version::Http10, false) | (Version::Http11, true) => {}
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}

fn body_allowed(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

impl Http1Error {
    /// The status code the client sees.
    pub fn status(&self) -> u16 {
        match self {
            Http1Error::Malformed(_) | Http1Error::BadRequest(_) => 400,
            Http1Error::BodyTooLarge => 413,
            Http1Error::ExpectationFailed => 417,
            Http1Error::HeadTooLarge => 431,
            Http1Error::UnsupportedTransferEncoding => 501,
            Http1Error::UnsupportedVersion => 505,
        }
    }

    /// Appends the last response of the connection.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        let status = self.status();
        let line = format!("{status} {}", status_text(status));
        // Go puts the reason into the status line as well, but only for the errors it has words for.
        let (line, body) = match self {
            Http1Error::BadRequest(reason) => (format!("{line}: {reason}"), format!("{line}: {reason}")),
            Http1Error::UnsupportedVersion => (format!("{line}: {self}"), format!("{line}: {self}")),
            Http1Error::UnsupportedTransferEncoding => (line, "Unsupported transfer encoding".to_owned()),
            Http1Error::ExpectationFailed => {
                return put(out, format_args!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
            }
            _ => (line.clone(), line),
        };
        let fields = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
        put(out, format_args!("HTTP/1.1 {line}\r\n{fields}\r\n{body}"));
    }
}

/// The standard's reason phrase; codes we never send have none.
fn status_text(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        // nginx's code, which the JSON gateway uses for Canceled; it has no standard phrase.
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
