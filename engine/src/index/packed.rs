//! A short sorted row of byte strings, made for searching: few cache lines are touched, few bytes compared.
//!
//! ```text
//! bytes   /registry/pods/a/registry/pods/nginx-1/registry/pods/nginx-2      end to end
//! ends                   |                     |                     |
//! heads           "a"        "nginx-1"             "nginx-2"                8 bytes after the common prefix, as numbers
//! ```
//!
//! Invariants: `prefix` bytes are common to all strings (there may be more); numbers of the heads never fall, and equal
//! heads are told apart by the strings. A string that ends within its head is filled up with zeros.

use std::cmp::Ordering;
use std::ops::Range;

/// Bytes of a string that make its head.
pub const HEAD_BYTES: usize = size_of::<u64>();
/// A stretch of heads that is counted: a leaf's.
const COUNTED_MAX: usize = 64;

/// Sorted byte strings.
#[derive(Debug, Default)]
pub struct PackedKeys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    heads: Vec<u64>,
    prefix: usize,
}

impl PackedKeys {
    /// Number of strings.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Sum of the strings' lengths.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The string at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.span(index)]
    }

    #[inline]
    fn span(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        start..self.ends[index] as usize
    }

    /// Where `key` is, or where it would be inserted.
    #[inline]
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(rest) = key.strip_prefix(&self.bytes[..self.prefix]) else {
            let is_below = *key < self.bytes[..self.prefix];
            return Err(if is_below { 0 } else { self.len() });
        };
        let head = head(rest);
        let mut low = first_not_below(&self.heads, head);
        let mut high = low;
        while self.heads.get(high) == Some(&head) {
            high += 1;
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle)[self.prefix..].cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Number of strings not above `key`.
    #[inline]
    pub fn count_up_to(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(index) => index + 1,
            Err(index) => index,
        }
    }

    /// Inserts `key` at `index`.
    pub fn insert(&mut self, index: usize, key: &[u8]) {
        self.shorten_prefix(key);
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        reserve(&mut self.bytes, key.len());
        reserve(&mut self.ends, 1);
        reserve(&mut self.heads, 1);
        let tail = self.bytes.len() - start;
        self.bytes.extend_from_slice(key);
        if tail > 0 {
            self.bytes[start..].rotate_right(key.len());
        }
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        assert!(self.bytes.len() <= u32::MAX as usize, "a row is split long before 4 GiB");
        self.ends.insert(index, start as u32);
        self.ends[index..].iter_mut().for_each(|end| *end += len);
        self.heads.insert(index, head(&key[self.prefix..]));
    }

    /// Removes the string at `index`.
    pub fn remove(&mut self, index: usize) {
        let span = self.span(index);
        let len = span.len() as u32;
        self.bytes.drain(span);
        self.ends.remove(index);
        self.heads.remove(index);
        self.ends[index..].iter_mut().for_each(|end| *end -= len);
        if self.ends.is_empty() {
            self.prefix = 0;
        }
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
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        let mut right = Self { bytes, ends, heads: Vec::new(), prefix: 0 };
        self.find_prefix();
        right.find_prefix();
        right
    }

    /// Appends all strings of another row, which lie above this one's.
    pub fn append(&mut self, other: &Self) {
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + base));
        self.find_prefix();
    }

    /// Memory behind the row.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>() + self.heads.capacity() * size_of::<u64>()
    }

    /// Makes room for a key in the common prefix.
    fn shorten_prefix(&mut self, key: &[u8]) {
        if self.ends.is_empty() {
            self.prefix = key.len();
        } else if !key.starts_with(&self.bytes[..self.prefix]) {
            self.prefix = common(&self.bytes[..self.prefix], key);
            self.find_heads();
        }
    }

    /// Strings are sorted, so what the first and the last have in common is common to all.
    fn find_prefix(&mut self) {
        self.prefix = if self.ends.is_empty() { 0 } else { common(self.get(0), self.get(self.len() - 1)) };
        self.find_heads();
    }

    fn find_heads(&mut self) {
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        heads.reserve_exact(self.len());
        heads.extend((0..self.len()).map(|index| head(&self.get(index)[self.prefix..])));
        heads.shrink_to_fit();
        self.heads = heads;
    }
}

/// Where `head` is or would be. The last stretch is counted instead of bisected: its loads do not wait for each other,
/// which matters as they mostly miss the cache.
#[inline]
fn first_not_below(heads: &[u64], head: u64) -> usize {
    let (mut low, mut high) = (0, heads.len());
    while high - low > COUNTED_MAX {
        let middle = (low + high) / 2;
        if heads[middle] < head {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low + heads[low..high].iter().map(|&other| usize::from(other < head)).sum::<usize>()
}

/// The first eight bytes as a number that sorts as they do.
#[inline]
pub fn head(rest: &[u8]) -> u64 {
    if let Some(bytes) = rest.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    rest.iter().enumerate().fold(0, |head, (i, &byte)| head | u64::from(byte) << (56 - 8 * i))
}

/// Length of the common prefix.
pub fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Grows in small steps: rows are many and short, doubling would waste a quarter of the memory.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) {
    if vec.capacity() - vec.len() < additional {
        vec.reserve_exact(additional + vec.len() / 8 + 128 / size_of::<T>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_sorted_vector() {
        for prefix in ["", "/registry/pods/", "12345678"] {
            let words = ["m", "", "zebra", "a", "ab", "mm", "ma", "b", "y", "a\0", "a\0\0", "aaaaaaaab", "aaaaaaaaa"];
            let words = words.map(|word| format!("{prefix}{word}").into_bytes());
            check(&words.each_ref().map(Vec::as_slice));
        }
    }

    fn check(words: &[&[u8]]) {
        let (mut packed, mut model) = (PackedKeys::default(), Vec::<&[u8]>::new());
        for &word in words {
            let at = packed.search(word).expect_err("words differ");
            assert_eq!(Err(at), model.binary_search(&word));
            packed.insert(at, word);
            model.insert(at, word);
            assert_eq!((0..packed.len()).map(|i| packed.get(i)).collect::<Vec<_>>(), model);
            assert_eq!(packed.search(word), Ok(at));
        }
        for probe in ["", "a", "aa", "zz", "/", "/registry/pods/aa", "/registry/podz", "123", "12345678a", "1234567800"]
        {
            let expected = model.binary_search(&probe.as_bytes());
            assert_eq!(packed.search(probe.as_bytes()), expected, "{probe}");
            assert_eq!(packed.count_up_to(probe.as_bytes()), expected.map_or_else(|at| at, |at| at + 1));
        }
        let tail = packed.split_off(4);
        assert_eq!((packed.len(), tail.len(), tail.get(0)), (4, model.len() - 4, model[4]));
        assert_eq!(tail.search(model[6]), Ok(2));
        packed.append(&tail);
        for at in [8, 0, 3] {
            packed.remove(at);
            model.remove(at);
            assert_eq!(packed.search(model[2]), Ok(2));
        }
        assert_eq!((0..packed.len()).map(|i| packed.get(i)).collect::<Vec<_>>(), model);
        assert_eq!(packed.total_bytes(), model.iter().map(|word| word.len()).sum());
    }
}
