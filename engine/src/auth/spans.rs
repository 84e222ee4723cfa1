//! Parts of the key space as sorted, disjoint intervals: what a user may read, and what it may write.

use super::tree::Tree;

/// Where an interval ends. Above every key comes the open end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    Before(Vec<u8>),
    Open,
}

impl End {
    /// The end of a range as requests give it: empty for the one key, `\0` for none.
    pub fn of(key: &[u8], range_end: &[u8]) -> End {
        match range_end {
            [] => End::Before([key, &[0]].concat()),
            [0] => End::Open,
            end => End::Before(end.to_vec()),
        }
    }
}

/// Intervals that neither overlap nor touch, in order; and how they came, for ranges that hold no key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spans {
    merged: Vec<(Vec<u8>, End)>,
    came: Tree,
}

impl Spans {
    /// The union of ranges, given as key and end. Inverted ones are empty.
    pub fn union<'a>(ranges: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Spans {
        let mut all: Vec<(Vec<u8>, End)> = ranges.map(|(key, end)| (key.to_vec(), End::of(key, end))).collect();
        all.retain(|(start, end)| *end > End::Before(start.clone()));
        let came = Tree::grown(all.iter().cloned());
        all.sort();
        let mut merged: Vec<(Vec<u8>, End)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match merged.last_mut() {
                Some((_, before)) if *before >= End::Before(start.clone()) => {
                    if *before < end {
                        *before = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Spans { merged, came }
    }

    /// Whether a whole range lies inside; of an inverted one, what etcd says.
    pub fn cover(&self, key: &[u8], range_end: &[u8]) -> bool {
        if !matches!(range_end, [] | [0]) && range_end <= key {
            return self.came.finds(key, range_end);
        }
        let after = self.merged.partition_point(|(start, _)| start.as_slice() <= key);
        let Some((_, end)) = after.checked_sub(1).map(|at| &self.merged[at]) else { return false };
        *end >= End::of(key, range_end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(0xff)], 0..3)
    }

    /// Whether one range holds one key.
    fn holds((key, end): &(Vec<u8>, Vec<u8>), point: &[u8]) -> bool {
        match end.as_slice() {
            [] => point == key,
            [0] => point >= key.as_slice(),
            end => point >= key.as_slice() && point < end,
        }
    }

    proptest! {
        /// What is granted changes only where a range begins or ends, or right behind a single key: so a range is covered if
        /// its key and all such places in it are granted.
        #[test]
        fn agrees_with_looking_at_every_place(
            ranges in prop::collection::vec((word(), word()), 0..6),
            key in word(),
            end in word(),
        ) {
            let spans = Spans::union(ranges.iter().map(|(key, end)| (&key[..], &end[..])));
            let behind = |key: &[u8]| [key, &[0]].concat();
            let mut places = vec![key.clone(), vec![0xff; 9]];
            for (key, end) in &ranges {
                places.extend([key.clone(), end.clone(), behind(key)]);
            }
            let asked = (key.clone(), end.clone());
            let is_inverted = !end.is_empty() && end != [0] && end <= key;
            let inside = |place: &Vec<u8>| *place == key || holds(&asked, place);
            let granted = |place: &Vec<u8>| ranges.iter().any(|range| holds(range, place));
            if is_inverted {
                // Which of those that hold its key are found is the tree's matter.
                prop_assert!(!spans.cover(&key, &end) || granted(&key), "{:?} of {:?}", asked, ranges);
                return Ok(());
            }
            let expected = places.iter().filter(|place| inside(place)).all(granted);
            prop_assert_eq!(spans.cover(&key, &end), expected, "{:?} of {:?}", asked, ranges);
        }
    }

    #[test]
    fn grants_that_touch_are_one() {
        let spans = Spans::union([(&b"a"[..], &b"b"[..]), (b"b", b"\0")].into_iter());
        assert!(spans.cover(b"a", b"\0") && spans.cover(b"a1", b"zz") && !spans.cover(b"A", b"\0"));
        assert!(
            !Spans::union([(&b"a"[..], &b"zzz"[..])].into_iter()).cover(b"a", b"\0"),
            "only an open grant reaches it"
        );
    }
}
