//! A node, and what is shown of it.

use crate::json;
use crate::path;
use bytes::Bytes;

/// A key or a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Names its record. Given out in order, never again, and not shown.
    pub id: u64,
    /// Index of the change that made it.
    pub created: u64,
    /// Index of the last change of it.
    pub modified: u64,
    /// When it ends, in nanoseconds since 1970 by the cluster's time; 0 for never.
    pub deadline: i64,
    /// Its value; a directory has none.
    pub value: Option<Bytes>,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.value.is_none()
    }
}

/// Seconds until a deadline, rounded up; 0 without one.
pub fn ttl(deadline: i64, now: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    if deadline == 0 {
        return 0;
    }
    let left = deadline.saturating_sub(now);
    left / SECOND + i64::from(left % SECOND > 0)
}

/// What is shown of a node at some moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Its path, with the namespace.
    pub key: Bytes,
    /// The value of a key.
    pub value: Option<Bytes>,
    /// Whether it is a directory.
    pub dir: bool,
    /// When it ends; 0 for never.
    pub expiration: i64,
    /// Seconds until then, when this was looked at.
    pub ttl: i64,
    /// What is below it, if that was asked for.
    pub nodes: Vec<View>,
    /// Index of the last change.
    pub modified: u64,
    /// Index of its creation.
    pub created: u64,
}

impl View {
    /// A node without what is below it.
    pub fn of(key: &[u8], node: &Node, now: i64) -> View {
        View {
            key: Bytes::copy_from_slice(key),
            value: node.value.clone(),
            dir: node.is_dir(),
            expiration: node.deadline,
            ttl: ttl(node.deadline, now),
            nodes: Vec::new(),
            modified: node.modified,
            created: node.created,
        }
    }

    /// Bytes of what it holds, for bounds.
    pub fn weight(&self) -> usize {
        size_of::<View>() + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Appends the JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        self.write_json_head(out);
        if let Some((first, others)) = self.nodes.split_first() {
            View::begin_nodes(out);
            first.write_json(out);
            for node in others {
                out.push(b',');
                node.write_json(out);
            }
            out.push(b']');
        }
        self.write_json_tail(out);
    }

    /// Appends what stands before the nodes below it.
    pub(crate) fn write_json_head(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let key = path::shown(&self.key);
        if !key.is_empty() {
            field(out, "key");
            json::push_string(out, key);
        }
        if let Some(value) = &self.value {
            field(out, "value");
            json::push_string(out, value);
        }
        if self.dir {
            field(out, "dir");
            out.extend_from_slice(b"true");
        }
        if self.expiration != 0 {
            field(out, "expiration");
            json::push_string(out, json::time(self.expiration).as_bytes());
        }
        number(out, "ttl", self.ttl);
    }

    /// Begins the list of the nodes below one whose head was written.
    pub(crate) fn begin_nodes(out: &mut Vec<u8>) {
        field(out, "nodes");
        out.push(b'[');
    }

    /// Appends what stands behind the nodes below it.
    pub(crate) fn write_json_tail(&self, out: &mut Vec<u8>) {
        number(out, "modifiedIndex", self.modified.cast_signed());
        number(out, "createdIndex", self.created.cast_signed());
        out.push(b'}');
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: i64) {
    if value != 0 {
        field(out, name);
        out.extend_from_slice(value.to_string().as_bytes());
    }
}

fn field(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_rounded_up() {
        const SECOND: i64 = 1_000_000_000;
        for (left, expected) in [(SECOND, 1), (SECOND + 1, 2), (1, 1), (0, 0), (-1, 0), (-SECOND - 1, -1)] {
            assert_eq!(ttl(100 * SECOND + left, 100 * SECOND), expected, "{left}");
        }
        assert_eq!(ttl(0, 5), 0);
    }

    #[test]
    fn empty_fields_are_left_out_but_an_empty_value() {
        let mut out = Vec::new();
        let view = View {
            key: Bytes::from_static(b"/1/a"),
            value: Some(Bytes::new()),
            created: 7,
            modified: 7,
            ..View::default()
        };
        view.write_json(&mut out);
        assert_eq!(out, br#"{"key":"/a","value":"","modifiedIndex":7,"createdIndex":7}"#);
        out.clear();
        let root = View { key: Bytes::from_static(b"/1"), dir: true, nodes: vec![view], ..View::default() };
        root.write_json(&mut out);
        assert_eq!(out, br#"{"dir":true,"nodes":[{"key":"/a","value":"","modifiedIndex":7,"createdIndex":7}]}"#);
    }
}
