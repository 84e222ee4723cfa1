//! The server side of HTTP/1.x, without any I/O: bytes in, requests out; responses in, bytes out.
//!
//! The shell owns the socket and one receive buffer. It hands whatever it has to [`Decoder::advance`], drops the
//! bytes that were consumed, and writes what [`write_response`] appended to its send buffer:
//!
//! ```text
//!              head incomplete          body incomplete
//!   bytes ──▶ NeedMore (431 at limit) ──▶ [SendContinue] ──▶ NeedMore (413 at limit) ──▶ Request ──▶ next request
//!                     └─ by the shell's choice ─▶ Open ──▶ [SendContinue] ──▶ Piece* ──▶ End ──▶ next request
//! ```
//!
//! Invariants: a request is complete, its body included, when it is handed out, unless the shell asked for its body in
//! pieces ([`BodyMode`]); what is buffered is bounded by [`Limits`]; after an [`Http1Error`] the connection must be answered with the error's response and closed, because
//! where the next request starts is not known any more. Ambiguous framing (several lengths, several transfer codings,
//! bare line feeds between chunks) is refused rather than guessed at, against request smuggling.
//!
//! Answers follow Go's `net/http`, which clients and probes are used to, to the text of the error bodies.
//!
//! Not here: sockets, time (the date is an argument), routing, TLS, HTTP/2 (told apart by the first bytes before
//! anything reaches this module), what is spoken on a connection that was handed over, and obsolete line folding in headers (answered with 400).

mod chunked;
mod date;
#[cfg(feature = "runtime")]
mod reply;
mod request_head;
mod response;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use date::HttpDate;
#[cfg(feature = "runtime")]
pub(crate) use reply::HttpSink;
#[cfg(feature = "runtime")]
pub use reply::{Http1Body, Http1Reply};
pub use request_head::{Headers, Method, Version};
pub use response::{
    BodyCoding, CONTINUE, Framing, Response, write_chunk, write_chunk_end, write_chunk_head, write_response,
    write_response_head, write_stream_head, write_upgrade_head,
};

use chunked::ChunkedBody;
use request_head::{BodyLength, Head};

/// What a connection may make us hold. The defaults are those of Go's server where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers together; beyond it 431.
    pub head_bytes_max: usize,
    /// Decoded body; beyond it 413.
    pub body_bytes_max: usize,
}

impl Limits {
    /// Go's `DefaultMaxHeaderBytes` (1 MiB) and the slop of 4 KiB it grants.
    pub const HEAD_BYTES_MAX_DEFAULT: usize = (1 << 20) + 4096;
    /// Room for a JSON request whose message is of the usual limit (1.5 MiB, a third more as
    /// base64).
    pub const BODY_BYTES_MAX_DEFAULT: usize = 4 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes_max: Self::HEAD_BYTES_MAX_DEFAULT, body_bytes_max: Self::BODY_BYTES_MAX_DEFAULT }
    }
}

/// Header fields of one request at most; beyond it 431. Sized so that the parser's table fits the stack.
pub const HEADERS_MAX: usize = 256;

/// One complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Request {
    /// The method, case-sensitive.
    pub method: Method,
    /// The request target as sent: origin form (`/path?query`), absolute form, `*`, or an authority for CONNECT.
    pub target: Box<str>,
    /// The protocol version of the request line.
    pub version: Version,
    /// All header fields but the body's framing, in the order sent.
    pub headers: Headers,
    /// The body with its framing removed.
    pub body: Bytes,
    /// Whether the client wants the connection to stay open behind the response.
    pub keep_alive: bool,
}

impl Http1Request {
    /// The path of the target, still percent-encoded; `*` and CONNECT targets are returned as they are.
    pub fn path(&self) -> &str {
        let target = self.origin_form();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The raw query behind the first `?`, empty if there is none.
    pub fn query(&self) -> &str {
        self.origin_form().split_once('?').map_or("", |(_, query)| query)
    }

    /// The host asked for: that of an absolute target, otherwise the `Host` header, otherwise empty.
    pub fn host(&self) -> &str {
        match request_head::split_absolute(&self.target) {
            Some((authority, _)) => authority,
            None => self.headers.get_str("host").unwrap_or(""),
        }
    }

    /// How the response to this request has to be framed.
    pub fn framing(&self) -> Framing {
        Framing { version: self.version, keep_alive: self.keep_alive, head: self.method == Method::Head }
    }

    fn origin_form(&self) -> &str {
        match request_head::split_absolute(&self.target) {
            Some((_, "")) => "/",
            Some((_, path)) => path,
            None => &self.target,
        }
    }
}

/// Why the bytes are not a request we serve. Fatal for the connection; [`Http1Error::write_response`] says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Http1Error {
    /// Not HTTP, or framing we refuse to guess at.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// HTTP, but it breaks a rule whose name Go's server puts into the answer.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// Request line and headers exceed [`Limits::head_bytes_max`] or [`HEADERS_MAX`].
    #[error("request header fields too large")]
    HeadTooLarge,
    /// The body exceeds [`Limits::body_bytes_max`].
    #[error("request body too large")]
    BodyTooLarge,
    /// A transfer coding other than one `chunked`.
    #[error("unsupported transfer encoding")]
    UnsupportedTransferEncoding,
    /// An `Expect` other than `100-continue`.
    #[error("expectation failed")]
    ExpectationFailed,
    /// A well-formed version that is not 1.0 or 1.1.
    #[error("unsupported protocol version")]
    UnsupportedVersion,
}

/// What [`Decoder::advance`] made of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more can be said before more bytes arrive.
    NeedMore,
    /// The client waits for [`CONTINUE`] before it sends the body: write it, then go on. At most once a request.
    SendContinue,
    /// A complete request; call again at once, the next one may be in the buffer already (pipelining).
    Request(Http1Request),
    /// A request whose body comes in pieces. Its own `body` stays empty. Call again at once.
    Open(Http1Request),
    /// A piece of that body, not empty. Call again at once.
    Piece(Bytes),
    /// The end of that body. Call again at once.
    End,
}

/// How a request's body is to be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// With the request, as soon as it is complete. Bounded by [`Limits::body_bytes_max`].
    Whole,
    /// As it arrives. Only the chunks that it may come in are bounded by [`Limits::body_bytes_max`].
    Pieces,
    /// Everything that follows on the connection, as it arrives: the connection speaks another protocol from here on.
    Raw,
}

/// One step: drop `consumed` bytes from the front of the buffer, then act on `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// Bytes at the front of the input that are not needed any more.
    pub consumed: usize,
    /// What they meant.
    pub event: Event,
}

/// Incremental decoder of one connection's requests. Every byte is looked at a bounded number of times, however
/// small the pieces it arrives in.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    state: State,
}

/// ```text
/// Head ──complete──▶ Body or Pieces ──complete──▶ Head
///   └──error──▶ Failed ◀──error──┘
/// ```
#[derive(Debug)]
enum State {
    /// Waiting for the blank line; none ends before offset `scanned` of the input. `newlines` were skipped in front.
    Head { newlines: usize, scanned: usize },
    /// The head is parsed and consumed, the body is being collected.
    Body { request: Http1Request, body: Body, continue_owed: bool },
    /// The head was handed out, the body is as it comes.
    Pieces { body: Body, continue_owed: bool, complete: bool },
    /// The connection belongs to another protocol.
    Raw,
    /// An error was returned; nothing may follow.
    Failed,
}

#[derive(Debug)]
enum Body {
    Fixed { bytes: Vec<u8>, length: usize },
    Chunked(ChunkedBody),
}

/// Line ends tolerated in front of a request line: old clients send a stray CRLF behind a body.
const LEADING_NEWLINE_BYTES_MAX: usize = 4;

const BETWEEN_REQUESTS: State = State::Head { newlines: 0, scanned: 0 };

/// Memory set aside at once for a declared length; the rest grows as bytes really arrive, so that a length alone
/// costs us nothing.
const BODY_RESERVE_BYTES_MAX: usize = 64 * 1024;

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: BETWEEN_REQUESTS }
    }

    /// Whether the input so far ends between two requests, so that an end of stream here is a clean one.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head { scanned: 0, .. })
    }

    /// Makes one step on `input`, which must start with the bytes not consumed by earlier steps. All requests come whole.
    pub fn advance(&mut self, input: &[u8]) -> Result<Step, Http1Error> {
        self.advance_as(input, &|_| BodyMode::Whole)
    }

    /// As [`Decoder::advance`], where `mode` says how each request is to come.
    pub fn advance_as(&mut self, input: &[u8], mode: &dyn Fn(&Http1Request) -> BodyMode) -> Result<Step, Http1Error> {
        let result = self.step(input, mode);
        match &result {
            Ok(step) => assert!(step.consumed <= input.len(), "consumed more bytes than there are"),
            Err(_) => self.state = State::Failed,
        }
        result
    }

    fn step(&mut self, input: &[u8], mode: &dyn Fn(&Http1Request) -> BodyMode) -> Result<Step, Http1Error> {
        match &mut self.state {
            State::Head { newlines, scanned } => {
                let stray = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                if stray > 0 {
                    *newlines += stray;
                    if *newlines > LEADING_NEWLINE_BYTES_MAX {
                        return Err(Http1Error::Malformed("empty request line"));
                    }
                    return self.step_behind(stray, input, mode);
                }
                let Some(head_bytes) = request_head::find_end(input, *scanned) else {
                    if input.len() > self.limits.head_bytes_max {
                        return Err(Http1Error::HeadTooLarge);
                    }
                    *scanned = input.len();
                    return Ok(Step { consumed: 0, event: Event::NeedMore });
                };
                if head_bytes > self.limits.head_bytes_max {
                    return Err(Http1Error::HeadTooLarge);
                }
                match self.begin_body(Head::parse(&input[..head_bytes])?, mode)? {
                    Some(event) => Ok(Step { consumed: head_bytes, event }),
                    None => self.step_behind(head_bytes, input, mode),
                }
            }
            State::Body { body, continue_owed, .. } => {
                let (consumed, complete) = body.fill(input, self.limits.body_bytes_max, false)?;
                if complete {
                    return Ok(Step { consumed, event: Event::Request(self.finish()) });
                }
                let event = if std::mem::take(continue_owed) { Event::SendContinue } else { Event::NeedMore };
                Ok(Step { consumed, event })
            }
            State::Pieces { complete: true, .. } => {
                self.state = BETWEEN_REQUESTS;
                Ok(Step { consumed: 0, event: Event::End })
            }
            State::Pieces { body, continue_owed, complete } => {
                if std::mem::take(continue_owed) {
                    return Ok(Step { consumed: 0, event: Event::SendContinue });
                }
                let (consumed, is_complete) = body.fill(input, self.limits.body_bytes_max, true)?;
                let piece = body.take();
                *complete = is_complete;
                let event = match (piece.is_empty(), is_complete) {
                    (false, _) => Event::Piece(piece),
                    (true, false) => Event::NeedMore,
                    (true, true) => {
                        self.state = BETWEEN_REQUESTS;
                        Event::End
                    }
                };
                Ok(Step { consumed, event })
            }
            State::Raw if input.is_empty() => Ok(Step { consumed: 0, event: Event::NeedMore }),
            State::Raw => Ok(Step { consumed: input.len(), event: Event::Piece(Bytes::copy_from_slice(input)) }),
            State::Failed => Err(Http1Error::Malformed("bytes behind a request that was refused")),
        }
    }

    /// Steps on behind the first `skipped` bytes, which this step has consumed already.
    fn step_behind(
        &mut self,
        skipped: usize,
        input: &[u8],
        mode: &dyn Fn(&Http1Request) -> BodyMode,
    ) -> Result<Step, Http1Error> {
        let mut step = self.step(&input[skipped..], mode)?;
        step.consumed += skipped;
        Ok(step)
    }

    /// The head is complete. What is to be told of it already, unless the request waits for its body.
    fn begin_body(
        &mut self,
        head: Head,
        mode: &dyn Fn(&Http1Request) -> BodyMode,
    ) -> Result<Option<Event>, Http1Error> {
        let (body_length, continue_owed) = (head.body_length, head.expects_continue);
        let request = head.into_request(Bytes::new());
        let mode = mode(&request);
        if mode == BodyMode::Raw {
            self.state = State::Raw;
            return Ok(Some(Event::Open(request)));
        }
        let body = match body_length {
            BodyLength::Fixed(length) => {
                let length = usize::try_from(length).map_err(|_| Http1Error::BodyTooLarge)?;
                if mode == BodyMode::Whole && length > self.limits.body_bytes_max {
                    return Err(Http1Error::BodyTooLarge);
                }
                let reserved = if mode == BodyMode::Whole { length.min(BODY_RESERVE_BYTES_MAX) } else { 0 };
                Body::Fixed { bytes: Vec::with_capacity(reserved), length }
            }
            BodyLength::Chunked => Body::Chunked(ChunkedBody::new()),
        };
        if mode == BodyMode::Pieces {
            self.state = State::Pieces { body, continue_owed, complete: false };
            return Ok(Some(Event::Open(request)));
        }
        self.state = State::Body { request, body, continue_owed };
        Ok(None)
    }

    fn finish(&mut self) -> Http1Request {
        let State::Body { mut request, body, .. } = std::mem::replace(&mut self.state, BETWEEN_REQUESTS) else {
            unreachable!("only a body can be finished");
        };
        let body = match body {
            Body::Fixed { bytes, length } => {
                assert_eq!(bytes.len(), length, "a body of declared length is complete at that length");
                bytes
            }
            Body::Chunked(chunked) => chunked.into_bytes(),
        };
        request.body = Bytes::from(body);
        request
    }
}

impl Body {
    /// Takes from `input` what belongs to the body. Returns the bytes taken and whether the body is complete.
    fn fill(&mut self, input: &[u8], body_bytes_max: usize, in_pieces: bool) -> Result<(usize, bool), Http1Error> {
        match self {
            Body::Fixed { bytes, length } => {
                let take = input.len().min(*length - bytes.len());
                bytes.extend_from_slice(&input[..take]);
                Ok((take, bytes.len() == *length))
            }
            Body::Chunked(chunked) => chunked.fill(input, body_bytes_max, in_pieces),
        }
    }

    /// What was collected so far, which does not count any more.
    fn take(&mut self) -> Bytes {
        match self {
            Body::Fixed { bytes, length } => {
                *length -= bytes.len();
                std::mem::take(bytes).into()
            }
            Body::Chunked(chunked) => chunked.take().into(),
        }
    }
}

/// Parses one request from the front of `input`. `None`: incomplete. Otherwise the request and its length in bytes.
///
/// For callers that hold a whole request anyway (and for tests); a connection uses [`Decoder`], which does not start
/// from the front each time and knows about `Expect: 100-continue`.
pub fn parse(input: &[u8], limits: Limits) -> Result<Option<(Http1Request, usize)>, Http1Error> {
    let mut decoder = Decoder::new(limits);
    let mut consumed = 0;
    loop {
        let step = decoder.advance(&input[consumed..])?;
        consumed += step.consumed;
        match step.event {
            Event::NeedMore => return Ok(None),
            Event::SendContinue => {}
            Event::Request(request) => return Ok(Some((request, consumed))),
            Event::Open(_) | Event::Piece(_) | Event::End => unreachable!("all requests come whole"),
        }
    }
}
