//! Addresses at which no peer answers as it should: nobody, somebody else, or somebody slow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use plinth_net::peer::wire::{Answer, Frame, FrameDecoder, FrameHead, FrameKind, Hello, Verdict};
use plinth_net::peer::{Lane, PeerOptions, Refusal};
use plinth_net::rt;
use socket2::{Domain, Socket, Type};

use super::support::{CLUSTER, Event, Member, accept_raw, blocking, join, options, run, until};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// An address at which attempts to connect hang, as at a host that is gone: a listener whose queue is full.
struct Hang {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Hang {
    fn new() -> Hang {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&loopback().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        loop {
            let next = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            assert!(waiting.len() < 100, "the queue of the listener is never full");
            match next.connect_timeout(&address, Duration::from_millis(200)) {
                Ok(()) => waiting.push(next),
                Err(_) => break,
            }
        }
        Hang { address: address.as_socket().unwrap(), _listener: listener, _waiting: waiting }
    }
}

#[test]
fn an_address_that_hangs_keeps_nobody_waiting_for_long() {
    let hang = Hang::new();
    run(async {
        let two = Member::new(2);
        // The next address is tried when the time is over.
        let quick = PeerOptions { connect_timeout: Duration::from_millis(300), ..options() };
        let one = Member::with_options(1, quick);
        one.peers.set_peer(2, vec![hang.address.to_string(), two.address.to_string()]);
        one.until_connected(2).await;
        // New addresses are tried at once, whatever hangs.
        let patient = Member::new(3);
        patient.peers.set_peer(2, vec![hang.address.to_string()]);
        rt::sleep(Duration::from_millis(20)).await;
        patient.set_peer(&two);
        patient.until_connected(2).await;
        // Nor does the end wait.
        patient.peers.set_peer(4, vec![hang.address.to_string()]);
        rt::sleep(Duration::from_millis(20)).await;
        patient.peers.stop();
    });
}

#[test]
fn whoever_accepts_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind(loopback()).unwrap();
    run(async {
        let quick = PeerOptions { connect_timeout: Duration::from_millis(100), ..options() };
        let one = Member::with_options(1, quick);
        let address = listener.local_addr().unwrap();
        one.peers.set_peer(2, vec![address.to_string()]);
        let why = format!("{address}: the peer did not answer the hello in time");
        one.until_event(Event::Disconnected(2, Lane::Urgent, why)).await;
    });
}

/// Answers one connection of the urgent lane with `bytes`, and all others with nothing. Says which hello came.
fn answering(bytes: Vec<u8>) -> (SocketAddr, std::thread::JoinHandle<(Hello, Vec<TcpStream>)>) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 44];
            stream.read_exact(&mut hello).unwrap();
            let hello = Hello::decode(&hello).unwrap().unwrap().0;
            if hello.lane == Lane::Urgent {
                stream.write_all(&bytes).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                kept.push(stream);
                return (hello, kept);
            }
            kept.push(stream);
        }
    });
    (address, thread)
}

#[test]
fn whoever_answers_something_else_is_named() {
    run(async {
        let answer = |member, verdict| Answer { member, verdict }.encode();
        let mut damaged = answer(2, Verdict::Accepted { version: 1 });
        damaged[12] ^= 2;
        let cases = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "the connection does not begin as one between members"),
            (Vec::new(), "the peer closed the connection"),
            (damaged, "checksum"),
            (answer(9, Verdict::Accepted { version: 1 }), "another member (9) accepted"),
            (Hello::new(CLUSTER, 1, 2, Lane::Urgent).encode(), "the connection does not begin as one between members"),
        ];
        for (bytes, why) in cases {
            let (address, thread) = answering(bytes);
            let one = Member::new(1);
            one.peers.set_peer(2, vec![address.to_string()]);
            let start = format!("{address}: {why}");
            let told =
                |event: &Event| matches!(event, Event::Disconnected(2, Lane::Urgent, text) if text.starts_with(&start));
            until(why, || one.log.count(told) == 1).await;
            let (hello, _) = join("it has answered", thread).await;
            assert_eq!(hello, Hello::new(CLUSTER, 1, 2, Lane::Urgent));
        }
        let (address, thread) = answering(answer(2, Verdict::Accepted { version: 2 }));
        let one = Member::new(1);
        one.peers.set_peer(2, vec![address.to_string()]);
        one.until_event(Event::Refused(2, Refusal::Version)).await;
        join("it has answered", thread).await;
    });
}

#[test]
fn a_peer_that_answers_with_garbage_is_cut_off_and_tried_again() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let one = Member::new(1);
        one.peers.set_peer(2, vec![listener.local_addr().unwrap().to_string()]);
        let response = |kind, id| Frame { head: FrameHead { kind, code: 0, id }, payload: Bytes::new() }.encode();
        let unasked = [response(FrameKind::Response, 77), response(FrameKind::Pong, 77)].concat();
        let wrong = [unasked, response(FrameKind::Message, 0)].concat();
        // Twice the same on every lane: what nobody asked for is ignored, what must not come ends the connection.
        blocking("all are cut off", move || {
            let mut lanes = Vec::new();
            while lanes.len() < 6 {
                let (mut stream, hello) = accept_raw(&listener, 2);
                stream.write_all(&wrong).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
                lanes.push(hello.lane);
            }
        })
        .await;
        let why = "a Message in the wrong direction".to_owned();
        for lane in Lane::ALL {
            one.until_event(Event::Disconnected(2, lane, why.clone())).await;
        }
    });
}

/// Of 1 MiB each. What the kernel holds of them, behind which no progress is seen, is a small part.
const MESSAGES: usize = 80;

#[test]
fn a_slow_peer_is_not_dead() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(64 << 10).unwrap();
    listener.bind(&loopback().into()).unwrap();
    listener.listen(16).unwrap();
    let listener = TcpListener::from(listener);
    run(async move {
        let dead_after = Duration::from_secs(2);
        let one = Member::with_options(1, PeerOptions { dead_after, ..options() });
        one.peers.set_peer(2, vec![listener.local_addr().unwrap().to_string()]);
        let thread = std::thread::spawn(move || read_slowly(&listener, dead_after));
        one.until_connected(2).await;
        let message = Bytes::from(vec![3; 1 << 20]);
        for _ in 0..MESSAGES {
            assert!(one.peers.send(2, Lane::Bulk, b"", &mut vec![message.clone()]));
        }
        let _connections = join("all is read", thread).await;
        let lost = |event: &Event| matches!(event, Event::Disconnected(2, Lane::Bulk, _));
        assert_eq!(one.log.count(lost), 0);
    });
}

/// Reads the bulk lane so slowly that its pings are not seen for longer than `dead_after`.
fn read_slowly(listener: &TcpListener, dead_after: Duration) -> (TcpStream, Vec<TcpStream>) {
    let mut bulk = None;
    let mut others = Vec::new();
    for _ in Lane::ALL {
        let (stream, hello) = accept_raw(listener, 2);
        if hello.lane == Lane::Bulk { bulk = Some(stream) } else { others.push(stream) }
    }
    let mut bulk = bulk.unwrap();
    let start = std::time::Instant::now();
    let mut decoder = FrameDecoder::new(2 << 20);
    let mut some = vec![0; 64 << 10];
    let (mut received, mut messages) = (0, 0);
    while messages < MESSAGES {
        let count = bulk.read(&mut some).unwrap();
        assert!(count > 0, "cut off after {received} bytes in {:?}", start.elapsed());
        received += count;
        // So fast that all of it takes twice as long as the patience.
        let due = dead_after * 2 * (received / 1024) as u32 / (MESSAGES << 10) as u32;
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        decoder.receive(Bytes::copy_from_slice(&some[..count]));
        while let Some(frame) = decoder.next_frame().unwrap() {
            match frame.head.kind {
                FrameKind::Ping => {
                    let pong = FrameHead { kind: FrameKind::Pong, ..frame.head };
                    bulk.write_all(&Frame { head: pong, payload: Bytes::new() }.encode()).unwrap();
                }
                _ => messages += 1,
            }
        }
    }
    assert!(start.elapsed() > dead_after);
    (bulk, others)
}
