//! Things found by a number that never changes while they exist.
//!
//! They lie in chunks, so that growing never moves anything: no put has to wait until a million keys are copied.

/// Things in a chunk, a power of two.
const CHUNK: usize = 1 << 10;

/// Numbered things.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    /// Number of things.
    pub fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len) - self.free.len()
    }

    /// The thing with a number.
    #[inline]
    pub fn get(&self, id: u32) -> &T {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    /// The thing with a number.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    /// Adds a thing.
    pub fn insert(&mut self, thing: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = thing;
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("there is a chunk with room");
        chunk.push(thing);
        u32::try_from(before + chunk.len() - 1).expect("fewer than 2^32 things")
    }

    /// Removes a thing; its number will be given to another one. The memory is given back with the last thing.
    pub fn remove(&mut self, id: u32) -> T {
        let thing = std::mem::take(self.get_mut(id));
        self.free.push(id);
        if self.len() == 0 {
            *self = Self::default();
        }
        thing
    }

    /// All things, those removed as defaults.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Memory behind the slab itself.
    pub fn heap_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..3000).map(|i| slab.insert(i)).collect();
        assert!(ids.iter().enumerate().all(|(i, &id)| *slab.get(id) == i));
        assert_eq!((slab.remove(ids[7]), slab.remove(ids[2999]), slab.len()), (7, 2999, 2998));
        let mut again = [slab.insert(1), slab.insert(2)];
        again.sort_unstable();
        assert_eq!((again, slab.len()), ([ids[7], ids[2999]], 3000));
        *slab.get_mut(ids[5]) = 500;
        assert_eq!(*slab.get(ids[5]), 500);
        ids.iter().for_each(|&id| assert!(slab.remove(id) <= 3000));
        assert_eq!((slab.len(), slab.heap_bytes()), (0, 0));
    }
}
