//! Long polls that wait for a change at or below their paths. What nobody waits for costs nothing; a change costs its
//! depth and those whom it wakes.

use crate::state::{Area, Topic};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    topics: HashMap<Topic, BTreeMap<u64, Arc<Notify>>>,
}

/// All who wait.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<Inner>>);

/// One of them. Forgotten when dropped.
#[derive(Debug)]
pub struct Waiter {
    all: Waiters,
    id: u64,
    topics: Vec<Topic>,
    notify: Arc<Notify>,
}

impl Waiters {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, changes of these are told.
    pub fn register(&self, topics: Vec<Topic>) -> Waiter {
        let notify = Arc::new(Notify::new());
        let mut inner = self.inner();
        inner.next += 1;
        let id = inner.next;
        for topic in &topics {
            inner.topics.entry(topic.clone()).or_default().insert(id, Arc::clone(&notify));
        }
        Waiter { all: self.clone(), id, topics, notify }
    }

    /// Tells those who wait for one of these paths, or for what is above it.
    pub fn wake(&self, area: Area, paths: &[String]) {
        let inner = self.inner();
        if inner.topics.is_empty() {
            return;
        }
        for path in paths {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            for prefix in above.chain([path.as_str()]) {
                if let Some(waiters) = inner.topics.get(&(area, prefix.to_owned())) {
                    waiters.values().for_each(|notify| notify.notify_one());
                }
            }
        }
    }
}

impl Waiter {
    /// Returns when something has changed since this was registered.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut inner = self.all.inner();
        for topic in &self.topics {
            if let Some(waiters) = inner.topics.get_mut(topic) {
                waiters.remove(&self.id);
                if waiters.is_empty() {
                    inner.topics.remove(topic);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn changes_wake_those_at_or_above_them() {
        let waiters = Waiters::default();
        let wait = |path: &str| waiters.register(vec![(Area::Data, path.to_owned())]);
        let all = [wait(""), wait("/a"), wait("/a/b"), wait("/a/b/c"), wait("/ab")];
        waiters.wake(Area::Data, &["/a/b".to_owned()]);
        waiters.wake(Area::Rules, &["/ab".to_owned()]);
        let mut context = Context::from_waker(Waker::noop());
        let woken: Vec<bool> = all.iter().map(|waiter| pin!(waiter.changed()).poll(&mut context).is_ready()).collect();
        assert_eq!(woken, [true, true, true, false, false]);
        drop(all);
        assert!(waiters.inner().topics.is_empty(), "who is gone is forgotten");
    }
}
