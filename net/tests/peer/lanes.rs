//! Messages: order, sharing, bounds, and lanes that do not wait for each other.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use plinth_net::peer::wire::{Frame, FrameDecoder, FrameHead, FrameKind};
use plinth_net::peer::{Lane, PeerOptions};
use plinth_net::rt;

use super::support::{Event, Member, accept_raw, join, options, pair, run, until};

/// A message of some size whose content tells its number.
fn numbered(number: u32) -> Vec<u8> {
    let length = 4 + (number as usize * number as usize * 7) % 3000;
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

#[test]
fn messages_of_a_lane_arrive_in_order_in_both_directions() {
    run(async {
        let (one, two) = pair().await;
        for number in 0..600 {
            for lane in Lane::ALL {
                assert!(one.send(2, lane, &numbered(number)));
                assert!(two.send(1, lane, &numbered(number + 1)));
            }
            if number % 50 == 0 {
                rt::yield_now().await;
            }
        }
        for lane in Lane::ALL {
            until("all arrive", || two.log.messages(1, lane).len() == 600).await;
            until("all arrive", || one.log.messages(2, lane).len() == 600).await;
            for number in 0..600 {
                assert_eq!(two.log.messages(1, lane)[number as usize], numbered(number));
                assert_eq!(one.log.messages(2, lane)[number as usize], numbered(number + 1));
            }
        }
    });
}

#[test]
fn a_message_is_its_head_and_its_parts() {
    run(async {
        let (one, two) = pair().await;
        let large = Bytes::from(vec![7; 5 << 20]);
        let mut parts = vec![Bytes::from_static(b"small"), large.clone(), Bytes::new(), large.slice(..300)];
        assert!(one.peers.send(2, Lane::Bulk, b"head", &mut parts));
        assert!(parts.is_empty());
        assert!(one.peers.send(2, Lane::Bulk, b"", &mut parts));
        until("both arrive", || two.log.messages(1, Lane::Bulk).len() == 2).await;
        let got = two.log.messages(1, Lane::Bulk);
        assert_eq!(got[0], [b"headsmall", &large[..], &large[..300]].concat());
        assert_eq!(got[1], b""[..]);
    });
}

#[test]
fn what_cannot_be_sent_is_dropped_and_said_so() {
    run(async {
        let options = PeerOptions { frame_bytes_max: 1000, ..options() };
        let (one, two) = (Member::with_options(1, options), Member::with_options(2, options));
        let mut parts = vec![Bytes::from_static(b"part")];
        assert!(!one.peers.send(2, Lane::Urgent, b"head", &mut parts), "an unknown peer");
        assert!(parts.is_empty());
        one.set_peer(&two);
        assert!(!one.send(2, Lane::Urgent, b"too early"));
        one.until_connected(2).await;
        assert!(one.send(2, Lane::Urgent, &[0; 1000]));
        assert!(!one.send(2, Lane::Urgent, &[0; 1001]));
        until("the message arrives", || two.log.messages(1, Lane::Urgent).len() == 1).await;
        assert_eq!(one.peers.status(2).unwrap().sent_failures, 2);
        assert!(!two.send(1, Lane::Urgent, b"nobody told two about one"));
    });
}

/// A peer that takes nothing from the bulk lane and echoes messages of the urgent lane as bytes of its thread's result.
#[test]
fn a_stuck_bulk_lane_is_bounded_and_delays_nobody() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let options = PeerOptions { frame_bytes_max: 1 << 20, bulk_bytes_max: 4 << 20, ..options() };
        let one = Member::with_options(1, options);
        let thread = std::thread::spawn(move || {
            let mut others = Vec::new();
            let mut urgent = None;
            for _ in Lane::ALL {
                let (stream, hello) = accept_raw(&listener, 2);
                match hello.lane {
                    Lane::Urgent => urgent = Some(stream),
                    _ => others.push(stream),
                }
            }
            let mut urgent = urgent.unwrap();
            let mut decoder = FrameDecoder::new(1 << 20);
            let mut some = [0; 4096];
            loop {
                let count = urgent.read(&mut some).unwrap();
                decoder.receive(Bytes::copy_from_slice(&some[..count]));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    if frame.head.kind == FrameKind::Ping {
                        let pong = FrameHead { kind: FrameKind::Pong, ..frame.head };
                        urgent.write_all(&Frame { head: pong, payload: Bytes::new() }.encode()).unwrap();
                    } else {
                        return (frame.payload, others);
                    }
                }
            }
        });
        one.peers.set_peer(2, vec![address.to_string()]);
        one.until_connected(2).await;
        let large = Bytes::from(vec![1; 1 << 20]);
        let mut sent = 0;
        until("the lane is full", || sent_one(&one, &large)).await;
        while sent < 100 && one.peers.send(2, Lane::Bulk, b"", &mut vec![large.clone()]) {
            sent += 1;
        }
        assert!(sent < 100, "the queue has a bound");
        let status = one.peers.status(2).unwrap();
        assert!(status.queued_bytes <= (4 << 20) + 1000, "{status:?}");
        assert!(status.sent_failures > 0);
        assert!(!one.log.has(&Event::Unreachable(2)), "never from within a call");
        one.until_event(Event::Unreachable(2)).await;
        assert!(one.send(2, Lane::Urgent, b"heartbeat"));
        let (arrived, _others) = join("the heartbeat arrives", thread).await;
        assert_eq!(arrived, "heartbeat");
    });
}

/// True once the bulk lane takes nothing more.
fn sent_one(member: &Member, message: &Bytes) -> bool {
    !member.peers.send(2, Lane::Bulk, b"", &mut vec![message.clone()])
}

#[test]
fn heartbeats_pass_a_flood_of_entries() {
    run(async {
        let (one, two) = pair().await;
        let large = Bytes::from(vec![1; 1 << 20]);
        while one.peers.send(2, Lane::Bulk, b"", &mut vec![large.clone()]) {}
        let queued = one.peers.status(2).unwrap().queued_bytes;
        assert!(queued > 100 << 20, "{queued}");
        assert!(one.send(2, Lane::Urgent, b"heartbeat"));
        until("the heartbeat arrives", || !two.log.messages(1, Lane::Urgent).is_empty()).await;
        let still_queued = one.peers.status(2).unwrap().queued_bytes;
        assert!(still_queued > queued / 2, "the heartbeat came behind {} bytes", queued - still_queued);
        until("all entries arrive", || two.log.messages(1, Lane::Bulk).len() >= 127).await;
        assert!(one.log.round_trips.get() > 0);
        let status = one.peers.status(2).unwrap();
        assert!(status.round_trip.is_some_and(|time| time > Duration::ZERO));
        assert!(status.sent_bytes > 127 << 20);
        assert!(two.peers.status(1).unwrap().received_bytes > 127 << 20);
    });
}
