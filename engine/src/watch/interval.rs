//! Intervals of keys, asked for all that hold a given key.
//!
//! A treap ordered by (start, end, class); every node knows which node of its subtree ends last, so that a query skips
//! subtrees that end before the key: `O(log n)` expected for a key that no interval holds, plus `O(log n)` for each that
//! does, whatever the shape of the intervals. Why not a table of prefixes by length: ranges need not be prefixes, and a
//! client may choose thousands of lengths. Why not boundaries with sets of watchers: one wide range over many narrow ones
//! would cost an update of each.
//!
//! Priorities come from a seeded generator, so that no choice of keys unbalances the tree.
//!
//! Invariants: an interval with its class is in the tree at most once; parents have priorities not below their children.

use std::cmp::Ordering;
use std::rc::Rc;

use super::range::KeyRange;

const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    range: Rc<KeyRange>,
    class: u8,
    payload: u32,
    priority: u32,
    left: u32,
    right: u32,
    /// The node of this subtree that ends last.
    last_end: u32,
}

/// A set of intervals, each with a payload.
#[derive(Debug)]
pub(super) struct IntervalTree {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    root: u32,
    len: usize,
    random: SplitMix,
}

impl IntervalTree {
    pub(super) fn new(seed: u64) -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NIL, len: 0, random: SplitMix(seed) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn node(&self, at: u32) -> &Node {
        self.nodes[at as usize].as_ref().expect("links lead to nodes")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        self.nodes[at as usize].as_mut().expect("links lead to nodes")
    }

    fn compare(&self, at: u32, range: &KeyRange, class: u8) -> Ordering {
        let node = self.node(at);
        let by_start = node.range.start().cmp(range.start());
        by_start.then_with(|| node.range.cmp_end(range)).then(node.class.cmp(&class))
    }

    /// The payload of an interval.
    pub(super) fn get(&self, range: &KeyRange, class: u8) -> Option<u32> {
        let mut at = self.root;
        while at != NIL {
            at = match self.compare(at, range, class) {
                Ordering::Equal => return Some(self.node(at).payload),
                Ordering::Less => self.node(at).right,
                Ordering::Greater => self.node(at).left,
            };
        }
        None
    }

    /// Adds an interval that is not in the tree.
    pub(super) fn insert(&mut self, range: Rc<KeyRange>, class: u8, payload: u32) {
        assert!(self.get(&range, class).is_none(), "an interval is in the tree once");
        let (left, right) = self.split(self.root, &range, class);
        let priority = self.random.next() as u32;
        let node = Node { range, class, payload, priority, left: NIL, right: NIL, last_end: NIL };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = Some(node);
                at
            }
            None => {
                self.nodes.push(Some(node));
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 intervals")
            }
        };
        self.refresh(at);
        let left = self.merge(left, at);
        self.root = self.merge(left, right);
        self.len += 1;
    }

    /// Takes an interval out of the tree.
    pub(super) fn remove(&mut self, range: &KeyRange, class: u8) {
        self.root = self.remove_below(self.root, range, class);
        self.len -= 1;
    }

    fn remove_below(&mut self, at: u32, range: &KeyRange, class: u8) -> u32 {
        assert!(at != NIL, "only intervals of the tree are removed");
        let (left, right) = (self.node(at).left, self.node(at).right);
        match self.compare(at, range, class) {
            Ordering::Equal => {
                self.nodes[at as usize] = None;
                self.free.push(at);
                return self.merge(left, right);
            }
            Ordering::Less => self.node_mut(at).right = self.remove_below(right, range, class),
            Ordering::Greater => self.node_mut(at).left = self.remove_below(left, range, class),
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
            if self.node(node.last_end).range.ends_by(key) {
                return;
            }
            if node.left != NIL {
                self.stab_below(node.left, key, visit);
            }
            if node.range.start() > key {
                return;
            }
            if !node.range.ends_by(key) {
                visit(node.payload);
            }
            if node.right == NIL {
                return;
            }
            at = node.right;
        }
    }

    /// Everything before the given interval, and the rest.
    fn split(&mut self, at: u32, range: &KeyRange, class: u8) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        let parts = if self.compare(at, range, class) == Ordering::Less {
            let (near, far) = self.split(self.node(at).right, range, class);
            self.node_mut(at).right = near;
            (at, far)
        } else {
            let (far, near) = self.split(self.node(at).left, range, class);
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
        let mut last = at;
        for child in [self.node(at).left, self.node(at).right] {
            if child != NIL {
                let other = self.node(child).last_end;
                if self.node(other).range.cmp_end(&self.node(last).range) == Ordering::Greater {
                    last = other;
                }
            }
        }
        self.node_mut(at).last_end = last;
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
            for child in [node.left, node.right] {
                assert!(child == NIL || self.node(child).priority <= node.priority);
            }
            1 + self.check(node.left) + self.check(node.right)
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 1..4)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (key(), prop_oneof![3 => key(), 1 => Just(vec![0])])
            .prop_filter_map("empty or a point", |(key, end)| KeyRange::new(&key, &end).filter(|r| !r.is_point()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn agrees_with_a_list(
            ops in prop::collection::vec((any::<bool>(), range(), 0u8..3), 1..80),
            probes in prop::collection::vec(key(), 1..20),
        ) {
            let mut tree = IntervalTree::new(7);
            let mut list: Vec<(KeyRange, u8, u32)> = Vec::new();
            for (i, (add, range, class)) in ops.into_iter().enumerate() {
                let known = list.iter().position(|(r, c, _)| *r == range && *c == class);
                prop_assert_eq!(tree.get(&range, class), known.map(|at| list[at].2));
                match (add, known) {
                    (true, None) => {
                        tree.insert(Rc::new(range.clone()), class, i as u32);
                        list.push((range, class, i as u32));
                    }
                    (false, Some(at)) => {
                        tree.remove(&range, class);
                        list.swap_remove(at);
                    }
                    _ => {}
                }
                prop_assert_eq!(tree.check(tree.root), list.len());
            }
            prop_assert_eq!(tree.is_empty(), list.is_empty());
            for probe in probes {
                let mut found = Vec::new();
                tree.stab(&probe, &mut |payload| found.push(payload));
                found.sort_unstable();
                let holds = |r: &KeyRange| r.start() <= &probe[..] && !r.ends_by(&probe);
                let mut expected: Vec<u32> = list.iter().filter(|(r, ..)| holds(r)).map(|&(.., p)| p).collect();
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
            let key = i.to_be_bytes();
            tree.insert(Rc::new(KeyRange::new(&key, &(i + 1).to_be_bytes()).unwrap()), 0, i);
        }
        assert!(depth(&tree, tree.root) < 50);
    }
}
