//! Where keys come from. Each backend gives the keys of a resource, and tells when they may be others.
//!
//! - [`etcd`]: an etcd v3; while it is watched, answers come out of memory
//! - [`etcd2`]: etcd's v2 API; long polls by index
//! - [`metad`]: what a metad says, of `/self` for the most part; long polls by version
//! - [`local`]: the environment, and files

pub mod etcd;
pub mod etcd2;
pub mod local;
pub mod metad;

use crate::resource::Resource;
use std::collections::BTreeMap;

/// Keys and values, as the store has them.
pub type Pairs = BTreeMap<String, String>;

/// A backend.
pub enum Backend {
    Etcd(etcd::Etcd),
    Etcd2(etcd2::Etcd2),
    Metad(metad::Metad),
    Env,
    File(local::Files),
}

impl Backend {
    /// The pairs at these keys and below them.
    ///
    /// # Errors
    /// In words for the user; no value is in them.
    pub async fn get(&self, keys: &[String]) -> Result<Pairs, String> {
        let pairs = match self {
            Backend::Etcd(etcd) => return etcd.get(keys).await,
            Backend::Etcd2(etcd) => return etcd.get(keys).await,
            Backend::Metad(metad) => return metad.get(keys).await,
            Backend::Env => local::environment(keys),
            Backend::File(files) => files.read()?,
        };
        Ok(pairs.into_iter().filter(|(key, _)| is_meant(keys, key)).collect())
    }

    /// Begins to follow what these resources need.
    pub fn watch(&mut self, resources: &[Resource]) {
        match self {
            Backend::Etcd(etcd) => etcd.watch(resources),
            Backend::Etcd2(etcd) => etcd.watch(resources),
            Backend::Metad(metad) => metad.watch(resources),
            Backend::File(files) => files.watch(),
            Backend::Env => {}
        }
    }

    /// Returns when something may have changed since it was last read. May be dropped and called again.
    pub async fn changed(&mut self) {
        match self {
            Backend::Etcd(etcd) => etcd.changed().await,
            Backend::Etcd2(etcd) => etcd.changed().await,
            Backend::Metad(metad) => metad.changed().await,
            // The environment of a process stays as it is.
            Backend::Env => std::future::pending().await,
            Backend::File(files) => files.changed().await,
        }
    }
}

/// Whether a key is one of these, or below one.
pub fn is_meant(keys: &[String], key: &str) -> bool {
    keys.iter().any(|asked| {
        let rest = key.strip_prefix(asked.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Keys without those that are below others of them.
pub fn tops(keys: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut keys: Vec<String> = keys.into_iter().collect();
    keys.sort();
    keys.dedup();
    let all = keys.clone();
    keys.retain(|key| !all.iter().any(|other| other != key && is_meant(std::slice::from_ref(other), key)));
    keys
}

/// The path that all keys of these resources have in common.
pub fn common(resources: &[Resource]) -> String {
    let mut prefixes = resources.iter().flat_map(|resource| &resource.keys);
    let first = prefixes.next().cloned().unwrap_or_default();
    let path = prefixes.fold(first, |common, key| {
        let same = common.split('/').zip(key.split('/')).take_while(|(left, right)| left == right);
        same.map(|(name, _)| name).collect::<Vec<_>>().join("/")
    });
    if path.is_empty() { "/".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_names() {
        let asked = ["/foo".to_owned(), "/b/".to_owned()];
        for (key, wanted) in [("/foo", true), ("/foo/x", true), ("/foobar", false), ("/b/c", true), ("/c", false)] {
            assert_eq!(is_meant(&asked, key), wanted, "{key}");
        }
        assert!(is_meant(&["/".to_owned()], "/anything"));
        let keys = ["/a/b", "/a", "/ab", "/a", "/c/d"].map(str::to_owned);
        assert_eq!(tops(keys), ["/a", "/ab", "/c/d"]);
    }
}
