//! Intervals of keys, asked for all that hold a given key.
//!
//! A treap ordered by (start, end, class); every node knows where the last interval of its subtree ends, so that a query
//! skips subtrees that end before the key: `O(log n)` expected for a key that no interval holds, plus `O(log n)` for each
//! that does, whatever the shape of the intervals. Why not boundaries with the intervals between them: one wide interval
//! over many narrow ones would cost an update of each.
//!
//! Priorities come from a seeded generator, so that no choice of keys unbalances the tree.
//!
//! Invariants: an interval with its class is in the tree at most once; parents have priorities not below their children.

use std::cmp::Ordering;

use super::range::Bound;

const NIL: u32 = u32::MAX;

/// Keys are held in the node, or one step away, because a query is a walk over cold memory.
#[derive(Debug)]
struct Node {
    start: Box<[u8]>,
    end: Bound,
    /// Where the interval of this subtree ends that ends last.
    last_end: Bound,
    left: u32,
    right: u32,
    payload: u32,
    priority: u32,
    class: u8,
}

/// Start, end and class of an interval.
pub(super) type Interval<'a> = (&'a [u8], &'a Bound, u8);

/// A set of intervals, each with a payload.
#[derive(Debug)]
pub(super) struct IntervalTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    random: SplitMix,
}

impl IntervalTree {
    pub(super) fn new(seed: u64) -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NIL, random: SplitMix(seed) }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    fn compare(&self, at: u32, (start, end, class): Interval<'_>) -> Ordering {
        let node = self.node(at);
        (*node.start).cmp(start).then_with(|| node.end.cmp(end)).then(node.class.cmp(&class))
    }

    /// The payload of an interval.
    pub(super) fn get(&self, interval: Interval<'_>) -> Option<u32> {
        let mut at = self.root;
        while at != NIL {
            at = match self.compare(at, interval) {
                Ordering::Equal => return Some(self.node(at).payload),
                Ordering::Less => self.node(at).right,
                Ordering::Greater => self.node(at).left,
            };
        }
        None
    }

    /// Adds an interval that is not in the tree.
    pub(super) fn insert(&mut self, interval: Interval<'_>, payload: u32) {
        assert!(self.get(interval).is_none(), "an interval is in the tree once");
        let (start, end, class) = interval;
        let (left, right) = self.split(self.root, interval);
        let node = Node {
            start: start.into(),
            end: end.clone(),
            last_end: end.clone(),
            left: NIL,
            right: NIL,
            payload,
            priority: self.random.next() as u32,
            class,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 intervals")
            }
        };
        let left = self.merge(left, at);
        self.root = self.merge(left, right);
    }

    /// Takes an interval out of the tree.
    pub(super) fn remove(&mut self, interval: Interval<'_>) {
        self.root = self.remove_below(self.root, interval);
    }

    fn remove_below(&mut self, at: u32, interval: Interval<'_>) -> u32 {
        assert!(at != NIL, "only intervals of the tree are removed");
        let (left, right) = (self.node(at).left, self.node(at).right);
        match self.compare(at, interval) {
            Ordering::Equal => {
                self.node_mut(at).start = Box::default();
                self.free.push(at);
                return self.merge(left, right);
            }
            Ordering::Less => self.node_mut(at).right = self.remove_below(right, interval),
            Ordering::Greater => self.node_mut(at).left = self.remove_below(left, interval),
        }
        self.refresh(at);
        at
    }

    /// Calls `visit` with the payload of every interval that holds `key`.
    #[inline]
    pub(super) fn stab(&self, key: &[u8], visit: &mut impl FnMut(u32)) {
        if self.root != NIL {
            self.stab_below(self.root, key, visit);
        }
    }

    fn stab_below(&self, mut at: u32, key: &[u8], visit: &mut impl FnMut(u32)) {
        loop {
            let node = self.node(at);
            if node.last_end.is_reached_by(key) {
                return;
            }
            if node.left != NIL {
                self.stab_below(node.left, key, visit);
            }
            if *node.start > *key {
                return;
            }
            if !node.end.is_reached_by(key) {
                visit(node.payload);
            }
            if node.right == NIL {
                return;
            }
            at = node.right;
        }
    }

    /// Everything before the given interval, and the rest.
    fn split(&mut self, at: u32, interval: Interval<'_>) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        let parts = if self.compare(at, interval) == Ordering::Less {
            let (near, far) = self.split(self.node(at).right, interval);
            self.node_mut(at).right = near;
            (at, far)
        } else {
            let (far, near) = self.split(self.node(at).left, interval);
            self.node_mut(at).left = near;
            (far, at)
        };
        self.refresh(at);
        parts
    }

    /// Joins two trees; everything in `a` lies before everything in `b`.
    fn merge(&mut self, a: u32, b: u32) -> u32 {
        if a == NIL || b == NIL {
            return if a == NIL { b } else { a };
        }
        if self.node(a).priority >= self.node(b).priority {
            self.node_mut(a).right = self.merge(self.node(a).right, b);
            self.refresh(a);
            a
        } else {
            self.node_mut(b).left = self.merge(a, self.node(b).left);
            self.refresh(b);
            b
        }
    }

    /// Recomputes what a node knows about its subtree.
    fn refresh(&mut self, at: u32) {
        let node = self.node(at);
        let mut last = &node.end;
        for child in [node.left, node.right] {
            if child != NIL {
                last = last.max(&self.node(child).last_end);
            }
        }
        if *last != node.last_end {
            self.node_mut(at).last_end = last.clone();
        }
    }
}

/// A small seeded generator.
#[derive(Clone, Debug)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl IntervalTree {
        fn check(&self, at: u32) -> usize {
            if at == NIL {
                return 0;
            }
            let node = self.node(at);
            let mut last = node.end.clone();
            for child in [node.left, node.right].into_iter().filter(|&child| child != NIL) {
                assert!(self.node(child).priority <= node.priority);
                last = last.max(self.node(child).last_end.clone());
            }
            assert_eq!(node.last_end, last);
            1 + self.check(node.left) + self.check(node.right)
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 1..4)
    }

    fn interval() -> impl Strategy<Value = (Vec<u8>, Bound, u8)> {
        let bounded = (key(), key()).prop_map(|(one, other)| {
            let (start, mut end) = (one.clone().min(other.clone()), one.max(other));
            if start == end {
                end.push(0);
            }
            (start, Bound::Before(end.into()))
        });
        let ends = prop_oneof![3 => bounded, 1 => key().prop_map(|start| (start, Bound::Open))];
        (ends, 0u8..3).prop_map(|((start, end), class)| (start, end, class))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn agrees_with_a_list(
            ops in prop::collection::vec((any::<bool>(), interval()), 1..80),
            probes in prop::collection::vec(key(), 1..20),
        ) {
            let mut tree = IntervalTree::new(7);
            let mut list: Vec<(Vec<u8>, Bound, u8, u32)> = Vec::new();
            for (i, (add, (start, end, class))) in ops.into_iter().enumerate() {
                let interval = (&start[..], &end, class);
                let known = list.iter().position(|(s, e, c, _)| (&s[..], e, *c) == interval);
                prop_assert_eq!(tree.get(interval), known.map(|at| list[at].3));
                match (add, known) {
                    (true, None) => {
                        tree.insert(interval, i as u32);
                        list.push((start, end, class, i as u32));
                    }
                    (false, Some(at)) => {
                        tree.remove(interval);
                        list.swap_remove(at);
                    }
                    _ => {}
                }
                prop_assert_eq!(tree.check(tree.root), list.len());
            }
            for probe in probes {
                let mut found = Vec::new();
                tree.stab(&probe, &mut |payload| found.push(payload));
                found.sort_unstable();
                let holds = |start: &[u8], end: &Bound| start <= &probe[..] && !end.is_reached_by(&probe);
                let mut expected: Vec<u32> =
                    list.iter().filter(|(start, end, ..)| holds(start, end)).map(|&(.., payload)| payload).collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn sorted_insertion_stays_shallow() {
        fn depth(tree: &IntervalTree, at: u32) -> usize {
            if at == NIL {
                return 0;
            }
            1 + depth(tree, tree.node(at).left).max(depth(tree, tree.node(at).right))
        }
        let mut tree = IntervalTree::new(1);
        for i in 0..10_000u32 {
            let end = Bound::Before((i + 1).to_be_bytes().as_slice().into());
            tree.insert((&i.to_be_bytes(), &end, 0), i);
        }
        assert!(depth(&tree, tree.root) < 50);
    }
}
