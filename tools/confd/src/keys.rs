//! The keys of one resource, without their prefix, and what templates ask about them.

use crate::paths::{base, clean, dir, matches};
use std::collections::{BTreeMap, BTreeSet};

/// Keys and their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, String>);

impl Keys {
    /// Of keys as a store has them: what a resource's prefix is, is left out.
    pub fn new(pairs: BTreeMap<String, String>, prefix: &str) -> Keys {
        let without = |key: String| crate::paths::join(&["/", key.strip_prefix(prefix).unwrap_or(&key)]);
        Keys(pairs.into_iter().map(|(key, value)| (without(key), value)).collect())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys that match a pattern, sorted, with their values.
    ///
    /// # Errors
    /// If the pattern is malformed.
    pub fn matching(&self, pattern: &str) -> Result<Vec<(&str, &str)>, String> {
        let mut found = Vec::new();
        for (key, value) in &self.0 {
            if matches(pattern, key)? {
                found.push((key.as_str(), value.as_str()));
            }
        }
        Ok(found)
    }

    /// The names right below a path, sorted; of a key, its own.
    pub fn list(&self, path: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        for key in self.0.keys() {
            if key == path {
                names.insert(base(key));
            } else if is_at_or_below(path, &dir(key)) {
                let rest = key.strip_prefix(path).unwrap_or(key);
                let rest = rest.strip_prefix('/').unwrap_or(rest);
                names.insert(rest.split('/').next().unwrap_or_default().to_owned());
            }
        }
        names.into_iter().collect()
    }

    /// The names right below a path that have names below them, sorted.
    pub fn list_dir(&self, path: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        for key in self.0.keys().filter(|key| key.starts_with(path)) {
            let (own, folder) = (terms(path), terms(&dir(key)));
            if is_at_or_below(path, &dir(key)) && folder.len() > own.len() {
                names.insert(folder[own.len()].clone());
            }
        }
        names.into_iter().collect()
    }
}

/// The names of a path, as `path.Clean` leaves it. The root has two that are empty, as the original has it.
fn terms(path: &str) -> Vec<String> {
    clean(path).split('/').map(str::to_owned).collect()
}

fn is_at_or_below(path: &str, other: &str) -> bool {
    let (own, other) = (terms(path), terms(other));
    other.len() >= own.len() && other[..own.len()] == own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let keys = [
            "/deis/services/a",
            "/deis/services/b/c",
            "/deis/services/srv/node1",
            "/deis/prefix",
            "/deis/prefix/x",
            "/deis/prefixed",
        ];
        Keys::new(keys.iter().map(|key| ((*key).to_owned(), format!("v-{key}"))).collect(), "")
    }

    #[test]
    fn names_below_a_path() {
        let keys = keys();
        assert_eq!(keys.list("/deis/services"), ["a", "b", "srv"]);
        assert_eq!(keys.list("/deis/services/a"), ["a"], "a key's own name");
        assert_eq!(keys.list("/deis/prefix"), ["prefix", "x"]);
        assert_eq!(keys.list("/nothing"), [""; 0]);
        assert_eq!(keys.list_dir("/deis/services"), ["b", "srv"]);
        assert_eq!(keys.list_dir("/deis"), ["prefix", "services"]);
        assert_eq!(keys.list("/"), [""; 0], "the root has no names below it, as in the original");
    }

    #[test]
    fn prefixes_are_left_out_as_text() {
        let pairs = [("/app/key", "1"), ("/application", "2"), ("/other", "3")];
        let keys =
            Keys::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), "/app");
        assert_eq!(keys.matching("/*").expect("sound"), [("/key", "1"), ("/lication", "2"), ("/other", "3")]);
        assert_eq!((keys.get("/key"), keys.get("/app/key")), (Some("1"), None));
        assert!(keys.matching("/[").is_err());
    }
}
