//! The keys that a watcher wants, in etcd's `key` / `range_end` convention.
//!
//! Invariant: a range holds at least one key.

use std::cmp::Ordering;
use std::rc::Rc;

/// A single key, `[start, end)`, or everything from `start` on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyRange {
    start: Box<[u8]>,
    end: End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    /// Only `start` itself.
    Point,
    /// Exactly the keys that begin with `start`.
    Prefix,
    Bound(Bound),
}

/// Where an interval ends: before a key, or nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    Before(Rc<[u8]>),
    Open,
}

impl Bound {
    /// Whether all keys before the bound are before `key`, too, and `key` is not.
    #[inline]
    pub(super) fn is_reached_by(&self, key: &[u8]) -> bool {
        match self {
            Bound::Before(end) => **end <= *key,
            Bound::Open => false,
        }
    }
}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By what lies before the bound; no bound is the greatest.
impl Ord for Bound {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Bound::Before(a), Bound::Before(b)) => a.cmp(b),
            (Bound::Open, Bound::Open) => Ordering::Equal,
            (Bound::Open, _) => Ordering::Greater,
            (_, Bound::Open) => Ordering::Less,
        }
    }
}

/// How a range is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape<'a> {
    Point,
    Prefix,
    Interval(&'a Bound),
}

impl KeyRange {
    /// `None` if the range is empty. An empty key stands for the smallest one, an end of one zero byte for no end.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let start = if key.is_empty() { &[0][..] } else { key };
        let end = match range_end {
            [] => End::Point,
            [0] => End::Bound(Bound::Open),
            end if ends_prefix(start, end) => End::Prefix,
            end if start < end => End::Bound(Bound::Before(end.into())),
            _ => return None,
        };
        Some(Self { start: start.into(), end })
    }

    pub(super) fn start(&self) -> &[u8] {
        &self.start
    }

    pub(super) fn shape(&self) -> Shape<'_> {
        match &self.end {
            End::Point => Shape::Point,
            End::Prefix => Shape::Prefix,
            End::Bound(bound) => Shape::Interval(bound),
        }
    }
}

/// Whether `[prefix, end)` is what begins with `prefix`: `end` is `prefix` up to the last byte that can be incremented,
/// with that byte incremented.
fn ends_prefix(prefix: &[u8], end: &[u8]) -> bool {
    let Some(at) = prefix.iter().rposition(|&byte| byte != 0xff) else { return false };
    end.len() == at + 1 && end[..at] == prefix[..at] && end[at] == prefix[at] + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_wire_convention() {
        assert_eq!(KeyRange::new(b"a", b"").unwrap().shape(), Shape::Point);
        assert_eq!(KeyRange::new(b"", b"").unwrap().start(), [0]);
        assert_eq!(KeyRange::new(b"z", b"\0").unwrap().shape(), Shape::Interval(&Bound::Open));
        assert!(KeyRange::new(b"b", b"b").is_none());
        assert!(KeyRange::new(b"b", b"a").is_none());
        assert!(KeyRange::new(b"", b"\0\0").is_some());
    }

    #[test]
    fn prefixes_are_recognised() {
        let cases: [(&[u8], &[u8], bool); 8] = [
            (b"a", b"b", true),
            (b"a/", b"a0", true),
            (b"a\xff", b"b", true),
            (b"a\xff\xff", b"b", true),
            (b"a", b"c", false),
            (b"a/", b"b", false),
            (b"a", b"b\0", false),
            (b"\xff", b"\xff\xff", false),
        ];
        for (key, end, is_prefix) in cases {
            let range = KeyRange::new(key, end).unwrap();
            assert_eq!(range.shape() == Shape::Prefix, is_prefix, "{range:?}");
        }
    }

    #[test]
    fn bounds_order_and_end_intervals() {
        let bound = |key: &[u8]| Bound::Before(key.into());
        assert!(bound(b"a") < bound(b"b") && bound(b"\xff") < Bound::Open);
        assert!(bound(b"b").is_reached_by(b"b") && bound(b"b").is_reached_by(b"ba"));
        assert!(!bound(b"b").is_reached_by(b"azz") && !Bound::Open.is_reached_by(b"\xff"));
    }
}
