//! Two members with a bad line between them: it breaks, and it damages what it carries.

use plinth_random::Random;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use plinth_net::peer::{Lane, PeerOptions, RequestError};
use plinth_net::rt;

use super::support::{Event, Member, options, run, until};

/// What has gone wrong on purpose.
#[derive(Default)]
struct Line {
    is_good: AtomicBool,
    cuts: AtomicUsize,
    damages: AtomicUsize,
}

/// Carries connections to `target`. The threads end with the connections; the one that accepts, with the process.
fn bad_line(target: SocketAddr, line: &Arc<Line>, seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let line = Arc::clone(line);
    std::thread::spawn(move || {
        for number in 0.. {
            let Ok((from, _)) = listener.accept() else { return };
            let Ok(to) = TcpStream::connect(target) else { continue };
            for (number, a, b) in [(2 * number, &from, &to), (2 * number + 1, &to, &from)] {
                let (a, b, line) = (a.try_clone().unwrap(), b.try_clone().unwrap(), Arc::clone(&line));
                std::thread::spawn(move || carry(a, b, &line, Random::new(seed ^ (number << 20))));
            }
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, line: &Line, mut random: Random) {
    let mut some = [0; 8192];
    let mut good_bytes = random.below(100_000);
    while let Ok(count) = from.read(&mut some)
        && count > 0
    {
        if !line.is_good.load(Ordering::SeqCst) {
            if good_bytes < count as u64 {
                if random.below(2) == 0 {
                    line.cuts.fetch_add(1, Ordering::SeqCst);
                    // Not between frames, but anywhere.
                    let _ = to.write_all(&some[..good_bytes as usize]);
                    break;
                }
                line.damages.fetch_add(1, Ordering::SeqCst);
                some[good_bytes as usize] ^= 1 << random.below(8);
                good_bytes += random.below(100_000);
            }
            good_bytes = good_bytes.saturating_sub(count as u64);
        }
        if to.write_all(&some[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn message(number: u32) -> Vec<u8> {
    let length = 4 + number as usize * 37 % 1500;
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

fn number(message: &[u8]) -> u32 {
    u32::from_le_bytes(message[..4].try_into().unwrap())
}

/// Whatever the line does, what arrives was sent, once and in order; and when it is good again, all goes on.
#[test]
fn messages_over_a_bad_line() {
    let line = Arc::new(Line::default());
    run(async {
        // A damaged length makes the other side wait for what never comes, until it is given up.
        let second = Duration::from_secs(1);
        let quick = PeerOptions { dead_after: second, connect_timeout: second, ..options() };
        let (one, two) = (Member::with_options(1, quick), Member::with_options(2, quick));
        one.peers.set_peer(2, vec![bad_line(two.address, &line, 0x5eed).to_string()]);
        let faults = || line.cuts.load(Ordering::SeqCst).min(line.damages.load(Ordering::SeqCst));
        let mut sent = 0;
        let mut wrong_answers = 0;
        while faults() < 40 {
            for _ in 0..20 {
                sent += 1;
                for lane in Lane::ALL {
                    one.peers.send(2, lane, &message(sent)[..2], &mut vec![message(sent).split_off(2).into()]);
                }
            }
            let (body, limit) = (Bytes::from(message(sent)), Duration::from_millis(100));
            match one.peers.request(2, Lane::Snapshot, 1, body.clone(), limit).await {
                Ok(answer) => assert_eq!(answer, body),
                Err(RequestError::Refused(code)) => panic!("refused with code {code}"),
                Err(_) => wrong_answers += 1,
            }
            rt::sleep(Duration::from_millis(1)).await;
        }
        line.is_good.store(true, Ordering::SeqCst);
        assert!(wrong_answers > 0);
        for lane in Lane::ALL {
            let last = sent + 1;
            until("it goes on", || {
                one.send(2, lane, &message(last));
                two.log.messages(1, lane).last().is_some_and(|message| number(message) == last)
            })
            .await;
            let got = two.log.messages(1, lane);
            let numbers: Vec<u32> = got.iter().map(|message| number(message)).filter(|number| *number < last).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "once and in order on the {lane} lane");
            assert!(got.iter().all(|got| *got == message(number(got))), "as it was sent");
            assert!(!numbers.is_empty());
        }
        let damaged = |event: &Event| matches!(event, Event::InboundLost(..));
        assert!(two.log.count(damaged) > 0);
        assert!(one.log.has(&Event::Unreachable(2)));
    });
}
