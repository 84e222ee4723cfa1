//! Connections from clients to members: an endpoint that does not answer is left out, and tried again every so often.

use crate::pool::Pool;
use plinth_companion::etcd_log as log;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 20_000;

/// How long an endpoint may take to answer.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// Pause after the system had no more sockets to give.
const PAUSE: Duration = Duration::from_millis(100);

/// What this process or machine has no more of, which is no endpoint's fault: EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS.
const OWN_LIMITS: [i32; 4] = [24, 23, 99, 105];

/// What all connections share.
pub struct Proxy {
    pool: Mutex<Pool>,
    retry: Duration,
}

impl Proxy {
    /// Endpoints that are left out are tried again every `retry`.
    pub fn new(pool: Pool, retry: Duration) -> Arc<Proxy> {
        Arc::new(Proxy { pool: Mutex::new(pool), retry })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries connections, without an end.
    pub async fn serve(self: Arc<Proxy>, listener: TcpListener) {
        log::line("info", "ready to proxy client requests", &[("endpoints", self.pool().addresses().into())]);
        tokio::spawn(Arc::clone(&self).retry());
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            match listener.accept().await {
                Ok((client, _)) => {
                    let proxy = Arc::clone(&self);
                    tokio::spawn(async move {
                        proxy.carry(client).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    log::line("warn", "failed to accept a connection", &[("error", error.to_string().into())]);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// A connection, until both sides have ended it. Without an endpoint it is closed.
    async fn carry(&self, mut client: TcpStream) {
        let Some(mut member) = self.dial(&client).await else { return };
        let _ = (client.set_nodelay(true), member.set_nodelay(true));
        // Whoever breaks it off is seen by the other side as that.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut member).await;
    }

    async fn dial(&self, client: &TcpStream) -> Option<TcpStream> {
        loop {
            let random = rand();
            let (number, address) = self.pool().pick(random)?;
            match dial(&address).await {
                Ok(stream) if leads_back(client, &stream) => {
                    // At once, or what was dialed here would dial on.
                    self.pool().leave_out(number, true);
                    log::line("error", "an endpoint is the gateway itself", &[("address", address.into())]);
                }
                Ok(stream) => return Some(stream),
                Err(error) if error.raw_os_error().is_some_and(|code| OWN_LIMITS.contains(&code)) => {
                    self.say("failed to dial", &address, &error);
                    return None;
                }
                Err(error) => {
                    if self.pool().leave_out(number, true) {
                        self.say("deactivated endpoint", &address, &error);
                    }
                }
            }
        }
    }

    /// Takes endpoints back that answer again.
    async fn retry(self: Arc<Proxy>) {
        loop {
            tokio::time::sleep(self.retry).await;
            let left_out = self.pool().left_out();
            for (number, address) in left_out {
                let proxy = Arc::clone(&self);
                tokio::spawn(async move {
                    match dial(&address).await {
                        Ok(_) => {
                            if proxy.pool().leave_out(number, false) {
                                log::line("info", "activated endpoint", &[("address", address.into())]);
                            }
                        }
                        Err(error) => proxy.say(
                            "failed to activate endpoint (stay inactive for another interval)",
                            &address,
                            &error,
                        ),
                    }
                });
            }
        }
    }

    fn say(&self, message: &str, address: &str, error: &io::Error) {
        let interval = humantime::format_duration(self.retry).to_string().replace(' ', "");
        let error = format!("dial tcp {address}: {error}");
        log::line(
            "warn",
            message,
            &[("address", address.into()), ("interval", interval.into()), ("error", error.into())],
        );
    }
}

async fn dial(address: &str) -> io::Result<TcpStream> {
    timeout(DIAL_TIME, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether a connection leads to where this one came in: each would open another one.
fn leads_back(client: &TcpStream, member: &TcpStream) -> bool {
    match (client.local_addr(), member.peer_addr(), member.local_addr()) {
        (Ok(own), Ok(there), Ok(here)) => own.port() == there.port() && there.ip() == here.ip(),
        _ => false,
    }
}

/// A number that need not be good: hashes of the standard library begin with a new key for each.
fn rand() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Endpoint;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers every connection with `name`, and ends it.
    async fn member(listener: TcpListener, name: &'static str) {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ = client.write_all(name.as_bytes()).await;
        }
    }

    async fn bind() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        (listener, address)
    }

    async fn ask(address: &str) -> String {
        let mut text = String::new();
        let mut stream = TcpStream::connect(address).await.expect("the proxy listens");
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn who_does_not_answer_is_left_out_until_it_does() {
        let ((first, first_address), (second, second_address)) = (bind().await, bind().await);
        drop(first);
        let pool =
            Pool::new([&first_address, &second_address].map(|address| Endpoint::plain(address.as_str())).to_vec());
        let proxy = Proxy::new(pool, Duration::from_millis(20));
        let (listener, address) = bind().await;
        tokio::spawn(Arc::clone(&proxy).serve(listener));
        let second = tokio::spawn(member(second, "second"));
        for _ in 0..4 {
            assert_eq!(ask(&address).await, "second");
        }
        assert_eq!(proxy.pool().left_out().len(), 1);
        let first = TcpListener::bind(&first_address).await.expect("the port is free again");
        tokio::spawn(member(first, "first"));
        while !proxy.pool().left_out().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut answers = [ask(&address).await, ask(&address).await];
        answers.sort();
        assert_eq!(answers, ["first", "second"]);
        second.abort();
    }

    #[tokio::test]
    async fn a_gateway_by_another_name_is_still_itself() {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let endpoint = Endpoint::plain(format!("localhost:{port}"));
        tokio::spawn(Proxy::new(Pool::new(vec![endpoint]), Duration::from_secs(60)).serve(listener));
        assert_eq!(ask(&format!("127.0.0.1:{port}")).await, "");
    }

    #[tokio::test]
    async fn without_an_endpoint_connections_are_closed() {
        let (member, gone) = bind().await;
        drop(member);
        let (listener, address) = bind().await;
        tokio::spawn(Proxy::new(Pool::new(vec![Endpoint::plain(gone)]), Duration::from_secs(60)).serve(listener));
        assert_eq!(ask(&address).await, "");
    }
}
