//! Tables of requests and answers, and fuzzing by mutation: whatever arrives, in whatever pieces, the decoder neither
//! panics nor disagrees with itself.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { head_bytes_max: 1024, body_bytes_max: 64 };

fn parse_ok(input: &[u8]) -> Http1Request {
    let (request, consumed) = parse(input, LIMITS).expect("accepted").expect("complete");
    assert_eq!(consumed, input.len(), "the whole input is one request");
    request
}

/// Feeds `input` in pieces of `piece` bytes, the way a connection does.
fn feed(input: &[u8], piece: usize) -> (Vec<Http1Request>, usize, Result<usize, Http1Error>) {
    let (mut decoder, mut buffer) = (Decoder::new(LIMITS), Vec::new());
    let (mut requests, mut continues) = (Vec::new(), 0);
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let step = match decoder.advance(&buffer) {
                Ok(step) => step,
                Err(error) => return (requests, continues, Err(error)),
            };
            buffer.drain(..step.consumed);
            match step.event {
                Event::NeedMore => break,
                Event::SendContinue => continues += 1,
                Event::Request(request) => requests.push(request),
                Event::Open(_) | Event::Piece(_) | Event::End => panic!("nobody asked for pieces"),
            }
        }
    }
    (requests, continues, Ok(buffer.len()))
}

#[test]
fn a_plain_get() {
    let request =
        parse_ok(b"GET /health?serializable=true&exclude=NOSPACE HTTP/1.1\r\nHost: a:2379\r\nAccept: */*\r\n\r\n");
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.path(), "/health");
    assert_eq!(request.query(), "serializable=true&exclude=NOSPACE");
    assert_eq!(request.host(), "a:2379");
    assert_eq!(request.headers.get_str("ACCEPT"), Some("*/*"));
    assert_eq!(request.headers.len(), 2);
    assert!(request.keep_alive);
    assert!(request.body.is_empty());
}

/// As `feed`, for bodies in pieces: what each request's body was put together from, and whether it ended.
fn feed_pieces(input: &[u8], piece: usize, mode: BodyMode) -> (Vec<(Http1Request, Vec<u8>, bool)>, usize) {
    let (mut decoder, mut buffer) = (Decoder::new(LIMITS), Vec::new());
    let (mut requests, mut continues): (Vec<(Http1Request, Vec<u8>, bool)>, usize) = (Vec::new(), 0);
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let step = decoder.advance_as(&buffer, &|_| mode).expect("well-formed");
            buffer.drain(..step.consumed);
            match step.event {
                Event::NeedMore => break,
                Event::SendContinue => continues += 1,
                Event::Open(request) => requests.push((request, Vec::new(), false)),
                Event::Piece(piece) => requests.last_mut().expect("open").1.extend_from_slice(&piece),
                Event::End => requests.last_mut().expect("open").2 = true,
                Event::Request(_) => panic!("pieces were asked for"),
            }
        }
    }
    (requests, continues)
}

#[test]
fn bodies_come_in_pieces_where_that_is_asked_for() {
    let long = "x".repeat(2 * LIMITS.body_bytes_max);
    let head = "POST /v3/watch HTTP/1.1\r\nHost: h\r\n";
    let fixed = format!("{head}Content-Length: {}\r\n\r\n{long}", long.len());
    let expected = format!(
        "{head}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n40\r\n{}\r\n0\r\n\r\n",
        &long[..64]
    );
    let empty = format!("{head}Content-Length: 0\r\n\r\n");
    let input = [fixed, expected, empty].concat();
    for size in [1, 2, 7, 100, input.len()] {
        let (requests, continues) = feed_pieces(input.as_bytes(), size, BodyMode::Pieces);
        let bodies: Vec<_> = requests.iter().map(|(_, body, ended)| (body.as_slice(), *ended)).collect();
        let chunked = [b"abc", &long.as_bytes()[..64]].concat();
        assert_eq!(bodies, [(long.as_bytes(), true), (&chunked, true), (b"", true)], "in pieces of {size}");
        assert_eq!(continues, 1);
    }
}

#[test]
fn another_protocol_gets_every_byte_behind_the_head() {
    let input =
        b"GET /v3/watch HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n\x81\x00GET / x\r\n";
    for size in [1, 3, input.len()] {
        let (requests, _) = feed_pieces(input, size, BodyMode::Raw);
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].1.as_slice(), requests[0].2), (&b"\x81\x00GET / x\r\n"[..], false));
    }
}

#[test]
fn targets() {
    const CASES: &[(&str, &str, &str, &str)] = &[
        ("/", "/", "", "h"),
        ("/a%2fb?x?y", "/a%2fb", "x?y", "h"),
        ("*", "*", "", "h"),
        ("http://other:1/p?q", "/p", "q", "other:1"),
        ("http://other", "/", "", "other"),
        ("https://other?q", "", "q", "other"),
    ];
    for (target, path, query, host) in CASES {
        let request = parse_ok(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!((request.path(), request.query(), request.host()), (*path, *query, *host), "{target}");
    }
}

#[test]
fn keep_alive_by_version_and_connection_header() {
    const CASES: &[(&str, &str, bool)] = &[
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: TE, Close\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
    ];
    for (version, header, keep_alive) in CASES {
        let request = parse_ok(format!("GET / {version}\r\nHost: h\r\n{header}\r\n").as_bytes());
        assert_eq!(request.keep_alive, *keep_alive, "{version} {header}");
    }
}

#[test]
fn bodies() {
    const CASES: &[(&str, &str, &str)] = &[
        ("content length", "Content-Length: 5\r\n\r\nhello", "hello"),
        ("the same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("no body", "\r\n", ""),
        ("chunked", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1 \r\n!\r\n0\r\n\r\n", "hello!"),
        ("chunk extension", "Transfer-Encoding: Chunked\r\n\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("trailer", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n000\r\nX-Sum: 1\r\nY: 2\r\n\r\n", "x"),
        ("chunked wins over a length", "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    ];
    for (name, rest, body) in CASES {
        let input = format!("POST /v3/kv/put HTTP/1.1\r\nHost: h\r\n{rest}");
        assert_eq!(parse_ok(input.as_bytes()).body, body.as_bytes(), "{name}");
        for piece in 1..input.len() {
            let (requests, _, left) = feed(input.as_bytes(), piece);
            assert_eq!((requests.len(), left), (1, Ok(0)), "{name} in pieces of {piece}");
            assert_eq!(requests[0].body, body.as_bytes(), "{name} in pieces of {piece}");
        }
    }
}

#[test]
fn http_1_0_ignores_transfer_encoding() {
    let request = parse_ok(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(request.body, b"ab".as_slice());
    assert_eq!(request.version, Version::Http10);
}

#[test]
fn refusals() {
    let oversized_head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1024));
    let many_fields = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(HEADERS_MAX + 1));
    let padded_chunks = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunk_with_extension(2000).repeat(10)
    );
    let long_line = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(5000));
    let cases: &[(&str, &str, u16)] = &[
        ("garbage", "\x16\x03\x01\x02\n\n", 400),
        ("no version", "GET /\r\n\r\n", 400),
        ("relative target", "GET health HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("broken escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("odd version", "GET / HTTQ/1.1\r\nHost: h\r\n\r\n", 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("bad host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("space before the colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        ("folded header", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400),
        ("different lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("negative length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        ("signed length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na", 400),
        ("huge length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("length list", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\na", 400),
        ("body over the limit", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65\r\n\r\n", 413),
        ("chunk over the limit", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n", 413),
        ("chunk overflow", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413),
        ("chunk digits", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\n", 400),
        ("no chunk size", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n", 400),
        ("bare line feed", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", 400),
        ("chunk end", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", 400),
        ("bad trailer", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n", 400),
        ("padded chunks", &padded_chunks, 400),
        ("endless chunk line", &long_line, 400),
        ("two codings", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (
            "two coding headers",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            501,
        ),
        ("expectation", "POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n", 417),
        ("oversized head", &oversized_head, 431),
        ("too many fields", &many_fields, 431),
        ("newlines without end", "\r\n\r\n\r\n", 400),
    ];
    for (name, input, status) in cases {
        for piece in [1, 7, input.len()] {
            let (requests, _, result) = feed(input.as_bytes(), piece);
            let error = result.expect_err(name);
            assert_eq!((requests.len(), error.status()), (0, *status), "{name} in pieces of {piece}: {error}");
        }
    }
}

fn chunk_with_extension(length: usize) -> String {
    format!("1;{}\r\nx\r\n", "e".repeat(length))
}

#[test]
fn a_head_without_end_is_refused_at_the_limit_and_not_before() {
    let mut decoder = Decoder::new(LIMITS);
    let mut input = b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec();
    input.resize(LIMITS.head_bytes_max, b'x');
    assert_eq!(decoder.advance(&input).map(|step| step.event), Ok(Event::NeedMore));
    input.push(b'x');
    assert_eq!(decoder.advance(&input), Err(Http1Error::HeadTooLarge));
    assert!(decoder.advance(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_err(), "nothing follows an error");
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let one = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    let two = b"\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n"; // with the stray line end some clients send
    let input = [one.as_slice(), two].concat();
    for piece in 1..=input.len() {
        let (requests, _, left) = feed(&input, piece);
        let paths: Vec<_> = requests.iter().map(Http1Request::path).collect();
        assert_eq!((paths.as_slice(), left), (["/a", "/b"].as_slice(), Ok(0)), "pieces of {piece}");
    }
}

#[test]
fn continue_is_asked_for_once_and_only_when_the_body_is_missing() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
    let (requests, continues, _) = feed(format!("{head}abc").as_bytes(), 1);
    assert_eq!((requests.len(), continues), (1, 1));
    let whole = format!("{head}abc");
    let (requests, continues, _) = feed(whole.as_bytes(), whole.len());
    assert_eq!((requests.len(), continues), (1, 0), "the body is there already");
    let (requests, continues, _) = feed(head.replace("1.1", "1.0").as_bytes(), 1);
    assert_eq!((requests.len(), continues), (0, 0), "HTTP/1.0 has no interim responses");
    let (_, _, result) = feed(head.replace(": 3", ": 65").as_bytes(), 1);
    assert_eq!(result, Err(Http1Error::BodyTooLarge), "refused before the client sends the body");
}

#[test]
fn idle_is_between_requests_only() {
    let mut decoder = Decoder::new(LIMITS);
    assert!(decoder.is_idle());
    let _ = decoder.advance(b"GET / HT").expect("a prefix");
    assert!(!decoder.is_idle());
    let step = decoder.advance(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("complete");
    assert!(matches!(step.event, Event::Request(_)));
    assert!(decoder.is_idle());
}

#[test]
fn dates() {
    const CASES: &[(u64, &str)] = &[
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_767_323_045, "Fri, 02 Jan 2026 03:04:05 GMT"),
        (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ];
    for (seconds, text) in CASES {
        assert_eq!(HttpDate::from_unix_seconds(*seconds).as_bytes(), text.as_bytes(), "{seconds}");
    }
}

fn written(response: &Response, request: &[u8]) -> String {
    let mut out = Vec::new();
    write_response(&mut out, response, parse_ok(request).framing(), &HttpDate::from_unix_seconds(0));
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn responses_are_framed_for_their_request() {
    const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let response = Response::error(503, "no");
    let fields = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
    let cases = [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "1.1", "", "no\n"),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "1.1", "Connection: close\r\n", "no\n"),
        ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "1.1", "", ""),
        ("GET / HTTP/1.0\r\n\r\n", "1.0", "", "no\n"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "1.0", "Connection: keep-alive\r\n", "no\n"),
    ];
    for (request, version, connection, body) in cases {
        let expected = format!(
            "HTTP/{version} 503 Service Unavailable\r\n{fields}{DATE}{connection}Content-Length: 3\r\n\r\n{body}"
        );
        assert_eq!(written(&response, request.as_bytes()), expected, "{request}");
    }
    let empty = written(&Response::new(204), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(empty, format!("HTTP/1.1 204 No Content\r\n{DATE}\r\n"));
}

#[test]
fn streams_are_framed_for_their_request() {
    const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases = [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", format!("HTTP/1.1 200 OK\r\n{DATE}{chunked}\r\n3\r\nabc\r\n0\r\n\r\n")),
        ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", format!("HTTP/1.1 200 OK\r\n{DATE}{chunked}\r\n")),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", format!("HTTP/1.0 200 OK\r\n{DATE}\r\nabc")),
    ];
    for (request, expected) in cases {
        let mut out = Vec::new();
        let framing = parse_ok(request.as_bytes()).framing();
        let coding = write_stream_head(&mut out, 200, &[], framing, &HttpDate::from_unix_seconds(0));
        write_chunk(&mut out, coding, b"abc");
        write_chunk(&mut out, coding, b"");
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected, "{request}");
    }
}

#[test]
fn error_responses_read_as_those_of_go() {
    let cases = [
        (Http1Error::Malformed("x"), "400 Bad Request", "400 Bad Request"),
        (
            Http1Error::BadRequest("missing required Host header"),
            "400 Bad Request: missing required Host header",
            "400 Bad Request: missing required Host header",
        ),
        (Http1Error::HeadTooLarge, "431 Request Header Fields Too Large", "431 Request Header Fields Too Large"),
        (Http1Error::UnsupportedTransferEncoding, "501 Not Implemented", "Unsupported transfer encoding"),
        (
            Http1Error::UnsupportedVersion,
            "505 HTTP Version Not Supported: unsupported protocol version",
            "505 HTTP Version Not Supported: unsupported protocol version",
        ),
        (Http1Error::BodyTooLarge, "413 Request Entity Too Large", "413 Request Entity Too Large"),
    ];
    for (error, line, body) in cases {
        let mut out = Vec::new();
        error.write_response(&mut out);
        let fields = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
        assert_eq!(String::from_utf8(out).expect("ASCII"), format!("HTTP/1.1 {line}\r\n{fields}\r\n{body}"));
    }
}

#[test]
fn an_expectation_we_cannot_meet_is_answered_without_a_body() {
    let mut out = Vec::new();
    Http1Error::ExpectationFailed.write_response(&mut out);
    assert_eq!(out, b"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn bad_headers_are_named() {
    let parsed = |field: &str| parse(format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n").as_bytes(), LIMITS);
    assert_eq!(parsed("A : b"), Err(Http1Error::BadRequest("invalid header name")));
    assert_eq!(parsed("A: b\0"), Err(Http1Error::BadRequest("invalid header value")));
}

#[test]
#[should_panic(expected = "split the response")]
fn a_header_value_cannot_split_the_response() {
    let _ = Response::new(200).header("X", "a\r\nSet-Cookie: b");
}

/// Requests to mutate: between them they reach every state of the decoder.
const SEEDS: &[&str] = &[
    "GET /readyz?verbose&exclude=a HTTP/1.1\r\nHost: h:1\r\nAccept: */*\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "POST /v3/kv/range HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n{\"key\":\"a\"}GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\nGET",
    "PUT http://h/x?y HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
];

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..5u8);
    (prop::sample::select(SEEDS), prop::collection::vec(edit, 0..6)).prop_map(|(seed, edits)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, b"\r\n :;0a%"[byte as usize % 8]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// How the bytes are cut into reads changes nothing about what they mean.
    #[test]
    fn pieces_do_not_change_the_meaning(input in mutated(), piece in 1..40usize) {
        let (whole_requests, _, whole) = feed(&input, input.len().max(1));
        let (requests, _, result) = feed(&input, piece);
        prop_assert_eq!(requests, whole_requests);
        prop_assert_eq!(result.is_err(), whole.is_err());
    }

    /// Arbitrary bytes never panic, and errors always have an answer.
    #[test]
    fn any_bytes(input in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = parse(&input, LIMITS) {
            prop_assert!((400..600).contains(&error.status()));
        }
    }

    /// What is written as chunks is read back as one body.
    #[test]
    fn chunks_round_trip(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..7)) {
        let mut input = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in &pieces {
            write_chunk(&mut input, BodyCoding::Chunked, piece);
        }
        write_chunk(&mut input, BodyCoding::Chunked, b"");
        prop_assert_eq!(parse_ok(&input).body, pieces.concat());
    }
}
