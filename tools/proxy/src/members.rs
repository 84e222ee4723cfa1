//! Who the members are, as far as clients see: the proxies that are registered under one prefix, or this one alone, so that
//! clients that ask stay with the proxies. Without an address to tell, the servers.

use plinth_api::methods::{LEASE_REVOKE, PUT};
use plinth_api::proto::etcdserverpb::{LeaseRevokeRequest, Member, MemberListResponse, PutRequest};
use plinth_companion::etcd_log as log;
use plinth_companion::follow::{Follower, Span, Told};
use plinth_ctl::cluster::Cluster;
use plinth_ctl::failure::Failure;
use plinth_ctl::session::Session;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Pause before it is tried again to register.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the end of the registration may take.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Where proxies register.
#[derive(Clone, Debug)]
pub struct Registry {
    /// With the namespace, which keys of the registry are in.
    pub prefix: String,
    /// Seconds that a registration outlives its proxy.
    pub ttl: i64,
}

/// See the module.
pub struct Members {
    /// Empty: nothing is told.
    advertised: String,
    registry: Option<Registry>,
    /// Of the registration; zero: there is none.
    lease: AtomicI64,
    /// By key.
    registered: Mutex<BTreeMap<Vec<u8>, Member>>,
}

impl Members {
    /// Nobody is registered yet.
    pub fn new(advertised: String, registry: Option<Registry>) -> Members {
        Members { advertised, registry, lease: AtomicI64::new(0), registered: Mutex::default() }
    }

    fn registered(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Member>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients find this proxy. Empty: it does not say.
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// What a client is told. Nothing: the servers know.
    pub fn list(&self) -> Option<MemberListResponse> {
        if self.advertised.is_empty() {
            return None;
        }
        let mut members: Vec<Member> = self.registered().values().cloned().collect();
        if members.is_empty() {
            members.push(member(host(), self.advertised.clone()));
        }
        Some(MemberListResponse { members, ..MemberListResponse::default() })
    }

    /// Registers this proxy and looks who else does, as long as it runs.
    pub async fn run(&self, cluster: Cluster) {
        if let Some(registry) = &self.registry {
            tokio::join!(self.register(&cluster, registry), self.follow(&cluster, registry));
        }
    }

    /// The proxy ends: clients are not to look for it for the rest of its lease.
    pub async fn leave(&self, cluster: &Cluster) {
        let id = self.lease.swap(0, Ordering::Relaxed);
        if id != 0 {
            // Where that cannot be said in time, the lease says it.
            let _ = timeout(LEAVE_TIME, cluster.call(&LEASE_REVOKE, LeaseRevokeRequest { id })).await;
        }
    }

    async fn register(&self, cluster: &Cluster, registry: &Registry) {
        loop {
            match self.registration(cluster, registry).await {
                Ok(mut session) => {
                    self.lease.store(session.lease, Ordering::Relaxed);
                    let (addr, ttl) = (self.advertised.as_str().into(), registry.ttl.into());
                    log::line("info", "registered session with lease", &[("addr", addr), ("lease-ttl", ttl)]);
                    session.lost().await;
                    log::line("warn", "session expired; possible network partition or server restart", &[]);
                }
                Err(failure) => {
                    log::line("warn", "failed to create a session", &[("error", failure.text.into())]);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn registration(&self, cluster: &Cluster, registry: &Registry) -> Result<Session, Failure> {
        let session = Session::open(cluster, registry.ttl).await?;
        let key = format!("{}/{}", registry.prefix, self.advertised);
        let value = registration(&self.advertised, &host());
        let request =
            PutRequest { key: key.into(), value: value.into(), lease: session.lease, ..PutRequest::default() };
        match cluster.call(&PUT, request).await {
            Ok(_) => Ok(session),
            Err(failure) => {
                // It ends by itself if that cannot be said.
                let _ = session.close().await;
                Err(failure)
            }
        }
    }

    async fn follow(&self, cluster: &Cluster, registry: &Registry) {
        let mut follower = Follower::new(cluster.clone(), Span::prefix(&format!("{}/", registry.prefix)));
        loop {
            match follower.next().await {
                Told::All(_, pairs) => {
                    *self.registered() =
                        pairs.into_iter().filter_map(|(key, value)| Some((key, read(&value)?))).collect();
                }
                Told::Changes(_, changes) => {
                    for (key, value) in changes {
                        match value.as_deref().and_then(read) {
                            Some(member) => drop(self.registered().insert(key, member)),
                            None => drop(self.registered().remove(&key)),
                        }
                    }
                }
                Told::Lost(error) => {
                    let prefix = registry.prefix.as_str().into();
                    log::line(
                        "warn",
                        "failed to establish endpoint watch",
                        &[("prefix", prefix), ("error", error.into())],
                    );
                }
            }
        }
    }
}

fn member(name: String, url: String) -> Member {
    Member { name, client_ur_ls: vec![url], ..Member::default() }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// As etcd's naming package writes it. Whatever describes the endpoint is a text of its own.
fn registration(address: &str, host: &str) -> String {
    let about = json!({ "name": host }).to_string();
    json!({ "Op": 0, "Addr": address, "Metadata": about }).to_string()
}

fn read(value: &[u8]) -> Option<Member> {
    let value: Value = serde_json::from_slice(value).ok()?;
    let about: Value = serde_json::from_str(value.get("Metadata")?.as_str()?).ok()?;
    Some(member(about.get("name")?.as_str()?.to_owned(), value.get("Addr")?.as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_registered_is_told_and_else_the_proxy_itself() {
        let members = Members::new("a:1".to_owned(), None);
        let told = |members: &Members| members.list().expect("it tells").members;
        assert_eq!(told(&members)[0].client_ur_ls, ["a:1"]);
        let other = read(registration("b:2", "host").as_bytes()).expect("it can be read");
        assert_eq!((other.name.as_str(), &other.client_ur_ls[..]), ("host", &["b:2".to_owned()][..]));
        members.registered().insert(b"p/b:2".to_vec(), other);
        assert_eq!(told(&members)[0].client_ur_ls, ["b:2"]);
        assert!(Members::new(String::new(), None).list().is_none());
    }

    #[test]
    fn what_others_write_there_is_read_with_care() {
        for text in ["", "{}", "[1]", r#"{"Addr":1,"Metadata":"{}"}"#, r#"{"Addr":"a","Metadata":"x"}"#] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
