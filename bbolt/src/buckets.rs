//! The buckets of a database: which there are, and the entries of each.

use crate::cursor::Cursor;
use crate::database::{Bucket, Database, Place, Source};
use crate::error::Error;
use crate::format::{BUCKET_BYTES, u64_at};

impl<'s, S: Source + ?Sized> Database<'s, S> {
    /// All buckets with their names, in order of the names.
    pub fn buckets(&self) -> Result<Vec<(Vec<u8>, Bucket)>, Error> {
        let mut names = self.names();
        let mut buckets = Vec::new();
        while let Some(entry) = names.next_entry()? {
            let name = String::from_utf8_lossy(entry.key).into_owned();
            let bad = |detail: &str| Error::Page { bucket: name.clone(), page: entry.page, detail: detail.to_string() };
            if !entry.is_bucket {
                return Err(bad("not a bucket"));
            }
            if entry.value.len() < BUCKET_BYTES {
                return Err(bad("a bucket that is cut off"));
            }
            let place = match u64_at(entry.value, 0) {
                0 => Place::Inline(entry.value[BUCKET_BYTES..].to_vec()),
                root => Place::Page(root),
            };
            buckets.push((entry.key.to_vec(), Bucket { name, place }));
        }
        Ok(buckets)
    }

    /// The bucket of this name, if there is one.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, Error> {
        Ok(self.buckets()?.into_iter().find(|(found, _)| found == name).map(|(_, bucket)| bucket))
    }

    /// The entries of a bucket, from the first on.
    pub fn entries<'d>(&'d self, bucket: &Bucket) -> Cursor<'d, 's, S> {
        Cursor::new(self, bucket.name.clone(), bucket.place.clone())
    }

    /// The list of buckets, as entries.
    pub(crate) fn names(&self) -> Cursor<'_, 's, S> {
        Cursor::new(self, String::new(), Place::Page(self.meta().root))
    }
}
