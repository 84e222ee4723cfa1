//! An etcd v3. Read once, or kept in memory: then a change is an answer without a question, and one that was missed for
//! compaction is made good by reading all again.

use super::{Pairs, is_meant, tops};
use crate::resource::Resource;
use plinth_companion::follow::{Follower, Span, Told, read};
use plinth_ctl::cluster::Cluster;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Each range that is followed, and what is in it; nothing before it was read.
type Cache = BTreeMap<String, Option<Pairs>>;

/// An etcd.
pub struct Etcd {
    cluster: Cluster,
    /// How long a question may take.
    time: Duration,
    cache: Arc<Mutex<Cache>>,
    changes: watch::Sender<u64>,
    seen: watch::Receiver<u64>,
    followers: JoinSet<()>,
}

impl Etcd {
    /// Nothing is asked yet.
    pub fn new(cluster: Cluster, time: Duration) -> Etcd {
        let (changes, seen) = watch::channel(0);
        Etcd { cluster, time, cache: Arc::default(), changes, seen, followers: JoinSet::new() }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Out of memory where it is followed; else one state of the store, whatever the number of keys.
    ///
    /// # Errors
    /// If the store refuses, or does not answer in time.
    pub async fn get(&self, keys: &[String]) -> Result<Pairs, String> {
        let is_followed = !self.followers.is_empty();
        let waited = async {
            if is_followed {
                return Ok(self.cached(keys).await);
            }
            let (mut pairs, mut revision) = (Pairs::new(), 0);
            for top in tops(keys.iter().cloned()) {
                let (at, found) = read(&self.cluster, &Span::prefix(&top), revision).await.map_err(|failure| {
                    // What was shown as a token may have ended.
                    self.cluster.leave();
                    failure.text
                })?;
                revision = at;
                pairs.extend(found.into_iter().filter_map(text).filter(|(key, _)| is_meant(keys, key)));
            }
            Ok(pairs)
        };
        tokio::time::timeout(self.time, waited).await.unwrap_or_else(|_| Err("the store does not answer".to_owned()))
    }

    async fn cached(&self, keys: &[String]) -> Pairs {
        let mut seen = self.changes.subscribe();
        loop {
            seen.borrow_and_update();
            {
                let cache = self.cache();
                let all: Option<Vec<&Pairs>> = cache.values().map(Option::as_ref).collect();
                if let Some(all) = all {
                    let pairs = all.into_iter().flatten().filter(|(key, _)| is_meant(keys, key));
                    return pairs.map(|(key, value)| (key.clone(), value.clone())).collect();
                }
            }
            // The sender lives as long as this.
            let _ = seen.changed().await;
        }
    }

    /// Follows what these resources need, and nothing else.
    pub fn watch(&mut self, resources: &[Resource]) {
        let wanted = tops(resources.iter().flat_map(|resource| resource.keys.iter().cloned()));
        if self.cache().keys().eq(&wanted) && self.followers.len() == wanted.len() {
            return;
        }
        self.followers = JoinSet::new();
        *self.cache() = wanted.iter().map(|top| (top.clone(), None)).collect();
        for top in wanted {
            let (cluster, cache, changes) = (self.cluster.clone(), Arc::clone(&self.cache), self.changes.clone());
            self.followers.spawn(async move {
                let mut follower = Follower::new(cluster, Span::prefix(&top));
                loop {
                    let told = follower.next().await;
                    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                    // Another set of ranges is followed by now.
                    let Some(pairs) = cache.get_mut(&top) else { return };
                    if take(pairs, told) {
                        changes.send_modify(|number| *number += 1);
                    }
                }
            });
        }
    }

    /// Returns when a range has changed.
    pub async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.seen.changed().await;
    }
}

/// Takes what is new. Says whether anything is.
fn take(pairs: &mut Option<Pairs>, told: Told) -> bool {
    match told {
        Told::All(_, all) => {
            let all = Some(all.into_iter().filter_map(text).collect());
            let is_new = *pairs != all;
            *pairs = all;
            is_new
        }
        Told::Changes(_, changes) => {
            let pairs = pairs.get_or_insert_default();
            for (key, value) in changes {
                let Ok(key) = String::from_utf8(key) else { continue };
                match value {
                    Some(value) => drop(pairs.insert(key, String::from_utf8_lossy(&value).into_owned())),
                    None => drop(pairs.remove(&key)),
                }
            }
            true
        }
        Told::Lost(reason) => {
            plinth_companion::warn!("{reason}; what is known counts on");
            false
        }
    }
}

/// Keys that are no text cannot be asked for by templates.
fn text((key, value): (Vec<u8>, Vec<u8>)) -> Option<(String, String)> {
    Some((String::from_utf8(key).ok()?, String::from_utf8_lossy(&value).into_owned()))
}
