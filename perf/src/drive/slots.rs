//! Slots on the crate `h2`: each has at most one request in flight and takes its turns from the pace. For streams of
//! messages and for large requests; [`crate::lean`] has the others.

use super::Record;
use crate::endpoint::Endpoint;
use crate::grpc::{self, CallError, Connection, Keep, Method, Sender, Stream};
use crate::pace::Pace;
use crate::workload::{Kind, Source};
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};
use plinth_api::wire;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Pause of a slot after a refused request, so that a refusing server is not hammered.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);
/// TTL of the leases kept alive: long enough never to expire within a run.
const LEASE_TTL_SECONDS: i64 = 3_600;

/// A slot's place: what it needs to send and to record.
pub struct Seat {
    /// Number within the thread.
    pub slot: usize,
    /// Whose turns it takes.
    pub pace: Rc<Pace>,
    pub record: Rc<Record>,
    /// The connection it sends on.
    pub sender: Sender,
}

impl Seat {
    /// Sends unary calls until the run or the source ends.
    pub async fn unary(mut self, mut source: Box<dyn Source>) {
        while let Some(due) = self.pace.next().await {
            let Some(job) = source.next() else { return };
            self.record.sent(self.slot, due);
            match grpc::unary(&mut self.sender, &job.method, job.framed, job.keep).await {
                Ok(reply) => {
                    self.record.answered(self.slot, job.class, due, Instant::now());
                    if job.keep == Keep::Body {
                        source.answered(&reply);
                    }
                }
                Err(error) => {
                    self.record.failed(self.slot, &error);
                    if !error.is_status() || self.record.is_broken() {
                        return;
                    }
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    /// Keeps leases alive on a stream of its own, one message at a time.
    pub async fn keep_alive(mut self, address: Endpoint, leases: Rc<[i64]>, number: usize) {
        if let Err(error) = self.try_keep_alive(address, &leases, number).await {
            self.record.failed(self.slot, &error);
        }
    }

    async fn try_keep_alive(&mut self, address: Endpoint, leases: &[i64], number: usize) -> Result<(), CallError> {
        let method = Method::new(address, methods::LEASE_KEEP_ALIVE.path);
        let mut stream: Option<Stream> = None;
        let mut turn = number;
        while let Some(due) = self.pace.next().await {
            let lease = leases[turn % leases.len()];
            turn += 1;
            let framed = grpc::frame(&LeaseKeepAliveRequest { id: lease });
            self.record.sent(self.slot, due);
            let stream = match &mut stream {
                Some(open) => {
                    open.send(framed)?;
                    open
                }
                none => none.insert(Stream::open(&mut self.sender, &method, framed).await?),
            };
            let answer = stream.next().await?.ok_or(CallError::Malformed("keep-alive stream ended"))?;
            if wire::integer_field(&answer, 2) != lease || wire::integer_field(&answer, 3) <= 0 {
                return Err(CallError::Malformed("a lease was not kept alive"));
            }
            self.record.answered(self.slot, 0, due, Instant::now());
        }
        Ok(())
    }
}

/// Grants one lease per number.
pub async fn grant_leases(
    address: Endpoint,
    connection: &Connection,
    numbers: &[usize],
) -> Result<Vec<i64>, CallError> {
    debug_assert!(Kind::LeaseKeepalive.name() == "lease-keepalive");
    let method = Method::new(address, methods::LEASE_GRANT.path);
    let mut sender = connection.sender();
    let mut leases = Vec::with_capacity(numbers.len());
    for _ in numbers {
        let framed = grpc::frame(&LeaseGrantRequest { ttl: LEASE_TTL_SECONDS, id: 0 });
        let reply = grpc::unary(&mut sender, &method, framed, Keep::Body).await?;
        leases.push(wire::integer_field(&reply, 2));
    }
    Ok(leases)
}
