//! Requests: every way they end.

use std::time::Duration;

use bytes::Bytes;
use plinth_net::peer::{Answerer, Lane, PeerOptions, RequestError};
use plinth_net::rt;

use super::support::{Member, PATIENCE, options, pair, pair_with, run, until};

const ECHO: u16 = 1;
const FAIL: u16 = 2;
const KEEP: u16 = 3;
const DROP: u16 = 4;

async fn ask(member: &Member, to: u64, kind: u16, body: &'static [u8]) -> Result<Bytes, RequestError> {
    member.peers.request(to, Lane::Snapshot, kind, body, PATIENCE).await
}

#[test]
fn answers_failures_and_silence() {
    run(async {
        let (one, two) = pair().await;
        assert_eq!(ask(&one, 2, ECHO, b"hello").await, Ok(Bytes::from_static(b"hello")));
        assert_eq!(ask(&two, 1, ECHO, b"").await, Ok(Bytes::new()));
        assert_eq!(ask(&one, 2, FAIL, b"").await, Err(RequestError::Refused(7)));
        assert_eq!(ask(&one, 2, DROP, b"").await, Err(RequestError::Refused(Answerer::DROPPED)));
        assert_eq!(ask(&one, 9, ECHO, b"").await, Err(RequestError::NotConnected));
        let short = Duration::from_millis(10);
        let silent = one.peers.request(2, Lane::Urgent, KEEP, b"".as_slice(), short).await;
        assert_eq!(silent, Err(RequestError::Timeout));
        // The late answer disturbs nobody.
        two.log.kept.borrow_mut().pop().unwrap().answer(b"late".as_slice());
        for lane in Lane::ALL {
            let large = Bytes::from(vec![lane as u8; 3 << 20]);
            assert_eq!(one.peers.request(2, lane, ECHO, large.clone(), PATIENCE).await, Ok(large));
        }
    });
}

#[test]
fn answers_may_come_later_and_in_any_order() {
    run(async {
        let (one, two) = pair().await;
        let (sender, answers) = std::sync::mpsc::channel();
        for number in 0..10_u8 {
            let (peers, sender) = (one.peers.clone(), sender.clone());
            rt::spawn(async move {
                let answer = peers.request(2, Lane::Urgent, KEEP, vec![number], PATIENCE).await;
                sender.send((number, answer)).unwrap();
            })
            .detach();
        }
        until("all have arrived", || two.log.kept.borrow().len() == 10).await;
        // The last one is answered first.
        let kept = two.log.kept.take();
        for (number, answer) in kept.into_iter().enumerate().rev() {
            answer.answer(vec![number as u8]);
        }
        for _ in 0..10 {
            let next = std::cell::RefCell::new(None);
            until("it is answered", || {
                *next.borrow_mut() = answers.try_recv().ok();
                next.borrow().is_some()
            })
            .await;
            let (number, answer) = next.take().unwrap();
            assert_eq!(answer, Ok(Bytes::from(vec![number])));
        }
    });
}

#[test]
fn both_sides_bound_what_is_on_its_way() {
    run(async {
        let (one, two) = pair_with(PeerOptions { requests_max: 3, ..options() }).await;
        // Requests that were given up here still count there.
        for _ in 0..3 {
            let short = Duration::from_millis(5);
            let answer = one.peers.request(2, Lane::Bulk, KEEP, b"".as_slice(), short).await;
            assert_eq!(answer, Err(RequestError::Timeout));
        }
        until("all have arrived", || two.log.kept.borrow().len() == 3).await;
        assert_eq!(one.peers.request(2, Lane::Bulk, ECHO, b"".as_slice(), PATIENCE).await, Err(RequestError::Busy));
        two.log.kept.borrow_mut().clear();
        assert_eq!(one.peers.request(2, Lane::Bulk, ECHO, b"".as_slice(), PATIENCE).await, Ok(Bytes::new()));
        for _ in 0..3 {
            let peers = one.peers.clone();
            rt::spawn(async move { peers.request(2, Lane::Bulk, KEEP, b"".as_slice(), PATIENCE).await }).detach();
        }
        until("all have arrived", || two.log.kept.borrow().len() == 3).await;
        assert_eq!(one.peers.request(2, Lane::Bulk, ECHO, b"".as_slice(), PATIENCE).await, Err(RequestError::Busy));
        // Other lanes have bounds of their own.
        assert_eq!(ask(&one, 2, ECHO, b"x").await, Ok(Bytes::from_static(b"x")));
    });
}

#[test]
fn a_lost_connection_ends_what_waits() {
    run(async {
        let (one, two) = pair().await;
        let peers = one.peers.clone();
        let waiting = rt::spawn(async move { ask_kept(&peers).await });
        until("it has arrived", || two.log.kept.borrow().len() == 1).await;
        two.peers.stop();
        assert_eq!(waiting.await, Err(RequestError::Lost));
        assert!(two.log.kept.borrow()[0].is_lost());
        two.log.kept.borrow_mut().clear();
        until("the lanes are closed", || !one.is_connected(2)).await;
        until("it is noticed", || one.peers.open_since(2, Lane::Snapshot).is_none()).await;
        assert_eq!(ask(&one, 2, ECHO, b"").await, Err(RequestError::NotConnected));
    });
}

async fn ask_kept(peers: &plinth_net::peer::Peers) -> Result<Bytes, RequestError> {
    peers.request(2, Lane::Urgent, KEEP, b"".as_slice(), PATIENCE).await
}

#[test]
fn an_answer_larger_than_a_frame_is_a_failure() {
    run(async {
        let (one, two) = pair_with(PeerOptions { frame_bytes_max: 1000, ..options() }).await;
        let peers = one.peers.clone();
        let waiting = rt::spawn(async move { ask_kept(&peers).await });
        until("it has arrived", || two.log.kept.borrow().len() == 1).await;
        two.log.kept.borrow_mut().pop().unwrap().answer(vec![0; 1001]);
        assert_eq!(waiting.await, Err(RequestError::Refused(Answerer::TOO_LARGE)));
        let too_large = one.peers.request(2, Lane::Bulk, ECHO, vec![0; 1001], PATIENCE).await;
        assert_eq!(too_large, Err(RequestError::Busy));
    });
}
