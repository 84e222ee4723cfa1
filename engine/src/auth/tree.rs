//! The shape of etcd's interval tree, for the one question that it decides: a range that ends before it begins.
//!
//! Such a range holds no key. etcd still looks for intervals that overlap it, and its search takes "left of" and "right of"
//! for granted in a way that only holds for proper ranges: an interval counts if the range's key lies in it, but what hangs
//! below an interval that ends before that key and begins at the range's end or behind is passed over. So the answer depends
//! on how the tree has grown, and the tree is grown here in the same way: intervals come in the order of roles and of
//! permissions in them, into a red-black tree (Cormen et al., Introduction to Algorithms, 13.3).
//!
//! Invariants: nodes are never taken away; children are sorted by begin, then by end; no red node has a red parent.

use super::spans::End;

/// No node.
const NONE: usize = usize::MAX;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    begin: Vec<u8>,
    end: End,
    parent: usize,
    /// Left and right.
    children: [usize; 2],
    is_red: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Tree { nodes: Vec::new(), root: NONE }
    }
}

impl Tree {
    /// Of these intervals, in the order in which they come.
    pub fn grown(intervals: impl Iterator<Item = (Vec<u8>, End)>) -> Tree {
        let mut tree = Tree::default();
        intervals.for_each(|(begin, end)| tree.insert(begin, end));
        tree
    }

    /// Whether etcd's search finds an interval for a range from `key` to `range_end`, which is not behind it.
    pub fn finds(&self, key: &[u8], range_end: &[u8]) -> bool {
        debug_assert!(range_end <= key, "other ranges are asked of the spans");
        let is_before = |end: &End| *end <= End::Before(key.to_vec());
        let mut waiting = vec![self.root];
        while let Some(at) = waiting.pop() {
            let Some(node) = self.nodes.get(at) else { continue };
            let [left, right] = node.children;
            if key < node.begin.as_slice() {
                waiting.push(left);
            } else if !is_before(&node.end) {
                return true;
            } else if node.begin.as_slice() < range_end {
                waiting.extend([left, right]);
            }
        }
        false
    }

    fn insert(&mut self, begin: Vec<u8>, end: End) {
        let (mut parent, mut side, mut at) = (NONE, 0, self.root);
        while at != NONE {
            let node = &self.nodes[at];
            side = usize::from((&begin, &end) >= (&node.begin, &node.end));
            (parent, at) = (at, node.children[side]);
        }
        let new = self.nodes.len();
        self.nodes.push(Node { begin, end, parent, children: [NONE; 2], is_red: true });
        if parent == NONE {
            self.root = new
        } else {
            self.nodes[parent].children[side] = new
        }
        self.mend(new);
    }

    fn is_red(&self, at: usize) -> bool {
        self.nodes.get(at).is_some_and(|node| node.is_red)
    }

    /// Makes it a red-black tree again after a red node has come.
    fn mend(&mut self, mut at: usize) {
        while self.is_red(self.nodes[at].parent) {
            let mut parent = self.nodes[at].parent;
            // A red node has a parent: the root is black.
            let above = self.nodes[parent].parent;
            let side = self.side(parent);
            let uncle = self.nodes[above].children[1 - side];
            if self.is_red(uncle) {
                (self.nodes[uncle].is_red, self.nodes[parent].is_red, self.nodes[above].is_red) = (false, false, true);
                at = above;
                continue;
            }
            if self.side(at) != side {
                at = parent;
                self.rotate(at, side);
                parent = self.nodes[at].parent;
            }
            (self.nodes[parent].is_red, self.nodes[above].is_red) = (false, true);
            self.rotate(above, 1 - side);
        }
        let root = self.root;
        self.nodes[root].is_red = false;
    }

    /// Of which side a node is of its parent, which it has.
    fn side(&self, at: usize) -> usize {
        usize::from(self.nodes[self.nodes[at].parent].children[1] == at)
    }

    /// Moves a node down to `side` of its child of the other side, which takes its place.
    fn rotate(&mut self, down: usize, side: usize) {
        let up = self.nodes[down].children[1 - side];
        let between = self.nodes[up].children[side];
        let parent = self.nodes[down].parent;
        self.nodes[down].children[1 - side] = between;
        if between != NONE {
            self.nodes[between].parent = down;
        }
        if parent == NONE {
            self.root = up;
        } else {
            let place = self.side(down);
            self.nodes[parent].children[place] = up;
        }
        self.nodes[up].parent = parent;
        self.nodes[up].children[side] = down;
        self.nodes[down].parent = up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(ranges: &[(&str, &str)]) -> Tree {
        Tree::grown(ranges.iter().map(|(key, end)| (key.as_bytes().to_vec(), End::of(key.as_bytes(), end.as_bytes()))))
    }

    #[test]
    fn an_interval_counts_if_the_key_lies_in_it() {
        let grants = [("a", "c"), ("k/", "k0")];
        assert!(tree(&grants).finds(b"b", b"a") && tree(&grants).finds(b"b", b"A") && tree(&grants).finds(b"a", b"a"));
        assert!(!tree(&grants).finds(b"c", b"a") && !tree(&grants).finds(b"z", b"b"));
        assert!(!tree(&[]).finds(b"b", b"a"));
    }

    /// The same grants in another order are another tree.
    #[test]
    fn what_hangs_below_one_that_is_passed_over_is_not_found() {
        assert!(!tree(&[("b", ""), ("d", "f")]).finds(b"e", b"a"), "the root ends before e, and begins behind a");
        assert!(tree(&[("d", "f"), ("b", "")]).finds(b"e", b"a"), "the root holds e");
        assert!(tree(&[("b", ""), ("d", "f")]).finds(b"e", b"c"), "the root begins before c");
    }

    proptest! {
        #[test]
        fn it_stays_a_red_black_tree(begins in prop::collection::vec(0u8..40, 0..60)) {
            let tree = Tree::grown(begins.iter().map(|begin| (vec![*begin], End::of(&[*begin], b""))));
            let (mut waiting, mut seen, mut blacks) = (vec![(tree.root, 0)], 0, None);
            while let Some((at, above)) = waiting.pop() {
                let Some(node) = tree.nodes.get(at) else {
                    prop_assert_eq!(*blacks.get_or_insert(above), above, "as many black ones on each way");
                    continue;
                };
                seen += 1;
                prop_assert!(!(node.is_red && tree.is_red(node.parent)), "two red ones");
                let [left, right] = node.children.map(|child| tree.nodes.get(child));
                prop_assert!(left.is_none_or(|left| left.begin <= node.begin));
                prop_assert!(right.is_none_or(|right| right.begin >= node.begin));
                waiting.extend(node.children.map(|child| (child, above + usize::from(!node.is_red))));
            }
            prop_assert_eq!(seen, begins.len());
        }
    }
}
