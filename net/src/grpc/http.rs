//! Requests over HTTP/2 that are not gRPC: the JSON gateway, `/health`, `/metrics`.
//!
//! Clients that negotiate HTTP/2 by TLS (curl, browsers) use it for these too. Such a request is rewritten as the
//! HTTP/1.1 request it would have been and goes through the same parser, so that the service sees only one kind. It is
//! collected to its end before it is handed out, and bounded as over HTTP/1.1.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::call::Call;
use super::call_head::CallHead;
use super::calls::{Action, GrpcConnection, Kind, call_key, stream_key};
use super::service::CallKey;
use crate::h2::frame::ErrorCode;
use crate::h2::{RequestHead, StreamKey};
use crate::http1::{Http1Error, Http1Request, HttpDate, Limits, Method, Response, parse};

/// A request that is being received or answered.
pub(super) struct HttpRequest {
    head: Rc<RequestHead<CallHead>>,
    body: Vec<u8>,
    /// Waits until few bytes of the answer wait.
    on_drained: Option<Box<dyn FnOnce()>>,
}

impl HttpRequest {
    pub(super) fn take_on_drained(&mut self) -> Option<Box<dyn FnOnce()>> {
        self.on_drained.take()
    }
}

impl GrpcConnection {
    /// A request began that is not gRPC.
    pub(super) fn open_http(&mut self, key: StreamKey, head: Rc<RequestHead<CallHead>>, ended: bool) -> Option<Action> {
        let call = Call::new(Rc::clone(&head) as _, Rc::clone(self.peer()), None, Instant::now());
        let request = HttpRequest { head, body: Vec::new(), on_drained: None };
        self.insert(key, Kind::Http(Box::new(request)), usize::MAX, call, ended);
        if ended { self.complete_http(call_key(key)) } else { None }
    }

    /// A piece of its body.
    pub(super) fn on_http_data(&mut self, key: CallKey, data: &Bytes, ended: bool) -> Option<Action> {
        let limits = self.limits.http.unwrap_or_default();
        let Kind::Http(request) = &mut self.call_mut(key)?.kind else { return None };
        if request.body.len() + data.len() > limits.body_bytes_max {
            self.refuse_http(key, Http1Error::BodyTooLarge);
            return None;
        }
        request.body.extend_from_slice(data);
        if ended { self.complete_http(key) } else { None }
    }

    /// It has arrived completely.
    fn complete_http(&mut self, key: CallKey) -> Option<Action> {
        let limits = self.limits.http.unwrap_or_default();
        let Kind::Http(request) = &mut self.call_mut(key)?.kind else { return None };
        match rewrite(&request.head, std::mem::take(&mut request.body), limits) {
            Ok(request) => Some(Action::Http { request, key }),
            Err(error) => {
                self.refuse_http(key, error);
                None
            }
        }
    }

    fn refuse_http(&mut self, key: CallKey, error: Http1Error) {
        self.http_head(key, error.status(), &[], None, None);
        self.http_end(key);
    }

    /// Sends the head of an answer. Names of fields may be in any case.
    pub fn http_head(
        &mut self,
        key: CallKey,
        status: u16,
        fields: &[(&'static str, Cow<'static, str>)],
        body_bytes: Option<usize>,
        date: Option<HttpDate>,
    ) {
        if self.is_closed(key) {
            return;
        }
        self.h2.send_head(stream_key(key), |encoder, out| {
            encoder.status(out, status);
            for (name, value) in fields {
                encoder.literal(out, name.to_ascii_lowercase().as_bytes(), value.as_bytes());
            }
            if let Some(body_bytes) = body_bytes {
                encoder.literal(out, b"content-length", body_bytes.to_string().as_bytes());
            }
            if let Some(date) = date {
                encoder.literal(out, b"date", date.as_bytes());
            }
        });
    }

    /// Sends a piece of the body of an answer. HEAD gets none.
    pub fn http_data(&mut self, key: CallKey, piece: Bytes) {
        let Some(call) = self.call_mut(key) else { return };
        if !matches!(&call.kind, Kind::Http(request) if request.head.method() == b"HEAD") {
            self.h2.send_bytes(stream_key(key), piece);
        }
    }

    /// Leaves an action for when few bytes of an answer wait.
    pub fn http_on_drained(&mut self, key: CallKey, action: Box<dyn FnOnce()>) {
        if let Some(call) = self.call_mut(key)
            && let Kind::Http(request) = &mut call.kind
        {
            request.on_drained = Some(action);
        }
    }

    /// Ends an answer.
    pub fn http_end(&mut self, key: CallKey) {
        if let Some(call) = self.remove(key) {
            self.h2.send_end(stream_key(key));
            self.discard(call);
        }
    }

    /// Cuts an answer off.
    pub fn http_abort(&mut self, key: CallKey) {
        if let Some(call) = self.remove(key) {
            self.h2.reset(stream_key(key), ErrorCode::INTERNAL_ERROR);
            self.discard(call);
        }
    }

    /// Sends a whole answer.
    pub fn http_respond(&mut self, key: CallKey, response: &Response, date: HttpDate) {
        self.http_head(key, response.status, &response.headers, Some(response.body.len()), Some(date));
        self.http_data(key, response.body.clone());
        self.http_end(key);
    }
}

/// Fields that frame a message in HTTP/1.1; the framing of HTTP/2 has replaced them.
const FRAMING: [&[u8]; 3] = [b"content-length", b"expect", b"te"];

fn rewrite(head: &RequestHead<CallHead>, body: Vec<u8>, limits: Limits) -> Result<Http1Request, Http1Error> {
    let mut text = Vec::with_capacity(256);
    text.extend_from_slice(&[head.method(), b" ", head.path(), b" HTTP/1.1\r\n"].concat());
    let mut put = |name: &[u8], value: &[u8]| text.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    let authority = head.get(b":authority");
    if let Some(authority) = authority {
        put(b"host", authority);
    }
    for field in head.fields() {
        let name = field.name();
        let replaced = name.starts_with(b":") || FRAMING.contains(&name) || name == b"host" && authority.is_some();
        if !replaced {
            put(name, field.value());
        }
    }
    text.extend_from_slice(b"\r\n");
    let (mut request, length) = parse(&text, limits)?.ok_or(Http1Error::Malformed("malformed request"))?;
    if length != text.len() || request.method == Method::Connect {
        return Err(Http1Error::Malformed("malformed request"));
    }
    request.body = body.into();
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::hpack::Field;

    fn rewritten(fields: &[(&str, &str)], body: &str) -> Result<Http1Request, Http1Error> {
        let fields = fields.iter().map(|(name, value)| Rc::new(Field::new(name.as_bytes(), value.as_bytes())));
        rewrite(&RequestHead::new(fields.collect()).unwrap(), body.into(), Limits::default())
    }

    #[test]
    fn a_request_becomes_what_it_would_have_been() {
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/v3/kv/put?x=1"),
            (":authority", "member:2379"),
            ("host", "other"),
            ("content-length", "2"),
            ("authorization", "token"),
        ];
        let request = rewritten(&fields, "{}").unwrap();
        assert_eq!(request.method, Method::Post);
        assert_eq!((request.path(), request.query()), ("/v3/kv/put", "x=1"));
        assert_eq!(request.host(), "member:2379");
        assert_eq!(request.headers.get("authorization"), Some(b"token".as_slice()));
        assert_eq!(request.headers.get("content-length"), None);
        assert_eq!(request.body, "{}");
        assert!(request.keep_alive);
    }

    #[test]
    fn a_host_takes_the_place_of_the_authority() {
        let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/health"), ("host", "h")];
        assert_eq!(rewritten(&fields, "").unwrap().host(), "h");
    }

    #[test]
    fn what_cannot_be_written_in_http1_is_refused() {
        let get = |path| [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", "h")];
        assert!(rewritten(&get("/fine"), "").is_ok());
        assert!(rewritten(&get("/a b"), "").is_err());
        assert!(rewritten(&get("/a HTTP/1.1"), "").is_err());
        assert!(rewritten(&[(":method", "CONNECT"), (":authority", "h")], "").is_err());
    }
}
