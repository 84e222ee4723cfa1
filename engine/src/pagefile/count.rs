//! How many pages a tree takes: counted once, from then on kept up to date where pages are given out and back.

use super::PageFile;
use super::format::{PageId, overflow_pages};
use super::node::Value;
use super::store::PageStore;
use crate::trees::{TreeError, TreeId};

impl<S: PageStore> PageFile<S> {
    /// Counts the pages of a tree, which reads all of it.
    ///
    /// # Errors
    /// If a page of it is damaged.
    pub(super) fn count_pages(&mut self, tree: TreeId) -> Result<(), TreeError> {
        let root = self.root(tree);
        let pages = if root.page.is_none() { 0 } else { self.pages_below(tree as u8, root.page, root.level)? };
        self.pager.set_pages_of(tree as u8, pages);
        Ok(())
    }

    fn pages_below(&self, tree: u8, page: PageId, level: u8) -> Result<u64, TreeError> {
        let node = self.pager.node(page, tree, level)?;
        let mut pages = 1;
        for index in 0..node.len() {
            if level > 0 {
                pages += self.pages_below(tree, node.child(index), level - 1)?;
            } else if let (key, Value::Overflow(reference)) = node.entry(index) {
                pages += overflow_pages(key.len(), reference.value_bytes as usize) as u64;
            }
        }
        Ok(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagefile::Options;
    use crate::pagefile::testing::MemStore;
    use crate::trees::Trees;
    use plinth_random::Random;

    #[test]
    fn the_count_stays_right() {
        let mut file = PageFile::create(MemStore::default(), Options::default()).expect("a new file");
        file.count_v2().expect("nothing is damaged");
        let mut random = Random::new(11);
        for round in 0..6000_u64 {
            let tree = [TreeId::V2, TreeId::V2Events, TreeId::Rev][random.index(3)];
            let key = random.below(500).to_be_bytes();
            // Small ones in leaves, large ones in runs of pages.
            let length = if random.once_in(20) { random.below(60_000) } else { random.below(900) } as usize;
            if random.once_in(3) || round > 5000 {
                file.remove(tree, &key).expect("nothing is damaged");
            } else {
                file.insert(tree, &key, &vec![7; length]).expect("nothing is damaged");
            }
            if random.once_in(300) {
                file.flush_now().expect("memory does not fail");
            }
            if random.once_in(300) {
                let kept = file.counted_bytes();
                file.count_v2().expect("nothing is damaged");
                assert_eq!(file.counted_bytes(), kept, "round {round}");
            }
        }
        let before = file.counted_bytes();
        for key in 1000..1400_u64 {
            file.insert(TreeId::V2, &key.to_be_bytes(), &[1; 800]).expect("nothing is damaged");
        }
        assert_eq!(file.counted_bytes(), before, "what v2 takes does not count");
        assert!(file.in_use_bytes() > before);
        file.check().expect("the file is sound");
    }
}
