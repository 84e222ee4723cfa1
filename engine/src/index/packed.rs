//! A short sorted row of byte strings in one allocation: the separators of a node.

use std::ops::Range;

use super::heads::{Heads, reserve};

/// Sorted byte strings, end to end.
#[derive(Debug, Default)]
pub struct PackedKeys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    heads: Heads,
}

impl PackedKeys {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        get(&self.bytes, &self.ends, index)
    }

    /// Number of strings not above `key`.
    #[inline]
    pub fn count_up_to(&self, key: &[u8]) -> usize {
        match self.heads.search(key, |index| self.get(index)) {
            Ok(index) => index + 1,
            Err(index) => index,
        }
    }

    /// Inserts `key` at `index`.
    pub fn insert(&mut self, index: usize, key: &[u8]) {
        let Self { bytes, ends, heads } = self;
        heads.insert(index, key, |index| get(bytes, ends, index));
        let start = if index == 0 { 0 } else { ends[index - 1] as usize };
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        assert!(bytes.len() + key.len() <= u32::MAX as usize, "a row is split long before 4 GiB");
        reserve(bytes, key.len());
        reserve(ends, 1);
        bytes.extend_from_slice(key);
        bytes[start..].rotate_right(key.len());
        ends.insert(index, start as u32);
        ends[index..].iter_mut().for_each(|end| *end += len);
    }

    /// Removes the string at `index`.
    pub fn remove(&mut self, index: usize) {
        let span = span(&self.ends, index);
        let len = span.len() as u32;
        self.heads.remove(index);
        self.bytes.drain(span);
        self.ends.remove(index);
        self.ends[index..].iter_mut().for_each(|end| *end -= len);
    }

    /// Removes the separator before the child at `index`, or the one after it if it is the first. There may be none.
    pub fn remove_beside(&mut self, index: usize) {
        if self.len() > 0 {
            self.remove(index.saturating_sub(1));
        }
    }

    /// Moves the strings from `index` on into a row of their own.
    pub fn split_off(&mut self, index: usize) -> Self {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let bytes = self.bytes.split_off(start as usize);
        let mut ends = self.ends.split_off(index);
        ends.iter_mut().for_each(|end| *end -= start);
        let mut right = Self { bytes, ends, heads: Heads::default() };
        self.rebuild();
        right.rebuild();
        right
    }

    fn rebuild(&mut self) {
        let Self { bytes, ends, heads } = self;
        heads.rebuild(ends.len(), |index| get(bytes, ends, index));
    }

    /// Memory behind the row.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>() + self.heads.heap_bytes()
    }
}

#[inline]
fn span(ends: &[u32], index: usize) -> Range<usize> {
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    start..ends[index] as usize
}

#[inline]
fn get<'k>(bytes: &'k [u8], ends: &[u32], index: usize) -> &'k [u8] {
    &bytes[span(ends, index)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_sorted_vector() {
        let words = ["m", "", "zebra", "a", "ab", "mm", "ma", "b", "y"];
        let (mut packed, mut model) = (PackedKeys::default(), Vec::<&[u8]>::new());
        let same = |packed: &PackedKeys, model: &[&[u8]]| {
            assert_eq!((0..packed.len()).map(|index| packed.get(index)).collect::<Vec<_>>(), model);
        };
        for word in words.map(str::as_bytes) {
            let at = packed.count_up_to(word);
            assert_eq!(Err(at), model.binary_search(&word));
            packed.insert(at, word);
            model.insert(at, word);
            same(&packed, &model);
            assert_eq!(packed.count_up_to(word), at + 1);
        }
        let mut tail = packed.split_off(4);
        same(&packed, &model[..4]);
        same(&tail, &model[4..]);
        assert_eq!((tail.count_up_to(b""), tail.count_up_to(b"zz")), (0, 5));
        for (beside, removed) in [(0, 0), (2, 1), (1, 0)] {
            tail.remove_beside(beside);
            model.remove(4 + removed);
            same(&tail, &model[4..]);
        }
        PackedKeys::default().remove_beside(0);
    }
}
