//! Handlers that call the transport back, from wherever they are called.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::peer::{Answerer, Lane, PeerConfig, PeerHandler, Peers, Refusal};
use plinth_net::server::{ListenOptions, Listener};
use plinth_net::transport::{Acceptor, Connector};

use super::support::{CLUSTER, Event, Member, PATIENCE, options, run, until};

/// What it does when something happens.
type Act = Box<dyn Fn(&Rc<Peers>, &str)>;

struct Busybody {
    peers: RefCell<Weak<Peers>>,
    act: Act,
}

impl Busybody {
    fn act(&self, what: &str) {
        if let Some(peers) = self.peers.borrow().upgrade() {
            (self.act)(&peers, what);
        }
    }
}

impl PeerHandler for Busybody {
    fn admit(&self, _from: u64, _cluster: u64) -> Result<(), Refusal> {
        self.act("admit");
        Ok(())
    }

    fn message(&self, _from: u64, _lane: Lane, payload: Bytes) {
        self.act(std::str::from_utf8(&payload).unwrap());
    }

    fn request(&self, _from: u64, _kind: u16, body: Bytes, answer: Answerer) {
        self.act("request");
        answer.answer(body);
    }

    fn unreachable(&self, _id: u64) {
        self.act("unreachable");
    }

    fn connected(&self, _id: u64, _lane: Lane) {
        self.act("connected");
    }

    fn disconnected(&self, _id: u64, _lane: Lane, _why: &str) {
        self.act("disconnected");
    }

    fn refused(&self, _id: u64, _refusal: Refusal) {
        self.act("refused");
    }

    fn http(&self, _request: Http1Request, reply: Http1Reply) {
        self.act("http");
        reply.respond(&Response::new(204));
    }
}

/// Member 1, which does something whenever anything happens.
fn busybody(act: impl Fn(&Rc<Peers>, &str) + 'static) -> (Rc<Peers>, SocketAddr) {
    let handler = Rc::new(Busybody { peers: RefCell::default(), act: Box::new(act) });
    let config = PeerConfig { cluster: CLUSTER, member: 1, reads: 0, seed: 1, options: options() };
    let peers = Peers::new(config, Connector::clear(), Rc::clone(&handler) as _);
    *handler.peers.borrow_mut() = Rc::downgrade(&peers);
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), ListenOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    peers.listen(listener, Acceptor::clear());
    (peers, address)
}

#[test]
fn a_handler_may_send_whenever_it_is_called() {
    run(async {
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let (peers, address) = busybody(move |peers, what| {
            counted.set(counted.get() + 1);
            for lane in Lane::ALL {
                peers.send(2, lane, what.as_bytes(), &mut vec![Bytes::from_static(b"!")]);
            }
            peers.status(2);
        });
        let two = Member::new(2);
        peers.set_peer(2, vec![two.address.to_string()]);
        two.peers.set_peer(1, vec![address.to_string()]);
        two.until_connected(1).await;
        until("the other way is open", || peers.open_since(2, Lane::Snapshot).is_some()).await;
        for number in 0..100 {
            assert!(two.send(1, Lane::Urgent, format!("{number}").as_bytes()));
        }
        let echoes: Vec<String> = (0..100).map(|number| format!("{number}!")).collect();
        for lane in Lane::ALL {
            let got = || two.log.messages(1, lane).into_iter().filter(|message| message[0].is_ascii_digit());
            until("all come back", || got().count() == 100).await;
            assert!(got().eq(echoes.iter().cloned().map(Bytes::from)), "in order on the {lane} lane");
        }
        let answer = two.peers.request(1, Lane::Bulk, 1, b"x".as_slice(), PATIENCE).await;
        assert_eq!(answer, Ok(Bytes::from_static(b"x")));
        two.peers.stop();
        let before = calls.get();
        until("the end is told", || calls.get() >= before + 6).await;
    });
}

#[test]
fn a_handler_may_remove_a_peer_or_stop_in_the_middle_of_a_message() {
    run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&seen);
        let (_peers, address) = busybody(move |peers, what| {
            noted.borrow_mut().push(what.to_owned());
            match what {
                "remove" => peers.remove_peer(2),
                "stop" => peers.stop(),
                _ => {}
            }
        });
        let two = Member::new(2);
        two.peers.set_peer(1, vec![address.to_string()]);
        for order in ["remove", "stop"] {
            two.until_connected(1).await;
            let count = seen.borrow().len();
            // All in one write, so that the order is obeyed with messages behind it in the same read.
            for message in ["before", order, "behind"] {
                assert!(two.send(1, Lane::Urgent, message.as_bytes()));
            }
            until("it obeys", || seen.borrow().iter().any(|what| what == order)).await;
            until("it is cut off", || two.log.count(|event| matches!(event, Event::Disconnected(..))) > 0).await;
            assert!(!seen.borrow()[count..].contains(&"behind".to_owned()), "{:?}", seen.borrow());
            for lane in Lane::ALL {
                let broke = |event: &Event| matches!(event, Event::Disconnected(1, on, _) if *on == lane);
                until("every lane is cut off", || two.log.count(broke) > 0).await;
            }
        }
    });
}
