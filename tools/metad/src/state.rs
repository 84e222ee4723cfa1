//! All that a metad knows, in memory: the data, which parts of it are whose `self`, and who may read what.
//!
//! Changes that the store made at once are applied at once, under the one lock: nobody sees a part of them. The version
//! grows with each. It begins with the time at which the process did, so that a version of another process, or of a life
//! before, is never taken for one of this.

use crate::rules::{Access, Rule, View};
use crate::tree::{Tree, Value, names, normal};
use std::collections::{BTreeMap, BTreeSet};

/// A part of the state, each from a range of the store of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    Data,
    Mapping,
    Rules,
}

/// What somebody waits for: anything at or below a path. Of rules, the path is the client.
pub type Topic = (Area, String);

/// The state.
#[derive(Debug)]
pub struct State {
    pub data: Tree,
    pub mapping: Tree,
    rules: BTreeMap<String, (Vec<Rule>, Access)>,
    /// Grows with every change.
    pub version: i64,
}

impl State {
    /// Nothing, at the first version.
    pub fn new(version: i64) -> State {
        State { data: Tree::default(), mapping: Tree::default(), rules: BTreeMap::new(), version }
    }

    /// Takes changes that belong together: paths below the area's own, and their new values. Gives the paths that
    /// changed by that.
    pub fn apply(&mut self, area: Area, changes: Vec<(String, Option<String>)>) -> Vec<String> {
        let mut changed = Vec::new();
        for (path, value) in changes {
            let path = normal(&path);
            let is_new = match area {
                Area::Data => self.data.set(&path, value),
                Area::Mapping => self.mapping.set(&path, value),
                Area::Rules => self.set_rules(&path, value),
            };
            if is_new {
                changed.push(path);
            }
        }
        self.version += i64::from(!changed.is_empty());
        changed
    }

    /// Takes an area as it is now as a whole.
    pub fn replace(&mut self, area: Area, pairs: BTreeMap<String, String>) -> Vec<String> {
        let old: Vec<String> = match area {
            Area::Data => self.data.paths(),
            Area::Mapping => self.mapping.paths(),
            Area::Rules => self.rules.keys().map(|client| format!("/{client}")).collect(),
        };
        let new: BTreeSet<String> = pairs.keys().map(|path| normal(path)).collect();
        let gone = old.into_iter().filter(|path| !new.contains(path)).map(|path| (path, None));
        let changes = gone.chain(pairs.into_iter().map(|(path, value)| (path, Some(value)))).collect();
        self.apply(area, changes)
    }

    /// Rules that cannot be read allow nothing.
    fn set_rules(&mut self, path: &str, value: Option<String>) -> bool {
        let client = path.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(value) = value else { return self.rules.remove(&client).is_some() };
        let rules: Vec<Rule> = serde_json::from_str(&value).unwrap_or_else(|error| {
            plinth_companion::error!("the rules of {client} cannot be read and allow nothing: {error}");
            Vec::new()
        });
        let old = self.rules.get(&client).map(|(rules, _)| rules);
        let is_new = old != Some(&rules);
        let access = Access::new(&rules);
        self.rules.insert(client, (rules, access));
        is_new
    }

    /// The rules of these clients, or of all.
    pub fn rules(&self, clients: &[String]) -> BTreeMap<&str, &[Rule]> {
        let is_meant = |client: &str| clients.is_empty() || clients.iter().any(|other| other == client);
        let meant = self.rules.iter().filter(|(client, _)| is_meant(client));
        meant.map(|(client, (rules, _))| (client.as_str(), rules.as_slice())).collect()
    }

    /// How many values or clients an area has.
    pub fn size(&self, area: Area) -> usize {
        match area {
            Area::Data => self.data.paths().len(),
            Area::Mapping => self.mapping.paths().len(),
            Area::Rules => self.rules.len(),
        }
    }

    /// The mapping of a client: names to paths of data, or to more names.
    fn mapping_of(&self, client: &str) -> Option<BTreeMap<String, Value>> {
        match self.mapping.get(client)? {
            Value::Map(map) => Some(map),
            Value::Text(_) => None,
        }
    }

    /// Reads as a client may. Where no rules are set, what its mapping points to may be read.
    fn with_access<T>(&self, client: &str, read: impl FnOnce(&Access) -> Option<T>) -> Option<T> {
        match self.rules.get(client) {
            Some((_, access)) => read(access),
            None => {
                let mapping = Value::Map(self.mapping_of(client)?);
                read(&Access::read(mapping.leaves().into_iter().map(|(_, link)| link)))
            }
        }
    }

    /// What a client sees at a path of the data; at the root, its `self` too.
    pub fn root_value(&self, client: &str, path: &str) -> Option<Value> {
        self.with_access(client, |access| {
            let view = View::new(self.data.root(), access);
            let mut value = view.enter(path)?.value()?;
            if let (Value::Map(map), None) = (&mut value, names(path).next())
                && let Some(mapping) = self.mapping_of(client)
                && let Some(own) = resolve(&[], &mapping, view)
            {
                map.insert("self".to_owned(), own);
            }
            Some(value)
        })
    }

    /// What a client sees at a path of its `self`.
    pub fn self_value(&self, client: &str, path: &str) -> Option<Value> {
        self.with_access(client, |access| {
            let names: Vec<&str> = names(path).collect();
            resolve(&names, &self.mapping_of(client)?, View::new(self.data.root(), access))
        })
    }

    /// What may change the answer of [`State::root_value`].
    pub fn root_topics(&self, client: &str, path: &str) -> Vec<Topic> {
        let mut topics = vec![(Area::Data, normal(path)), (Area::Rules, format!("/{client}"))];
        if names(path).next().is_none() || !self.rules.contains_key(client) {
            topics.push((Area::Mapping, format!("/{client}")));
        }
        topics
    }

    /// What may change the answer of [`State::self_value`].
    pub fn self_topics(&self, client: &str, path: &str) -> Vec<Topic> {
        let mut topics = vec![(Area::Mapping, format!("/{client}")), (Area::Rules, format!("/{client}"))];
        let mut names: std::collections::VecDeque<&str> = names(path).collect();
        let mut at = self.mapping_of(client).map(Value::Map);
        while let Some(Value::Map(mut map)) = at {
            match names.pop_front() {
                Some(name) => at = map.remove(name),
                None => {
                    let all = Value::Map(map);
                    topics.extend(all.leaves().into_iter().map(|(_, link)| (Area::Data, normal(link))));
                    return topics;
                }
            }
        }
        if let Some(Value::Text(link)) = at {
            let rest = names.into_iter().fold(normal(&link), |path, name| path + "/" + name);
            topics.push((Area::Data, rest));
        }
        topics
    }
}

/// Follows a mapping to the data. A name that is mapped to names is there, be it with nothing in it.
fn resolve(names: &[&str], mapping: &BTreeMap<String, Value>, root: View<'_>) -> Option<Value> {
    let Some((first, rest)) = names.split_first() else {
        let found = mapping.iter().filter_map(|(name, value)| {
            let value = match value {
                Value::Map(map) => resolve(&[], map, root)?,
                Value::Text(link) => root.enter(link)?.value()?,
            };
            Some((name.clone(), value))
        });
        return Some(Value::Map(found.collect()));
    };
    match mapping.get(*first)? {
        Value::Map(map) => resolve(rest, map, root),
        Value::Text(link) => rest.iter().try_fold(root.enter(link)?, |view, name| view.enter(name))?.value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(list: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        list.iter().map(|(path, value)| ((*path).to_owned(), Some((*value).to_owned()))).collect()
    }

    fn state() -> State {
        let mut state = State::new(7);
        state.apply(
            Area::Data,
            changes(&[("/nodes/1/ip", "10.0.0.1"), ("/nodes/1/name", "n1"), ("/nodes/2/ip", "10.0.0.2")]),
        );
        state.apply(Area::Mapping, changes(&[("/10.0.0.1/node", "/nodes/1"), ("/10.0.0.1/dir/n2", "/nodes/2")]));
        state
    }

    fn shown(value: Option<Value>) -> Vec<String> {
        let value = value.expect("found");
        value.leaves().into_iter().map(|(path, text)| format!("{path}={text}")).collect()
    }

    #[test]
    fn each_client_sees_what_is_mapped_to_it() {
        let state = state();
        let all = ["/dir/n2/ip=10.0.0.2", "/node/ip=10.0.0.1", "/node/name=n1"];
        assert_eq!(shown(state.self_value("10.0.0.1", "/")), all);
        assert_eq!(shown(state.self_value("10.0.0.1", "node/ip")), ["=10.0.0.1"]);
        assert_eq!(shown(state.self_value("10.0.0.1", "dir/n2")), ["/ip=10.0.0.2"]);
        for (client, path) in [("10.0.0.1", "nonsense"), ("10.0.0.1", "node/ip/deeper"), ("10.0.0.2", "/")] {
            assert_eq!(state.self_value(client, path), None, "{client} {path}");
        }
        assert_eq!(shown(state.root_value("10.0.0.1", "/nodes/1")), ["/ip=10.0.0.1", "/name=n1"]);
        assert!(shown(state.root_value("10.0.0.1", "/")).contains(&"/self/node/name=n1".to_owned()));
        assert_eq!(state.root_value("10.0.0.2", "/"), None, "neither mapping nor rules");
    }

    #[test]
    fn rules_count_instead_of_the_mapping() {
        let mut state = state();
        state.apply(Area::Rules, changes(&[("/10.0.0.1", r#"[{"path":"/nodes/2","mode":1}]"#)]));
        assert_eq!(shown(state.self_value("10.0.0.1", "/")), ["/dir/n2/ip=10.0.0.2"]);
        assert_eq!(state.rules(&[]).len(), 1);
        state.apply(Area::Rules, changes(&[("/10.0.0.1", "nonsense")]));
        assert_eq!(state.self_value("10.0.0.1", "/node"), None, "what cannot be read allows nothing");
        state.apply(Area::Rules, vec![("/10.0.0.1".to_owned(), None)]);
        assert_eq!(shown(state.self_value("10.0.0.1", "node/ip")), ["=10.0.0.1"]);
    }

    #[test]
    fn versions_grow_with_what_changes() {
        let mut state = state();
        assert_eq!(state.version, 9);
        assert_eq!(state.apply(Area::Data, changes(&[("/nodes/1/ip", "10.0.0.1")])), [""; 0]);
        assert_eq!(state.version, 9, "the same value is no change");
        let pairs = [("/nodes/1/ip", "10.0.0.9"), ("/nodes/3/ip", "10.0.0.3")];
        let pairs = pairs.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
        let mut changed = state.replace(Area::Data, pairs);
        changed.sort();
        assert_eq!(changed, ["/nodes/1/ip", "/nodes/1/name", "/nodes/2/ip", "/nodes/3/ip"]);
        assert_eq!((state.version, state.size(Area::Data)), (10, 2), "all at once");
    }

    #[test]
    fn who_waits_is_told_of_what_it_sees() {
        let state = state();
        let data = |topics: Vec<Topic>| -> Vec<String> {
            topics.into_iter().filter(|(area, _)| *area == Area::Data).map(|(_, path)| path).collect()
        };
        assert_eq!(data(state.self_topics("10.0.0.1", "/")), ["/nodes/2", "/nodes/1"]);
        assert_eq!(data(state.self_topics("10.0.0.1", "/node/ip")), ["/nodes/1/ip"]);
        assert_eq!(data(state.self_topics("10.0.0.1", "/dir")), ["/nodes/2"]);
        assert_eq!(data(state.self_topics("10.0.0.2", "/")), [""; 0]);
        assert_eq!(data(state.root_topics("10.0.0.1", "nodes/")), ["/nodes"]);
    }
}
