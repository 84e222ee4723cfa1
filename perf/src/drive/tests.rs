//! The driver against a gRPC server that misbehaves on purpose: what is measured must be what happened.

use super::*;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};

/// How the server behaves, from its start on.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Answers, but nothing for a while after some time.
    Stall { after: Duration, length: Duration },
    /// Refuses with a status that needs Huffman codes and escapes.
    Refuse,
    /// Takes requests and never answers.
    Silent,
    /// Closes the connection after some requests.
    Close { after_requests: usize },
}

/// Starts the server in a thread of its own; it ends with the process.
fn serve(behaviour: Behaviour) -> SocketAddr {
    let (sender, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            sender.send(listener.local_addr().expect("bound")).expect("the test waits");
            let start = Instant::now();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, behaviour, start));
            }
        });
    });
    address.recv().expect("the server starts")
}

async fn connection(socket: TcpStream, behaviour: Behaviour, start: Instant) {
    let mut requests = 0;
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        requests += 1;
        if matches!(behaviour, Behaviour::Close { after_requests } if requests > after_requests) {
            return;
        }
        tokio::spawn(answer(request.into_body(), respond, behaviour, start));
    }
}

async fn answer(mut body: h2::RecvStream, mut respond: SendResponse<Bytes>, behaviour: Behaviour, start: Instant) {
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    match behaviour {
        Behaviour::Stall { after, length } => {
            if (after..after + length).contains(&start.elapsed()) {
                tokio::time::sleep_until(tokio::time::Instant::from_std(start + after + length)).await;
            }
        }
        Behaviour::Silent => return std::future::pending().await,
        Behaviour::Refuse | Behaviour::Close { .. } => {}
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
    let Ok(mut stream) = respond.send_response(head, false) else { return };
    let mut trailers = HeaderMap::new();
    if matches!(behaviour, Behaviour::Refuse) {
        trailers.insert("grpc-status", HeaderValue::from_static("8"));
        trailers.insert("grpc-message", HeaderValue::from_static("no room%21"));
    } else {
        let _ = stream.send_data(Bytes::from_static(&[0; 5]), false);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
    }
    let _ = stream.send_trailers(trailers);
}

fn spec() -> Spec {
    Spec {
        connections: 4,
        streams: 8,
        seconds: 1.5,
        warmup_seconds: 0.0,
        interval_seconds: 0.1,
        ..Spec::usual(Kind::Put)
    }
}

#[test]
fn an_open_loop_counts_the_wait_for_a_stalled_server() {
    let stall = Behaviour::Stall { after: Duration::from_millis(500), length: Duration::from_millis(500) };
    let address = serve(stall);
    let spec = Spec { rate: Some(1_000.0), ..spec() };
    let outcome = run(&Target::address(address), &spec, "stall").expect("runs");
    let track = &outcome.tracks[0];
    assert_eq!((outcome.errors.total(), outcome.unanswered, outcome.unsent), (0, 0, 0));
    assert!((1_480..=1_520).contains(&track.summary().count), "{:?}", track.summary());
    // A third of all requests were due during the stall and waited between 0 and 500 ms, although only as many as
    // there are slots could be sent.
    // What the bounds leave is for a machine that has other things to do.
    let latency = track.summary();
    assert!(latency.p50 < 150_000.0, "{latency:?}");
    assert!((250_000.0..=600_000.0).contains(&latency.p90), "{latency:?}");
    assert!((400_000.0..=1_200_000.0).contains(&latency.max), "{latency:?}");
    let slow: Vec<f64> =
        track.series().iter().filter(|point| point.p99 > 60_000.0).map(|point| point.seconds).collect();
    assert!((4..=9).contains(&slow.len()), "a third of the intervals are slow: {slow:?}");
}

#[test]
fn a_closed_loop_sees_a_stall_once_per_slot() {
    let stall = Behaviour::Stall { after: Duration::from_millis(500), length: Duration::from_millis(500) };
    let outcome = run(&Target::address(serve(stall)), &spec(), "stall").expect("runs");
    let latency = outcome.tracks[0].summary();
    // Once per slot is less than a tenth of all.
    assert!(latency.count > 400 && latency.p90 < 100_000.0 && latency.max > 300_000.0, "{latency:?}");
}

#[test]
fn refusals_are_counted_by_their_text() {
    let outcome =
        run(&Target::address(serve(Behaviour::Refuse)), &Spec { seconds: 1.0, ..spec() }, "refuse").expect("runs");
    assert_eq!(outcome.errors.0.keys().collect::<Vec<_>>(), ["status 8: no room!"]);
    assert!(outcome.errors.total() >= 32, "{:?}", outcome.errors);
    assert_eq!((outcome.completed(), outcome.unanswered), (0, 0));
}

#[test]
fn requests_without_an_answer_are_counted() {
    let spec = Spec { rate: Some(400.0), seconds: 0.5, ..spec() };
    let outcome = run(&Target::address(serve(Behaviour::Silent)), &spec, "silent").expect("runs");
    assert_eq!(outcome.unanswered, 32, "one per slot");
    assert!((165..=170).contains(&outcome.unsent), "{}", outcome.unsent);
    let latency = outcome.tracks[0].summary();
    assert!((198..=202).contains(&latency.count), "{latency:?}");
    assert!(latency.p50 > GRACE.as_micros() as f64, "each counts with the age it reached: {latency:?}");
}

#[test]
fn a_broken_connection_is_an_error_of_its_requests() {
    let spec = Spec { seconds: 5.0, ..spec() };
    let outcome = run(&Target::address(serve(Behaviour::Close { after_requests: 100 })), &spec, "close").expect("runs");
    assert!((4..=32).contains(&outcome.errors.total()), "{:?}", outcome.errors);
    assert!(outcome.completed() >= 300, "{}", outcome.completed());
}

#[test]
fn a_bounded_run_sends_exactly_its_requests() {
    let never = Behaviour::Stall { after: Duration::MAX / 4, length: Duration::ZERO };
    let fill = Spec { kind: Kind::Fill, keys: 1_234, seconds: 30.0, ..spec() };
    let started = Instant::now();
    let outcome = run(&Target::address(serve(never)), &fill, "fill").expect("runs");
    assert_eq!(outcome.completed(), 1_234);
    assert!(started.elapsed() < Duration::from_secs(10), "ends with its last request");
    let bounded = Spec { max_requests: Some(777), seconds: 30.0, ..spec() };
    assert_eq!(run(&Target::address(serve(never)), &bounded, "bounded").expect("runs").completed(), 777);
    let large = Spec { value_bytes: 200_000, max_requests: Some(64), seconds: 30.0, ..spec() };
    let outcome = run(&Target::address(serve(never)), &large, "large").expect("runs");
    assert_eq!((outcome.completed(), outcome.errors.total()), (64, 0), "{:?}", outcome.errors);
}
