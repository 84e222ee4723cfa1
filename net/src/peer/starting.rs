//! A member's port before the member knows who it is: whoever asks is told at once to come again, so that members that
//! start together, and ask each other who is there, do not wait for each other.
//!
//! Invariants: no connection lives longer than [`TIME_MAX`]; their number has a bound; nothing that is read is kept.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::wire::HELLO_MAGIC;
use crate::rt::{self, TcpStream, sleep};
use crate::transport::tls::HANDSHAKE_BYTE;
use crate::transport::{Listener, Plain, Stream, read_some, write_all};
use crate::wait::within;

/// How long a connection may take to ask.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Connections at a time; others are closed at once.
const CONNECTIONS_MAX: usize = 128;
/// The head of a request is not longer.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// How long accepting pauses when the system has no descriptor or memory to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What is answered by HTTP.
const COME_AGAIN: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 23\r\nConnection: close\r\n\r\nthe member is starting\n";

/// Turns everybody away who connects, until it is dropped.
pub async fn turn_away(listener: &Listener) {
    let open = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok((stream, _)) if open.get() < CONNECTIONS_MAX => {
                open.set(open.get() + 1);
                let open = Rc::clone(&open);
                let task = async move {
                    let _ = within(TIME_MAX, answer(stream)).await;
                    open.set(open.get() - 1);
                };
                rt::spawn(task).detach();
            }
            Ok(_) => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Members dial again when they are hung up on, in clear or encrypted; HTTP gets an answer.
async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = Stream::Plain(Plain(stream));
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = read_some(&mut stream, &mut buffer).await?;
        head.extend_from_slice(&buffer[..count]);
        let is_ours = head.first().is_some_and(|first| [HELLO_MAGIC[0], HANDSHAKE_BYTE].contains(first));
        if count == 0 || head.len() > HEAD_BYTES_MAX || is_ours {
            return Ok(());
        }
    }
    write_all(&mut stream, COME_AGAIN).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Connector, ListenOptions, Target};

    #[test]
    fn who_asks_is_told_to_come_again() {
        crate::rt::block_on(async {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).unwrap();
            let target = Target::parse(&listener.local_addr().unwrap().to_string());
            let ask = async |question: &[u8]| {
                let mut stream = Connector::clear().connect(&target, Duration::from_secs(5)).await.unwrap();
                write_all(&mut stream, question).await.unwrap();
                let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
                while let Ok(count @ 1..) = read_some(&mut stream, &mut buffer).await {
                    answer.extend_from_slice(&buffer[..count]);
                }
                answer
            };
            let _turning = rt::spawn(async move { turn_away(&listener).await });
            assert_eq!(ask(b"GET /members HTTP/1.1\r\nHost: a\r\n\r\n").await, COME_AGAIN);
            assert_eq!(ask(&HELLO_MAGIC).await, b"");
        });
        let body = COME_AGAIN.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(COME_AGAIN.len() - body, 23);
    }
}
