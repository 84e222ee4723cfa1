//! Leases that are kept alive: by `lease keep-alive`, and behind locks and elections.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::rpc::Stream;
use plinth_api::methods::{LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE};
use plinth_api::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// Pause before a broken stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the first answer may take, and an answer at all before the request is repeated.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// Requests to keep a lease, one for each third of its life.
pub struct KeepAlive {
    cluster: Cluster,
    id: i64,
    stream: Option<Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse>>,
    next: Instant,
    /// Without an answer until then, the lease is taken for lost.
    deadline: Instant,
}

impl KeepAlive {
    /// The first request is sent by the first [`KeepAlive::next`].
    pub fn new(cluster: Cluster, id: i64) -> KeepAlive {
        let now = Instant::now();
        KeepAlive { cluster, id, stream: None, next: now, deadline: now + FIRST_ANSWER }
    }

    /// The next answer; nothing if the lease is gone.
    pub async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
        sleep_until(self.next).await;
        loop {
            match timeout_at(self.deadline, self.ask()).await {
                Ok(Ok(Some(answer))) if answer.ttl <= 0 => return Ok(None),
                Ok(Ok(Some(answer))) => {
                    let life = Duration::from_secs(answer.ttl.cast_unsigned());
                    self.next = Instant::now() + life / 3;
                    self.deadline = Instant::now() + life;
                    return Ok(Some(answer));
                }
                Ok(Ok(None)) => {
                    self.stream = None;
                    self.cluster.leave();
                    if timeout_at(self.deadline, sleep(PAUSE)).await.is_err() {
                        return Ok(None);
                    }
                }
                Ok(Err(failure)) => return Err(failure),
                Err(_) => return Ok(None),
            }
        }
    }

    /// One request and its answer; nothing if the connection broke or is silent.
    async fn ask(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
        let request = LeaseKeepAliveRequest { id: self.id };
        match &self.stream {
            Some(stream) => stream.send(request),
            None => match self.cluster.client().await?.stream(&LEASE_KEEP_ALIVE, request).await {
                Ok(stream) => self.stream = Some(stream),
                Err(_) => return Ok(None),
            },
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        match timeout(FIRST_ANSWER, stream.next()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}

/// One request to keep a lease, and its answer.
pub async fn keep_alive_once(cluster: &Cluster, id: i64) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
    let mut stream = cluster.client().await?.stream(&LEASE_KEEP_ALIVE, LeaseKeepAliveRequest { id }).await?;
    Ok(stream.next().await?.filter(|answer| answer.ttl > 0))
}

/// A lease that lives as long as this does.
pub struct Session {
    cluster: Cluster,
    pub lease: i64,
    keeper: JoinHandle<()>,
}

impl Session {
    /// Grants the lease and begins to keep it.
    pub async fn open(cluster: &Cluster, ttl: i64) -> Result<Session, Failure> {
        let lease = cluster.call(&LEASE_GRANT, LeaseGrantRequest { ttl, id: 0 }).await?.id;
        let mut keep_alive = KeepAlive::new(cluster.clone(), lease);
        let keeper = tokio::spawn(async move { while let Ok(Some(_)) = keep_alive.next().await {} });
        Ok(Session { cluster: cluster.clone(), lease, keeper })
    }

    /// Returns when the lease is lost.
    pub async fn lost(&mut self) {
        // A keeper that was stopped keeps nothing either.
        let _ = (&mut self.keeper).await;
    }

    /// Ends the lease, and with it every key that hangs on it.
    pub async fn close(self) -> Result<(), Failure> {
        self.keeper.abort();
        self.cluster.call(&LEASE_REVOKE, LeaseRevokeRequest { id: self.lease }).await.map(|_| ())
    }
}
