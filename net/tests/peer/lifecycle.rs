//! How lanes open, break and open again; who is let in; how everything ends.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use plinth_net::peer::wire::{Hello, Verdict};
use plinth_net::peer::{Lane, PeerOptions, Refusal};
use plinth_net::rt;

use super::support::{
    CLUSTER, Event, Member, accept_raw, blocking, dial_raw, hello_raw, join, options, pair, read_to_end, reserve, run,
    until,
};

#[test]
fn who_may_not_come_in_is_told_why() {
    run(async {
        let two = Member::new(2);
        let stranger = Member::with(1, 0xbad, options(), SocketAddr::from(([127, 0, 0, 1], 0)));
        stranger.set_peer(&two);
        stranger.until_event(Event::Refused(2, Refusal::ClusterMismatch)).await;
        two.until_event(Event::Rejected(1, 0xbad, Refusal::ClusterMismatch)).await;

        let confused = Member::new(3);
        confused.peers.set_peer(9, vec![two.address.to_string()]);
        confused.until_event(Event::Refused(9, Refusal::NotForMe)).await;
        two.until_event(Event::Rejected(3, CLUSTER, Refusal::NotForMe)).await;

        let four = Member::new(4);
        for refusal in [Refusal::UnknownSender, Refusal::Removed, Refusal::Other(77)] {
            two.log.verdict.set(Some(refusal));
            four.set_peer(&two);
            four.until_event(Event::Refused(2, refusal)).await;
            two.until_event(Event::Rejected(4, CLUSTER, refusal)).await;
        }
        assert!(!four.is_connected(2));
        // As soon as it may, it comes in.
        two.log.verdict.set(None);
        four.until_connected(2).await;
        assert!(four.send(2, Lane::Urgent, b"at last"));
        until("it arrives", || two.log.messages(4, Lane::Urgent).len() == 1).await;

        // However often they tried.
        let is_refusal = |event: &Event| matches!(event, Event::Refused(..));
        assert_eq!((stranger.log.count(is_refusal), confused.log.count(is_refusal)), (1, 1));
        assert_eq!(four.log.count(is_refusal), 3);
        assert_eq!(two.log.count(|event| matches!(event, Event::Rejected(..))), 5);
    });
}

#[test]
fn versions_must_meet() {
    run(async {
        let two = Member::new(2);
        let address = two.address;
        let answers = blocking("both are answered", move || {
            let hello = Hello::new(CLUSTER, 1, 2, Lane::Urgent);
            let later = Hello { version_lowest: 2, version_highest: 9, ..hello };
            let wide = Hello { version_lowest: 0, version_highest: 9, ..hello };
            [later, wide].map(|hello| hello_raw(&mut dial_raw(address), hello))
        })
        .await;
        assert_eq!(answers.map(|answer| answer.member), [2, 2]);
        assert_eq!(answers[0].verdict, Verdict::Refused(Refusal::Version));
        assert_eq!(answers[1].verdict, Verdict::Accepted { version: 1 });
    });
}

#[test]
fn a_member_does_not_talk_to_itself() {
    run(async {
        let one = Member::new(1);
        one.set_peer(&one);
        assert!(one.peers.ids().is_empty());
        let address = one.address;
        let hello = Hello::new(CLUSTER, 1, 1, Lane::Bulk);
        let answer = blocking("it is answered", move || hello_raw(&mut dial_raw(address), hello)).await;
        assert_eq!(answer.verdict, Verdict::Refused(Refusal::UnknownSender));
    });
}

#[test]
fn a_peer_that_comes_back_is_found() {
    run(async {
        let reserved = reserve();
        let one = Member::new(1);
        one.peers.set_peer(2, vec![reserved.address.to_string()]);
        for round in 1..4 {
            let gone = Member::with(2, CLUSTER, options(), reserved.address).peers;
            one.until_connected(2).await;
            assert!(one.send(2, Lane::Bulk, b"x"));
            gone.stop();
            until("the port is free", || TcpListener::bind(reserved.address).is_ok()).await;
            for lane in Lane::ALL {
                until("it is noticed", || one.peers.open_since(2, lane).is_none()).await;
                let broke = |event: &Event| matches!(event, Event::Disconnected(2, on, _) if *on == lane);
                until("it is told", || one.log.count(broke) >= round).await;
                let opened = one.log.count(|event| *event == Event::Connected(2, lane));
                assert_eq!(opened, round);
            }
            assert!(!one.send(2, Lane::Bulk, b"x"));
            assert!(one.log.count(|event| *event == Event::Unreachable(2)) >= round);
        }
        assert_eq!(one.peers.status(2).unwrap().active_since, None);
        assert_eq!(one.peers.status(2).unwrap().disconnects, 9);
    });
}

/// Whoever is connected to need not wait until it is time to try again.
#[test]
fn a_sign_of_life_cuts_a_pause_short() {
    run(async {
        let reserved = reserve();
        let pause = Duration::from_secs(600);
        let two = Member::with_options(2, PeerOptions { backoff_min: pause, backoff_max: pause, ..options() });
        two.peers.set_peer(1, vec![reserved.address.to_string()]);
        for lane in Lane::ALL {
            let failed = |event: &Event| matches!(event, Event::Disconnected(1, on, _) if *on == lane);
            until("the first attempt fails", || two.log.count(failed) == 1).await;
        }
        let one = Member::with(1, CLUSTER, options(), reserved.address);
        one.set_peer(&two);
        two.until_connected(1).await;
    });
}

#[test]
fn trying_in_vain_is_told_once() {
    run(async {
        let reserved = reserve();
        let free = reserved.address;
        let one = Member::new(1);
        one.peers.set_peer(2, vec![free.to_string(), "[not an address".to_owned()]);
        let failed = |event: &Event| matches!(event, Event::Disconnected(2, Lane::Urgent, _));
        until("it is told", || one.log.count(failed) == 1).await;
        rt::sleep(Duration::from_millis(200)).await;
        assert_eq!(one.log.count(failed), 1);
        assert!(!one.log.has(&Event::Unreachable(2)));
        // The right address is tried at once, among wrong ones.
        let two = Member::new(2);
        one.peers.set_peer(2, vec![free.to_string(), format!("localhost:{}", two.address.port())]);
        one.until_connected(2).await;
        // New addresses leave open lanes alone.
        one.peers.set_peer(2, vec![free.to_string()]);
        rt::sleep(Duration::from_millis(50)).await;
        assert!(one.is_connected(2));
    });
}

#[test]
fn a_removed_peer_is_cut_off_in_both_directions() {
    run(async {
        let (one, two) = pair().await;
        one.log.verdict.set(Some(Refusal::Removed));
        one.peers.remove_peer(2);
        assert_eq!(one.peers.status(2), None);
        assert!(!one.send(2, Lane::Urgent, b"gone"));
        two.until_event(Event::Refused(1, Refusal::Removed)).await;
        for lane in Lane::ALL {
            until("it is cut off", || two.peers.open_since(1, lane).is_none()).await;
        }
        assert!(one.peers.ids().is_empty());
        assert_eq!(one.log.count(|event| matches!(event, Event::Disconnected(..))), 0, "it was our own will");
        // It may become a peer again.
        one.log.verdict.set(None);
        one.set_peer(&two);
        one.until_connected(2).await;
        two.until_connected(1).await;
    });
}

#[test]
fn the_end_is_silent_and_complete() {
    run(async {
        let (one, two) = pair().await;
        let events = one.log.events.borrow().len();
        let address = one.address;
        one.peers.stop();
        assert!(!one.send(2, Lane::Urgent, b"x"));
        one.set_peer(&two);
        assert!(one.peers.ids().is_empty());
        for lane in Lane::ALL {
            until("the other notices", || two.peers.open_since(1, lane).is_none()).await;
        }
        until("the port is free", || TcpListener::bind(address).is_ok()).await;
        assert_eq!(one.log.events.borrow().len(), events);
        // Dropping does the same.
        let address = two.address;
        drop(two);
        until("the port is free", || TcpListener::bind(address).is_ok()).await;
    });
}

#[test]
fn the_newest_connection_of_a_lane_counts() {
    run(async {
        let two = Member::new(2);
        let address = two.address;
        blocking("the older one is closed", move || {
            let hello = |lane| Hello::new(CLUSTER, 1, 2, lane);
            let (mut older, mut other) = (dial_raw(address), dial_raw(address));
            hello_raw(&mut older, hello(Lane::Urgent));
            hello_raw(&mut other, hello(Lane::Bulk));
            let mut newer = dial_raw(address);
            hello_raw(&mut newer, hello(Lane::Urgent));
            assert_eq!(read_to_end(&mut older), b"");
            for alive in [&newer, &other] {
                alive.set_nonblocking(true).unwrap();
                assert_eq!(alive.peek(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            }
        })
        .await;
        assert_eq!(two.log.events.borrow().len(), 0);
    });
}

#[test]
fn a_peer_that_hangs_is_given_up() {
    run(async {
        let quick = PeerOptions { dead_after: Duration::from_millis(200), ..options() };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = Member::with_options(1, quick);
        one.peers.set_peer(2, vec![listener.local_addr().unwrap().to_string()]);
        // It accepts, lets everybody in, and then neither reads nor writes.
        let thread = std::thread::spawn(move || [0; 3].map(|_| accept_raw(&listener, 2)));
        let hung = join("all lanes are let in", thread).await;
        for lane in Lane::ALL {
            one.until_event(Event::Disconnected(2, lane, "the peer was silent for 200ms".to_owned())).await;
        }
        one.until_event(Event::Unreachable(2)).await;
        drop(hung);

        // The same from the other side: it says hello and nothing more.
        let address = one.address;
        let mut silent = dial_raw(address);
        let hello = Hello::new(CLUSTER, 2, 1, Lane::Bulk);
        blocking("it is closed", move || {
            hello_raw(&mut silent, hello);
            read_to_end(&mut silent)
        })
        .await;
        let lost = Event::InboundLost(2, Lane::Bulk, "the peer was silent for 200ms".to_owned());
        one.until_event(lost).await;
        assert!(one.peers.status(2).unwrap().received_failures == 1);
    });
}

#[test]
fn a_pause_of_our_own_is_no_death_of_the_peer() {
    let strict = PeerOptions { dead_after: Duration::from_secs(2), ..options() };
    // The other member is patient, and has a reactor of its own, which goes on while ours stands still.
    let other = Patient::start();
    run(async move {
        let one = Member::with_options(1, strict);
        one.peers.set_peer(2, vec![other.address.to_string()]);
        other.dial(one.address);
        one.until_connected(2).await;
        let is_news = |event: &Event| !matches!(event, Event::Connected(..));
        rt::sleep(strict.dead_after * 3 / 2).await;
        for _ in 0..2 {
            std::thread::sleep(strict.dead_after * 3 / 2);
            rt::sleep(Duration::from_millis(50)).await;
        }
        assert!(one.is_connected(2));
        assert_eq!(one.log.count(is_news), 0);
        let events = other.end();
        assert_eq!(events, [Lane::Bulk, Lane::Snapshot, Lane::Urgent].map(|lane| Event::Connected(1, lane)));
    });
}

/// Member 2 on a thread of its own.
struct Patient {
    address: SocketAddr,
    orders: mpsc::Sender<SocketAddr>,
    thread: JoinHandle<Vec<Event>>,
}

impl Patient {
    fn start() -> Patient {
        let (orders, inbox) = mpsc::channel();
        let (tells, told) = mpsc::channel();
        let thread = std::thread::spawn(move || run(Patient::live(inbox, tells)));
        Patient { address: told.recv().unwrap(), orders, thread }
    }

    async fn live(inbox: mpsc::Receiver<SocketAddr>, tells: mpsc::Sender<SocketAddr>) -> Vec<Event> {
        let two = Member::new(2);
        tells.send(two.address).unwrap();
        until("the test ends", || match inbox.try_recv() {
            Ok(address) => {
                two.peers.set_peer(1, vec![address.to_string()]);
                false
            }
            Err(error) => error == mpsc::TryRecvError::Disconnected,
        })
        .await;
        let mut events = two.log.events.take();
        events.sort_by_key(|event| format!("{event:?}"));
        events
    }

    fn dial(&self, address: SocketAddr) {
        self.orders.send(address).unwrap();
    }

    /// What has happened there, in any order.
    fn end(self) -> Vec<Event> {
        drop(self.orders);
        self.thread.join().unwrap()
    }
}
