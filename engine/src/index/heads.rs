//! Searching a sorted row of byte strings without reading most of them.
//!
//! Of every string the row keeps its *head*: the eight bytes after what all strings have in common, as a number. A search
//! goes by these numbers; strings are only compared where heads are equal.
//!
//! Invariants: all strings start with the same `prefix` bytes (they may have more in common); numbers of the heads never
//! fall. A string that ends within its head is filled up with zeros.

use std::cmp::Ordering;

/// Bytes of a string that make its head.
pub const HEAD_BYTES: usize = size_of::<u64>();

/// The heads of a row of strings, which are somewhere else: every method is told how to get at them.
#[derive(Debug, Default)]
pub struct Heads {
    heads: Vec<u64>,
    prefix: usize,
}

impl Heads {
    /// Number of strings.
    #[inline]
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Where `key` is, or where it would be inserted.
    #[inline]
    pub fn search<'k>(&self, key: &[u8], get: impl Fn(usize) -> &'k [u8]) -> Result<usize, usize> {
        if self.heads.is_empty() {
            return Err(0);
        }
        let prefix = &get(0)[..self.prefix];
        let Some(rest) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let head = head(rest);
        let mut low = self.heads.partition_point(|&other| other < head);
        let mut high = low + self.heads[low..].partition_point(|&other| other == head);
        while low < high {
            let middle = (low + high) / 2;
            match get(middle)[self.prefix..].cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// To be called before `key` is inserted at `index`: `get` still knows the row without it.
    pub fn insert<'k>(&mut self, index: usize, key: &[u8], get: impl Fn(usize) -> &'k [u8]) {
        if self.heads.is_empty() {
            self.prefix = key.len();
        } else {
            let prefix = common(&get(0)[..self.prefix], key);
            if prefix < self.prefix {
                self.prefix = prefix;
                self.heads.iter_mut().enumerate().for_each(|(index, other)| *other = head(&get(index)[prefix..]));
            }
        }
        reserve(&mut self.heads, 1);
        self.heads.insert(index, head(&key[self.prefix..]));
    }

    /// Forgets the string at `index`.
    pub fn remove(&mut self, index: usize) {
        self.heads.remove(index);
    }

    /// Moves the strings from `index` on into a row of their own.
    pub fn split_off(&mut self, index: usize) -> Self {
        let right = Self { heads: self.heads.split_off(index), prefix: self.prefix };
        self.heads.shrink_to_fit();
        right
    }

    /// Starts over if all strings have more in common than is known: then heads tell more.
    pub fn tighten<'k>(&mut self, get: impl Fn(usize) -> &'k [u8]) {
        if self.len() > 0 && common(get(0), get(self.len() - 1)) > self.prefix {
            self.rebuild(self.len(), get);
        }
    }

    /// Starts over with `len` strings, which are sorted: what the first and the last have in common is common to all.
    pub fn rebuild<'k>(&mut self, len: usize, get: impl Fn(usize) -> &'k [u8]) {
        self.prefix = if len == 0 { 0 } else { common(get(0), get(len - 1)) };
        self.heads.clear();
        self.heads.reserve_exact(len);
        self.heads.extend((0..len).map(|index| head(&get(index)[self.prefix..])));
        self.heads.shrink_to_fit();
    }

    /// Memory behind the heads.
    pub fn heap_bytes(&self) -> usize {
        self.heads.capacity() * HEAD_BYTES
    }
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
        vec.reserve_exact(additional + vec.len() / 8 + 64 / size_of::<T>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_sorted_vector_finds() {
        for prefix in ["", "/registry/pods/", "12345678"] {
            let words = ["m", "", "zebra", "a", "ab", "mm", "ma", "b", "y", "a\0", "a\0\0", "aaaaaaaab", "aaaaaaaaa"];
            check(&words.map(|word| format!("{prefix}{word}").into_bytes()));
        }
    }

    fn check(words: &[Vec<u8>]) {
        let (mut heads, mut row) = (Heads::default(), Vec::<&[u8]>::new());
        let probes =
            ["", "a", "aa", "zz", "/", "/registry/pods/aa", "/registry/podz", "123", "12345678a", "1234567800"];
        let agree = |heads: &Heads, row: &[&[u8]]| {
            assert_eq!(heads.len(), row.len());
            for probe in probes.iter().map(|probe| probe.as_bytes()).chain(row.iter().copied()) {
                assert_eq!(heads.search(probe, |index| row[index]), row.binary_search(&probe), "{probe:?}");
            }
        };
        for word in words {
            let at = heads.search(word, |index| row[index]).expect_err("words differ");
            heads.insert(at, word, |index| row[index]);
            row.insert(at, word);
            agree(&heads, &row);
        }
        for at in [8, 0, 3] {
            heads.remove(at);
            row.remove(at);
            agree(&heads, &row);
        }
        let (left, right) = row.split_at(4);
        let mut tail = heads.split_off(4);
        agree(&tail, right);
        tail.tighten(|index| right[index]);
        heads.tighten(|index| left[index]);
        agree(&tail, right);
        agree(&heads, left);
        heads.rebuild(row.len(), |index| row[index]);
        agree(&heads, &row);
    }
}
