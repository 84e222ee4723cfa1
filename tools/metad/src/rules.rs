//! Who may read what: rules by path, and a tree read under them.
//!
//! `*` stands for any name of one level; a rule for the exact name wins over it. The deepest rule on the way decides for
//! what is below. A forbidden folder may be entered where a rule for something below it exists, and shows only what may
//! be read. Without any rule nothing is.

use crate::tree::{Node, Value, names};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A rule as the management API takes and keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    #[serde(default)]
    pub path: String,
    /// 1: read; 0: forbidden; -1: says nothing.
    #[serde(default)]
    pub mode: i64,
}

/// Looks at rules that somebody wants to set.
///
/// # Errors
/// In words for whoever set them.
pub fn check(rules: &[Rule]) -> Result<(), String> {
    let mut paths = BTreeSet::new();
    for rule in rules {
        if !(-1..=1).contains(&rule.mode) {
            return Err(format!("Invalid AccessMode [{}]", rule.mode));
        }
        if !paths.insert(crate::tree::normal(&rule.path)) {
            return Err(format!("AccessRule path [{}] repeat define.", rule.path));
        }
    }
    Ok(())
}

/// The rules of one client, by path.
#[derive(Debug, Default)]
pub struct Access {
    /// What the rule for this path says: whether it may be read.
    may_read: Option<bool>,
    below: BTreeMap<String, Access>,
}

impl Access {
    /// From rules; of two for one path, the last counts.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Access {
        let mut root = Access::default();
        for rule in rules {
            // A rule deeper than any key is about nothing.
            if names(&rule.path).count() <= crate::tree::DEPTH_MAX {
                let node =
                    names(&rule.path).fold(&mut root, |node, name| node.below.entry(name.to_owned()).or_default());
                node.may_read = (rule.mode >= 0).then_some(rule.mode == 1);
            }
        }
        root
    }

    /// Each path may be read.
    pub fn read<'a>(paths: impl IntoIterator<Item = &'a str>) -> Access {
        let rules: Vec<Rule> = paths.into_iter().map(|path| Rule { path: path.to_owned(), mode: 1 }).collect();
        Access::new(&rules)
    }

    fn child(&self, name: &str) -> Option<&Access> {
        self.below.get(name).or_else(|| self.below.get("*"))
    }
}

/// A place in a tree, as a client may see it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    node: &'a Node,
    rules: Option<&'a Access>,
    may_read: bool,
}

impl<'a> View<'a> {
    /// The root.
    pub fn new(root: &'a Node, access: &'a Access) -> View<'a> {
        View { node: root, rules: Some(access), may_read: access.may_read == Some(true) }
    }

    /// What is at a path from here, if it may be entered.
    pub fn enter(self, path: &str) -> Option<View<'a>> {
        names(path).try_fold(self, |view, name| view.child(name))
    }

    fn child(self, name: &str) -> Option<View<'a>> {
        let node = self.node.child(name)?;
        let rules = self.rules.and_then(|rules| rules.child(name));
        let may_read = rules.and_then(|rules| rules.may_read).unwrap_or(self.may_read);
        let has_rules_below = rules.is_some_and(|rules| !rules.below.is_empty());
        (may_read || has_rules_below).then_some(View { node, rules, may_read })
    }

    /// What is here, without what may not be read. Nothing where the value itself may not be.
    pub fn value(self) -> Option<Value> {
        if let Some(text) = self.node.leaf() {
            return self.may_read.then(|| Value::Text(text.to_owned()));
        }
        let seen = self.node.children().filter_map(|(name, _)| {
            let value = self.child(name)?.value().filter(|value| !value.is_empty_map())?;
            Some((name.clone(), value))
        });
        Some(Value::Map(seen.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        for cluster in ["cl-1", "cl-2"] {
            for (path, value) in [("env/name", "app"), ("env/secret", "123456"), ("public_key", "pk")] {
                tree.set(&format!("/clusters/{cluster}/{path}"), Some(format!("{cluster}-{value}")));
            }
        }
        tree.set("/other", Some("x".to_owned()));
        tree
    }

    fn access(rules: &[(&str, i64)]) -> Access {
        let rules: Vec<Rule> =
            rules.iter().map(|(path, mode)| Rule { path: (*path).to_owned(), mode: *mode }).collect();
        Access::new(&rules)
    }

    fn seen(tree: &Tree, access: &Access, path: &str) -> Option<Vec<String>> {
        let value = View::new(tree.root(), access).enter(path)?.value()?;
        Some(value.leaves().into_iter().map(|(path, text)| format!("{path}={text}")).collect())
    }

    #[test]
    fn the_deepest_rule_decides_and_exact_names_win() {
        let (tree, rules) = (tree(), [("/", 0), ("/clusters", 1), ("/clusters/*/env", 0), ("/clusters/cl-1", 1)]);
        let access = access(&rules);
        let all = seen(&tree, &access, "/").expect("entered");
        let wanted = ["/clusters/cl-1/env/name=cl-1-app", "/clusters/cl-1/env/secret=cl-1-123456"];
        assert_eq!(all[..2], wanted);
        assert_eq!(all[2..], ["/clusters/cl-1/public_key=cl-1-pk", "/clusters/cl-2/public_key=cl-2-pk"]);
        assert_eq!(seen(&tree, &access, "/clusters/cl-2/env"), None);
        assert_eq!(seen(&tree, &access, "/other"), None);
    }

    #[test]
    fn a_forbidden_folder_shows_what_may_be_read_below() {
        let tree = tree();
        let access = access(&[("/clusters/cl-2/env/name", 1)]);
        assert_eq!(seen(&tree, &access, "/").expect("entered"), ["/clusters/cl-2/env/name=cl-2-app"]);
        assert_eq!(seen(&tree, &access, "/clusters/cl-2/public_key"), None);
        assert_eq!(seen(&tree, &Access::default(), "/").expect("entered"), [""; 0]);
        assert_eq!(seen(&tree, &Access::read(["/other"]), "/"), Some(vec!["/other=x".to_owned()]));
    }

    #[test]
    fn a_value_with_rules_below_it_stays_forbidden() {
        let tree = tree();
        assert_eq!(seen(&tree, &access(&[("/other/deeper", 1)]), "/other"), None);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let rule = |path: &str, mode| Rule { path: path.to_owned(), mode };
        assert_eq!(check(&[rule("/a", 2)]), Err("Invalid AccessMode [2]".to_owned()));
        assert_eq!(check(&[rule("/a", 1), rule("/a/", 0)]), Err("AccessRule path [/a/] repeat define.".to_owned()));
        assert_eq!(check(&[rule("/a", 1), rule("/b", -1)]), Ok(()));
    }
}
