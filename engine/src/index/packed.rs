//! A short sorted row of byte strings in two allocations: all bytes end to end, and where each ends.

use std::cmp::Ordering;
use std::ops::Range;

/// Sorted byte strings.
#[derive(Debug, Default)]
pub struct PackedKeys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
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
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Index of the last string not above `key`, or 0 if there is none.
    #[inline]
    pub fn floor(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }

    /// Inserts `key` at `index`.
    pub fn insert(&mut self, index: usize, key: &[u8]) {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        reserve(&mut self.bytes, key.len());
        reserve(&mut self.ends, 1);
        let tail = self.bytes.len() - start;
        self.bytes.extend_from_slice(key);
        if tail > 0 {
            self.bytes[start..].rotate_right(key.len());
        }
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        assert!(self.bytes.len() <= u32::MAX as usize, "a row is split long before 4 GiB");
        self.ends.insert(index, start as u32);
        self.ends[index..].iter_mut().for_each(|end| *end += len);
    }

    /// Removes the string at `index`.
    pub fn remove(&mut self, index: usize) {
        let span = self.span(index);
        let len = span.len() as u32;
        self.bytes.drain(span);
        self.ends.remove(index);
        self.ends[index..].iter_mut().for_each(|end| *end -= len);
    }

    /// Moves the strings from `index` on into a row of their own.
    pub fn split_off(&mut self, index: usize) -> Self {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let bytes = self.bytes.split_off(start as usize);
        let mut ends = self.ends.split_off(index);
        ends.iter_mut().for_each(|end| *end -= start);
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        Self { bytes, ends }
    }

    /// Appends all strings of another row, which lie above this one's.
    pub fn append(&mut self, other: &Self) {
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + base));
    }

    /// Memory behind the row.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
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
        let words: [&[u8]; 9] = [b"m", b"", b"zebra", b"a", b"ab", b"mm", b"ma", b"b", b"y"];
        let (mut packed, mut model) = (PackedKeys::default(), Vec::<&[u8]>::new());
        for word in words {
            let at = packed.search(word).expect_err("words differ");
            assert_eq!(Err(at), model.binary_search(&word));
            packed.insert(at, word);
            model.insert(at, word);
            assert_eq!((0..packed.len()).map(|i| packed.get(i)).collect::<Vec<_>>(), model);
            assert_eq!(packed.search(word), Ok(at));
        }
        assert_eq!((packed.floor(b"aa"), packed.floor(b"zz"), packed.floor(b"")), (1, 8, 0));
        let tail = packed.split_off(4);
        assert_eq!((packed.len(), tail.len(), tail.get(0)), (4, 5, model[4]));
        packed.append(&tail);
        for at in [8, 0, 3] {
            packed.remove(at);
            model.remove(at);
        }
        assert_eq!((0..packed.len()).map(|i| packed.get(i)).collect::<Vec<_>>(), model);
        assert_eq!(packed.total_bytes(), model.iter().map(|word| word.len()).sum());
    }
}
