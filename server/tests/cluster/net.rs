//! The network between members: a proxy in front of each member's port, which knows by the hello who dials, and holds
//! back everything on lines that are cut. Nothing is lost on them: TCP goes on when they are mended.

use plinth_net::peer::wire::Hello;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pairs of member ids that cannot talk; each direction by itself.
type Cuts = Arc<Mutex<HashSet<(u64, u64)>>>;

/// See the module.
#[derive(Clone, Default)]
pub struct Net {
    cuts: Cuts,
    /// Milliseconds that everything between members takes longer.
    delay: Arc<AtomicU64>,
}

impl Net {
    /// A port in front of `target`.
    pub fn proxy(&self, target: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let net = self.clone();
        std::thread::spawn(move || {
            for dialer in listener.incoming().flatten() {
                let net = net.clone();
                std::thread::spawn(move || connect(dialer, target, net));
            }
        });
        port
    }

    /// Nothing gets from `from` to `to` any more.
    pub fn cut(&self, from: u64, to: u64) {
        self.cuts.lock().expect("not poisoned").insert((from, to));
    }

    /// Nothing gets between two members any more.
    pub fn part(&self, left: u64, right: u64) {
        self.cut(left, right);
        self.cut(right, left);
    }

    /// Everything between members takes so much longer, from now on.
    pub fn delay(&self, millis: u64) {
        self.delay.store(millis, Ordering::Relaxed);
    }

    /// Everything gets through again.
    pub fn mend(&self) {
        self.cuts.lock().expect("not poisoned").clear();
    }
}

/// Carries one connection; plain HTTP passes whatever is cut.
fn connect(mut dialer: TcpStream, target: u16, net: Net) {
    let Ok(mut acceptor) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
    let (mut opening, mut buffer) = (Vec::new(), [0; 4096]);
    let line = loop {
        let Ok(count @ 1..) = dialer.read(&mut buffer) else { return };
        opening.extend_from_slice(&buffer[..count]);
        match Hello::decode(&opening) {
            Ok(None) => {}
            Ok(Some((hello, _))) => break Some((hello.from, hello.to)),
            Err(_) => break None,
        }
    };
    wait(line, &net);
    if acceptor.write_all(&opening).is_err() {
        return;
    }
    let (Ok(answers), Ok(back)) = (acceptor.try_clone(), dialer.try_clone()) else { return };
    let answer_net = net.clone();
    std::thread::spawn(move || carry(answers, back, line.map(|(from, to)| (to, from)), &answer_net));
    carry(dialer, acceptor, line, &net);
}

fn carry(mut from: TcpStream, mut to: TcpStream, line: Option<(u64, u64)>, net: &Net) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        wait(line, net);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Until the line is not cut; and as much longer as everything takes.
fn wait(line: Option<(u64, u64)>, net: &Net) {
    if line.is_some() {
        std::thread::sleep(Duration::from_millis(net.delay.load(Ordering::Relaxed)));
    }
    let is_cut = |line| net.cuts.lock().expect("not poisoned").contains(&line);
    while line.is_some_and(is_cut) {
        std::thread::sleep(Duration::from_millis(5));
    }
}
