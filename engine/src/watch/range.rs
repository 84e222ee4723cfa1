//! The keys that a watcher wants, in etcd's `key` / `range_end` convention.
//!
//! Invariant: a range holds at least one key.

use std::cmp::Ordering;

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
    Before(Box<[u8]>),
    Open,
}

impl KeyRange {
    /// `None` if the range is empty. An empty key stands for the smallest one, an end of one zero byte for no end.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let start = if key.is_empty() { &[0][..] } else { key };
        let end = match range_end {
            [] => End::Point,
            [0] => End::Open,
            end if start < end => End::Before(end.into()),
            _ => return None,
        };
        Some(Self { start: start.into(), end })
    }

    pub(super) fn is_point(&self) -> bool {
        self.end == End::Point
    }

    pub(super) fn start(&self) -> &[u8] {
        &self.start
    }

    /// Whether the range, which must not be a point, ends at or before `key`.
    #[inline]
    pub(super) fn ends_by(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Before(end) => **end <= *key,
            End::Open => false,
            End::Point => unreachable!("single keys are not kept as intervals"),
        }
    }

    /// Compares where two ranges end; no end is the greatest.
    pub(super) fn cmp_end(&self, other: &Self) -> Ordering {
        match (&self.end, &other.end) {
            (End::Before(a), End::Before(b)) => a.cmp(b),
            (End::Open, End::Open) => Ordering::Equal,
            (End::Open, _) => Ordering::Greater,
            (_, End::Open) => Ordering::Less,
            (End::Point, _) | (_, End::Point) => unreachable!("single keys are not kept as intervals"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_wire_convention() {
        assert!(KeyRange::new(b"a", b"").unwrap().is_point());
        assert_eq!(KeyRange::new(b"", b"").unwrap().start(), [0]);
        assert!(!KeyRange::new(b"z", b"\0").unwrap().ends_by(b"\xff\xff"));
        assert!(KeyRange::new(b"b", b"b").is_none());
        assert!(KeyRange::new(b"b", b"a").is_none());
        assert!(KeyRange::new(b"", b"\0\0").is_some());
        let prefix = KeyRange::new(b"a", b"b").unwrap();
        assert!(!prefix.ends_by(b"azzz"));
        assert!(prefix.ends_by(b"b"));
        assert_eq!(prefix.cmp_end(&KeyRange::new(b"x", b"\0").unwrap()), Ordering::Less);
    }
}
