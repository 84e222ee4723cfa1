//! A change of the tree, as it is answered, remembered and told.

use crate::node::View;
use crate::path;

/// What was done. The numbers are part of the stored format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Action {
    Get = 0,
    Create = 1,
    Set = 2,
    Update = 3,
    Delete = 4,
    CompareAndSwap = 5,
    CompareAndDelete = 6,
    Expire = 7,
}

impl Action {
    /// All of them, by number.
    pub const ALL: [Action; 8] = [
        Action::Get,
        Action::Create,
        Action::Set,
        Action::Update,
        Action::Delete,
        Action::CompareAndSwap,
        Action::CompareAndDelete,
        Action::Expire,
    ];

    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Action::Get => "get",
            Action::Create => "create",
            Action::Set => "set",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::CompareAndSwap => "compareAndSwap",
            Action::CompareAndDelete => "compareAndDelete",
            Action::Expire => "expire",
        }
    }

    /// Whether a node is gone after it.
    pub fn removes(self) -> bool {
        matches!(self, Action::Delete | Action::CompareAndDelete | Action::Expire)
    }

    /// Whether an answer to it may leave the node out, if that is asked for.
    pub fn writes(self) -> bool {
        matches!(self, Action::Set | Action::CompareAndSwap | Action::Create | Action::Update)
    }
}

/// A change, or what was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What was done.
    pub action: Action,
    /// The node after it; of one that is gone, its name and indices.
    pub node: View,
    /// The node before it.
    pub prev: Option<View>,
    /// Whether only a time to live was extended, which nobody is told of.
    pub refresh: bool,
}

impl Event {
    /// The index of the change.
    pub fn index(&self) -> u64 {
        self.node.modified
    }

    /// Whether it made a node.
    pub fn is_created(&self) -> bool {
        self.action == Action::Create || (self.action == Action::Set && self.prev.is_none())
    }

    /// Whether a directory is gone after it.
    pub fn removes_dir(&self) -> bool {
        self.action.removes() && self.node.dir
    }

    /// Bytes of what it holds, for bounds.
    pub fn weight(&self) -> usize {
        self.node.weight() + self.prev.as_ref().map_or(0, View::weight)
    }

    /// Appends the JSON object and a line end. `brief`: without nodes.
    pub fn write_json(&self, out: &mut Vec<u8>, brief: bool) {
        out.extend_from_slice(b"{\"action\":\"");
        out.extend_from_slice(self.action.name().as_bytes());
        out.push(b'"');
        if !brief {
            out.extend_from_slice(b",\"node\":");
            self.node.write_json(out);
            if let Some(prev) = &self.prev {
                out.extend_from_slice(b",\"prevNode\":");
                prev.write_json(out);
            }
        }
        out.extend_from_slice(b"}\n");
    }

    /// Whether one who looks through the history from an index on, for this path, is told of it. As in etcd this is not
    /// quite what one who waits is told of: hidden nodes are shown, and a directory that is gone is found by its name's
    /// beginning.
    pub fn is_found(&self, watched: &[u8], recursive: bool) -> bool {
        if self.refresh {
            return false;
        }
        let below = recursive && path::is_below(&self.node.key, watched);
        let gone = matches!(self.action, Action::Delete | Action::Expire)
            && self.prev.as_ref().is_some_and(|prev| prev.dir)
            && watched.starts_with(&self.node.key);
        *self.node.key == *watched || below || gone
    }

    /// Whether one who waits for this path is told of it. `was_there`: whether the path was a node before.
    pub fn is_told(&self, watched: &[u8], recursive: bool, was_there: bool) -> bool {
        if self.refresh {
            return false;
        }
        let below = || recursive && path::is_below(&self.node.key, watched) && !path::hides(watched, &self.node.key);
        let gone = || was_there && self.removes_dir() && path::is_below(watched, &self.node.key);
        *self.node.key == *watched || below() || gone()
    }
}
