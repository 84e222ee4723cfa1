//! Paths and values as a tree in memory. A name may have a value and names below it at once, as keys of etcd may; whoever
//! reads sees what is below, and the value when nothing is.

use serde::Serialize;
use std::collections::BTreeMap;

/// Names in a path; deeper ones are not taken, so that no key can exhaust a stack.
pub const DEPTH_MAX: usize = 128;

/// What a reader sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Text(String),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// An empty map.
    pub fn empty() -> Value {
        Value::Map(BTreeMap::new())
    }

    /// Whether it is a map without anything in it.
    pub fn is_empty_map(&self) -> bool {
        matches!(self, Value::Map(map) if map.is_empty())
    }

    /// Each text with its path, sorted by name on each level; the path of a lone text is empty.
    pub fn leaves(&self) -> Vec<(String, &str)> {
        let mut leaves = Vec::new();
        self.collect("", &mut leaves);
        leaves
    }

    fn collect<'a>(&'a self, path: &str, leaves: &mut Vec<(String, &'a str)>) {
        match self {
            Value::Text(text) => leaves.push((path.to_owned(), text)),
            Value::Map(map) => map.iter().for_each(|(name, value)| value.collect(&format!("{path}/{name}"), leaves)),
        }
    }
}

/// The names in a path. Empty ones do not count.
pub fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// A path, written one way.
pub fn normal(path: &str) -> String {
    names(path).fold(String::new(), |path, name| path + "/" + name)
}

/// A name, with what is below it.
#[derive(Debug, Default)]
pub struct Node {
    value: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Node {
    /// The node of a name right below.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.get(name)
    }

    /// What is right below.
    pub fn children(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.children.iter()
    }

    /// Its own value, if nothing is below it.
    pub fn leaf(&self) -> Option<&str> {
        self.value.as_deref().filter(|_| self.children.is_empty())
    }

    /// All of it. Folders without anything in them are left out.
    pub fn value(&self) -> Value {
        if let Some(text) = self.leaf() {
            return Value::Text(text.to_owned());
        }
        let seen =
            |(name, node): (&String, &Node)| Some((name.clone(), node.value())).filter(|(_, v)| !v.is_empty_map());
        Value::Map(self.children.iter().filter_map(seen).collect())
    }

    fn is_nothing(&self) -> bool {
        self.value.is_none() && self.children.is_empty()
    }

    fn set(&mut self, mut path: std::slice::Iter<'_, &str>, value: Option<String>) -> bool {
        let Some(name) = path.next() else {
            let is_new = self.value != value;
            self.value = value;
            return is_new;
        };
        if value.is_none() && !self.children.contains_key(*name) {
            return false;
        }
        let child = self.children.entry((*name).to_owned()).or_default();
        let is_new = child.set(path, value);
        if child.is_nothing() {
            self.children.remove(*name);
        }
        is_new
    }
}

/// The tree.
#[derive(Debug, Default)]
pub struct Tree(Node);

impl Tree {
    /// The root.
    pub fn root(&self) -> &Node {
        &self.0
    }

    /// Sets or removes a value. Says whether that changed anything; what is set at the root is not kept.
    pub fn set(&mut self, path: &str, value: Option<String>) -> bool {
        let names: Vec<&str> = names(path).collect();
        if names.is_empty() || names.len() > DEPTH_MAX {
            return false;
        }
        self.0.set(names.iter(), value)
    }

    /// What is at a path. An empty folder is nothing, but for the root.
    pub fn get(&self, path: &str) -> Option<Value> {
        let node = names(path).try_fold(&self.0, |node, name| node.child(name))?;
        Some(node.value()).filter(|value| !value.is_empty_map() || names(path).next().is_none())
    }

    /// Every path with a value, also those that readers do not see for what is below them.
    pub fn paths(&self) -> Vec<String> {
        fn walk(node: &Node, path: &str, paths: &mut Vec<String>) {
            if node.value.is_some() {
                paths.push(path.to_owned());
            }
            node.children.iter().for_each(|(name, child)| walk(child, &format!("{path}/{name}"), paths));
        }
        let mut paths = Vec::new();
        walk(&self.0, "", &mut paths);
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tree: &mut Tree, path: &str, value: &str) -> bool {
        tree.set(path, Some(value.to_owned()))
    }

    #[test]
    fn a_name_may_have_a_value_and_names_below() {
        let mut tree = Tree::default();
        assert!(set(&mut tree, "/a/b", "1") && !set(&mut tree, "a//b/", "1"), "the same path, the same value");
        assert!(set(&mut tree, "/a", "x"));
        assert_eq!(tree.get("/a").expect("there").leaves(), [("/b".to_owned(), "1")]);
        assert!(tree.set("/a/b", None));
        assert_eq!(tree.get("/a"), Some(Value::Text("x".to_owned())), "seen when nothing is below");
        assert!(tree.set("/a", None) && !tree.set("/a", None));
        assert_eq!((tree.get("/a"), tree.get("/")), (None, Some(Value::empty())));
    }

    #[test]
    fn no_key_is_too_deep_for_a_stack() {
        let mut tree = Tree::default();
        assert!(!set(&mut tree, &"/a".repeat(700_000), "1"));
        assert!(set(&mut tree, &"/a".repeat(DEPTH_MAX), "1"));
        assert!(!set(&mut tree, "/", "1"));
        assert_eq!(tree.paths(), ["/a".repeat(DEPTH_MAX)]);
    }
}
