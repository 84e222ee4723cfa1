//! What all calls share.

use crate::cache::Cache;
use crate::lease::keeper::Keeper;
use crate::members::Members;
use crate::namespace::Namespace;
use crate::upstream::Upstream;
use crate::watch::hub::Hub;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The proxy.
pub struct Proxy {
    pub upstream: Arc<Upstream>,
    pub namespace: Namespace,
    pub hub: Arc<Hub>,
    pub keeper: Arc<Keeper>,
    pub members: Arc<Members>,
    cache: Mutex<Cache>,
}

impl Proxy {
    /// Serves nobody yet. To be called in a runtime: keep-alives have a task of their own.
    pub fn new(upstream: Arc<Upstream>, namespace: Namespace, members: Arc<Members>) -> Arc<Proxy> {
        Arc::new(Proxy {
            hub: Hub::new(Arc::clone(&upstream), namespace.clone()),
            keeper: Keeper::new(Arc::clone(&upstream)),
            members,
            upstream,
            namespace,
            cache: Mutex::default(),
        })
    }

    /// Never held across a wait.
    pub fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
