//! Calls over websockets: the handshake, and frames as the body of a request.

use super::exchange::Exchange;
use super::frames::{self, Decoder, Event};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use plinth_net::grpc::BodyHandler;
use plinth_net::http1::{Headers, Http1Request, Method, Response};
use sha1::{Digest, Sha1};
use std::borrow::Cow;
use std::rc::Rc;

/// What the standard has every server append to a client's key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for a websocket.
pub fn is_upgrade(request: &Http1Request) -> bool {
    request.headers.has_token("connection", "upgrade") && request.headers.has_token("upgrade", "websocket")
}

/// The headers of the answer that accepts a websocket. `None`: it cannot be accepted.
pub fn handshake(request: &Http1Request) -> Option<Vec<(&'static str, Cow<'static, str>)>> {
    let headers = &request.headers;
    let key = headers.get("sec-websocket-key")?.trim_ascii();
    let is_key = STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    if request.method != Method::Get || !headers.has_token("sec-websocket-version", "13") || !is_key {
        return None;
    }
    let accept = STANDARD.encode(Sha1::digest([key, MAGIC].concat()));
    let mut answer = vec![
        ("Upgrade", "websocket".into()),
        ("Connection", "Upgrade".into()),
        ("Sec-WebSocket-Accept", accept.into()),
    ];
    if headers.get("sec-websocket-protocol").is_some_and(|protocol| protocol.starts_with(b"Bearer")) {
        answer.push(("Sec-WebSocket-Protocol", "Bearer".into()));
    }
    Some(answer)
}

/// The answer to a handshake that cannot be accepted.
pub fn refusal() -> Response {
    Response::error(400, "Bad Request").header("Sec-Websocket-Version", "13")
}

/// What stands for `Authorization`, which browsers cannot send along: a cookie, or what follows `Bearer,` in the list of
/// protocols.
pub fn authorization(headers: &Headers) -> Option<Vec<u8>> {
    let cookie = headers
        .get_all("cookie")
        .flat_map(|cookies| cookies.split(|byte| *byte == b';'))
        .find_map(|cookie| cookie.trim_ascii().strip_prefix(b"token="));
    if let Some(token) = cookie {
        let token = token.strip_prefix(b"\"").and_then(|token| token.strip_suffix(b"\"")).unwrap_or(token);
        return Some([b"Bearer ".as_slice(), token].concat());
    }
    let protocols = headers.get_str("sec-websocket-protocol")?;
    let (_, token) = protocols.split_once("Bearer,")?;
    Some(format!("Bearer {}", token.trim_matches(' ')).into_bytes())
}

/// Takes frames, and hands messages on as pieces of a body.
pub struct Receiver {
    exchange: Rc<Exchange>,
    body: Box<dyn BodyHandler>,
    decoder: Decoder,
    is_closed: bool,
}

impl Receiver {
    /// Hands messages to `body`; answers of the socket's own go to `exchange`.
    pub fn new(exchange: Rc<Exchange>, body: Box<dyn BodyHandler>) -> Receiver {
        Receiver { exchange, body, decoder: Decoder::default(), is_closed: false }
    }

    fn close(&mut self, code: u16) {
        self.is_closed = true;
        self.exchange.leave(code);
    }
}

impl BodyHandler for Receiver {
    fn piece(&mut self, piece: Bytes) {
        self.decoder.push(&piece);
        while !self.is_closed {
            match self.decoder.next() {
                Ok(None) => return,
                Ok(Some(Event::Message(mut message))) => {
                    message.push(b'\n');
                    self.body.piece(message.into());
                }
                Ok(Some(Event::Ping(payload))) => self.exchange.frame(frames::pong(&payload)),
                Ok(Some(Event::Close)) => self.close(1000),
                Err(violation) => self.close(violation.0),
            }
        }
    }

    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::http1::{Limits, parse};

    fn request(fields: &str) -> Http1Request {
        let text = format!("GET /v3/watch HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        parse(text.as_bytes(), Limits::default()).expect("well-formed").expect("complete").0
    }

    #[test]
    fn the_handshake_is_the_standards() {
        let asked = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let whole = request(&format!("{asked}{key}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: Bearer, t\r\n"));
        assert!(is_upgrade(&whole) && !is_upgrade(&request("Upgrade: websocket\r\n")));
        let answer = handshake(&whole).expect("accepted");
        assert!(answer.contains(&("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into())));
        assert!(answer.contains(&("Sec-WebSocket-Protocol", "Bearer".into())));
        assert!(handshake(&request(&format!("{asked}{key}Sec-WebSocket-Version: 8\r\n"))).is_none());
        assert!(handshake(&request(&format!("{asked}Sec-WebSocket-Version: 13\r\n"))).is_none());
    }

    #[test]
    fn tokens_come_as_protocol_or_cookie() {
        let token =
            |fields: &str| authorization(&request(fields).headers).map(|value| String::from_utf8(value).expect("text"));
        assert_eq!(token(""), None);
        assert_eq!(token("Sec-WebSocket-Protocol: Bearer,  abc \r\n").as_deref(), Some("Bearer abc"));
        assert_eq!(token("Sec-WebSocket-Protocol: chat\r\n"), None);
        let both = "Sec-WebSocket-Protocol: Bearer, a\r\nCookie: x=1; token=\"b\"\r\n";
        assert_eq!(token(both).as_deref(), Some("Bearer b"));
    }
}
