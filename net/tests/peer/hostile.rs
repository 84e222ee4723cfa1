//! HTTP on the members' port, and everything that is neither HTTP nor a member.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use plinth_net::peer::wire::{Frame, FrameHead, FrameKind, Hello};
use plinth_net::peer::{Lane, PeerOptions};

use super::support::{CLUSTER, Event, Member, blocking, dial_raw, hello_raw, options, pair, read_to_end, run, until};

/// Sends bytes and reads what comes until the end.
async fn exchange(address: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
    blocking("it is answered and closed", move || {
        let mut stream = dial_raw(address);
        // A member that has seen enough may have closed before all is sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        read_to_end(&mut stream)
    })
    .await
}

#[test]
fn http_on_the_port_of_the_members() {
    run(async {
        let (one, two) = pair().await;
        let request = b"GET /members HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let answer = String::from_utf8(exchange(one.address, request.to_vec()).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nyou asked for /members"), "{answer}");
        for garbage in
            [b"\x16\x03\x01\x02\x00\x01\r\n\r\n".to_vec(), b"no request\r\n\r\n".to_vec(), vec![b'x'; 100_000]]
        {
            let answer = String::from_utf8(exchange(one.address, garbage).await).unwrap();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        assert!(one.is_connected(2) && two.is_connected(1));
    });
}

#[test]
fn http_has_a_bound() {
    run(async {
        let one = Member::with_options(1, PeerOptions { http_connections_max: 2, ..options() });
        let address = one.address;
        let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let held = blocking("they are answered", move || {
            [0; 2].map(|_| {
                let mut stream = dial_raw(address);
                stream.write_all(request).unwrap();
                assert!(std::io::Read::read(&mut stream, &mut [0; 1000]).unwrap() > 0);
                stream
            })
        })
        .await;
        assert_eq!(exchange(address, request.to_vec()).await, b"");
        drop(held);
        let again = std::cell::RefCell::new(Vec::new());
        while again.borrow().is_empty() {
            *again.borrow_mut() = exchange(address, request.to_vec()).await;
        }
    });
}

#[test]
fn garbage_instead_of_a_hello() {
    run(async {
        let (one, two) = pair().await;
        let hello = Hello::new(CLUSTER, 2, 1, Lane::Urgent).encode();
        for length in [1, 8, 20, hello.len() - 1] {
            assert_eq!(exchange(one.address, hello[..length].to_vec()).await, b"", "cut at {length}");
        }
        for at in 1..hello.len() {
            let mut damaged = hello.clone();
            damaged[at] ^= 0x40;
            assert_eq!(exchange(one.address, damaged).await, b"", "damaged at {at}");
        }
        assert_eq!(exchange(one.address, vec![0xb7; 100_000]).await, b"");
        assert!(one.is_connected(2) && two.is_connected(1));
        assert!(two.send(1, Lane::Urgent, b"still here"));
        until("it arrives", || one.log.messages(2, Lane::Urgent).len() == 1).await;
    });
}

fn frame(kind: FrameKind, payload: &'static [u8]) -> Vec<u8> {
    let id = u32::from(kind != FrameKind::Message);
    Frame { head: FrameHead { kind, code: 0, id }, payload: Bytes::from_static(payload) }.encode()
}

#[test]
fn a_member_that_sends_garbage_is_cut_off() {
    run(async {
        let one = Member::with_options(1, PeerOptions { frame_bytes_max: 1000, ..options() });
        let address = one.address;
        let good = frame(FrameKind::Message, b"good");
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let mut large = good.clone();
        large[4..8].copy_from_slice(&1001_u32.to_le_bytes());
        let cases = [
            (damaged, "checksum"),
            (large, "a frame of 1001 bytes, more than 1000"),
            (frame(FrameKind::Response, b""), "a Response in the wrong direction"),
            (frame(FrameKind::Pong, b""), "a Pong in the wrong direction"),
            (vec![0xff; 5000], "a frame of 4294967295 bytes"),
        ];
        for (number, (bytes, why)) in cases.into_iter().enumerate() {
            let good = good.clone();
            blocking("it is cut off", move || {
                let mut stream = dial_raw(address);
                hello_raw(&mut stream, Hello::new(CLUSTER, 2, 1, Lane::Bulk));
                stream.write_all(&[good, bytes].concat()).unwrap();
                assert_eq!(read_to_end(&mut stream), b"");
            })
            .await;
            let lost =
                |event: &Event| matches!(event, Event::InboundLost(2, Lane::Bulk, text) if text.starts_with(why));
            until(why, || one.log.count(lost) == 1).await;
            // What came before was fine.
            assert_eq!(one.log.messages(2, Lane::Bulk).len(), number + 1);
        }
    });
}

#[test]
fn strangers_have_a_bound_and_a_deadline() {
    run(async {
        let options = PeerOptions { strangers_max: 3, dead_after: Duration::from_millis(300), ..options() };
        let one = Member::with_options(1, options);
        let address = one.address;
        // The first three say nothing, or not enough; of so many, somebody is hung up on at once, and everybody later.
        blocking("all are closed", move || {
            let mut strangers = [0; 6].map(|_| dial_raw(address));
            for stranger in &mut strangers[..2] {
                let _ = stranger.write_all(&Hello::new(CLUSTER, 2, 1, Lane::Bulk).encode()[..20]);
            }
            strangers.each_mut().map(read_to_end)
        })
        .await;
        let two = Member::new(2);
        two.set_peer(&one);
        two.until_connected(1).await;
    });
}

#[test]
fn whoever_asks_and_does_not_listen_is_not_read_from() {
    run(async {
        let quick = PeerOptions { response_bytes_max: 64 << 10, dead_after: Duration::from_secs(2), ..options() };
        let one = Member::with_options(1, quick);
        let address = one.address;
        let asked = blocking("it blocks, and is cut off", move || {
            let mut stream = dial_raw(address);
            hello_raw(&mut stream, Hello::new(CLUSTER, 2, 1, Lane::Urgent));
            let questions = [frame(FrameKind::Ping, b""), frame(FrameKind::Request, b"")].concat().repeat(1000);
            let mut asked = 0;
            while asked < 1 << 30 && stream.write_all(&questions).is_ok() {
                asked += questions.len();
            }
            asked
        })
        .await;
        // All but what the kernel holds would have been taken otherwise.
        assert!(asked < 1 << 30, "{asked} bytes of questions were taken");
        let lost = |event: &Event| matches!(event, Event::InboundLost(2, Lane::Urgent, _));
        until("it is told", || one.log.count(lost) == 1).await;
    });
}
