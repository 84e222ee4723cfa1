//! etcd's v2 API. Long polls go on from the index that was read, so that no change falls between; where the history has not
//! enough of them left, all is read again.

use super::{Pairs, common, is_meant, tops};
use crate::resource::Resource;
use http::Method;
use plinth_ctl::tls::Encryption;
use plinth_ctl::v2::client::{Client, Content, Refused, key_target};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long a long poll is waited for; then it is asked again, lest a connection that broke in silence is waited for.
const POLL_TIME: Duration = Duration::from_secs(300);

/// Pause after nobody has answered.
const PAUSE: Duration = Duration::from_secs(2);

/// The errors of a key that is not there, and of an index that the history does not reach back to.
const NOT_FOUND: u64 = 100;
const OUTDATED: u64 = 401;

/// The members of a cluster.
pub struct Etcd2 {
    client: Client,
    /// How long a question may take.
    time: Duration,
    /// The lowest index that was read since the last change; 0: none.
    index: AtomicU64,
    /// What is waited for.
    path: String,
}

impl Etcd2 {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// If the files of the encryption are no use.
    pub fn new(
        nodes: Vec<String>,
        encryption: &Encryption,
        user: Option<String>,
        time: Duration,
    ) -> Result<Etcd2, String> {
        let mut client = Client::new(nodes, encryption, time).map_err(|failure| failure.text)?;
        client.user = user;
        Ok(Etcd2 { client, time, index: AtomicU64::new(0), path: "/".to_owned() })
    }

    /// The pairs at these keys and below them.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn get(&self, keys: &[String]) -> Result<Pairs, String> {
        let mut pairs = Pairs::new();
        for key in tops(keys.iter().cloned()) {
            let target = format!("{}?quorum=true&recursive=true", key_target(&key));
            let asked = timeout(self.time, self.client.ask(Method::GET, &target, Content::Nothing, false)).await;
            let index = match asked.map_err(|_| "the store does not answer".to_owned())? {
                Ok(answer) => {
                    walk(&answer.json()["node"], &mut pairs);
                    answer.index
                }
                Err(Refused::Key(error)) if error["errorCode"] == NOT_FOUND => error["index"].as_u64().unwrap_or(0),
                Err(refused) => return Err(refused.text()),
            };
            // The lowest: what has changed between two answers is asked for again.
            let lowest = self.index.load(Ordering::Relaxed);
            if lowest == 0 || index < lowest {
                self.index.store(index, Ordering::Relaxed);
            }
        }
        pairs.retain(|key, _| is_meant(keys, key));
        Ok(pairs)
    }

    /// Waits for what all these resources have in common.
    pub fn watch(&mut self, resources: &[Resource]) {
        self.path = common(resources);
    }

    /// Returns when something there has changed since it was read.
    pub async fn changed(&mut self) {
        loop {
            let index = self.index.load(Ordering::Relaxed);
            let since = if index > 0 { format!("&waitIndex={}", index + 1) } else { String::new() };
            let target = format!("{}?wait=true&recursive=true{since}", key_target(&self.path));
            match timeout(POLL_TIME, self.client.ask(Method::GET, &target, Content::Nothing, true)).await {
                // The other end went away, or nothing happened in all that time.
                Ok(Ok(answer)) if answer.body.is_empty() => {}
                Err(_) => {}
                Ok(Ok(_)) => break,
                Ok(Err(Refused::Key(error))) if error["errorCode"] == OUTDATED => break,
                Ok(Err(refused)) => {
                    plinth_companion::warn!("{}", refused.text());
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        self.index.store(0, Ordering::Relaxed);
    }
}

/// Keys with values, at a node and below it.
fn walk(node: &Value, pairs: &mut Pairs) {
    let mut waiting = vec![node];
    while let Some(node) = waiting.pop() {
        waiting.extend(node["nodes"].as_array().into_iter().flatten());
        if let (Some(key), Some(value)) = (node["key"].as_str(), node["value"].as_str()) {
            pairs.insert(key.to_owned(), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_become_keys() {
        let node = serde_json::json!({ "dir": true, "nodes": [
            { "key": "/a", "dir": true, "nodes": [{ "key": "/a/1", "value": "x" }, { "key": "/a/2", "value": "" }] },
            { "key": "/b", "dir": true },
        ] });
        let mut pairs = Pairs::new();
        walk(&node, &mut pairs);
        assert_eq!(
            pairs.into_iter().collect::<Vec<_>>(),
            [("/a/1".into(), "x".into()), ("/a/2".into(), String::new())]
        );
    }
}
