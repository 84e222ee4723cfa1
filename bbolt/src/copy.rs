//! A database written anew, entry for entry, with a changed value here or there: what compacts a file that has grown, and
//! what changes the version of its schema. Nothing is changed in place.

use crate::database::{Database, Source};
use crate::error::Error;
use crate::writer::{Layout, Plan, Sink, Writer};
use std::collections::BTreeMap;

/// What takes the entries of a database: a plan, a writer, or whoever looks at them on their way.
pub trait Target {
    /// The entries of bucket `name` follow.
    fn bucket(&mut self, name: &[u8]) -> Result<(), Error>;

    /// The next entry of the bucket.
    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error>;
}

impl Target for Plan {
    fn bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        Plan::bucket(self, name)
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        Plan::entry(self, key, value.len())
    }
}

impl<K: Sink> Target for Writer<K> {
    fn bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        Writer::bucket(self, name)
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        Writer::entry(self, key, value)
    }
}

/// Values of one small bucket that a copy has instead: by key; none takes the entry away.
#[derive(Clone, Debug, Default)]
pub struct Changes<'c> {
    pub bucket: &'c str,
    /// What is different in it.
    pub values: Vec<(&'c str, Option<Vec<u8>>)>,
}

/// The size of a copy.
///
/// # Errors
/// If the database is damaged.
pub fn plan<S: Source + ?Sized>(database: &Database<'_, S>, changes: &Changes<'_>) -> Result<Layout, Error> {
    let mut plan = Plan::new();
    feed(database, changes, &mut plan)?;
    plan.finish()
}

/// Writes the copy that was planned; transaction `txid` (2 or more) is said to have made it.
///
/// # Errors
/// If the database is damaged, or the sink refuses.
pub fn write<S: Source + ?Sized, K: Sink>(
    database: &Database<'_, S>,
    changes: &Changes<'_>,
    layout: Layout,
    sink: K,
    txid: u64,
) -> Result<K, Error> {
    let mut writer = Writer::new(sink, layout, txid)?;
    feed(database, changes, &mut writer)?;
    writer.finish()
}

fn feed<S: Source + ?Sized>(
    database: &Database<'_, S>,
    changes: &Changes<'_>,
    target: &mut impl Target,
) -> Result<(), Error> {
    for (name, bucket) in database.buckets()? {
        target.bucket(&name)?;
        let mut entries = database.entries(&bucket);
        if name != changes.bucket.as_bytes() {
            while let Some((key, value)) = entries.next()? {
                target.entry(key, value)?;
            }
            continue;
        }
        let mut small = BTreeMap::new();
        while let Some((key, value)) = entries.next()? {
            small.insert(key.to_vec(), value.to_vec());
        }
        for (key, value) in &changes.values {
            match value {
                Some(value) => drop(small.insert(key.as_bytes().to_vec(), value.clone())),
                None => drop(small.remove(key.as_bytes())),
            }
        }
        small.iter().try_for_each(|(key, value)| target.entry(key, value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_all_but_what_was_changed() {
        fn fill(target: &mut impl Target) {
            target.bucket(b"key").expect("in order");
            target.entry(b"a", b"1").expect("in order");
            target.entry(b"b", &[7; 9000]).expect("in order");
            target.bucket(b"meta").expect("in order");
            target.entry(b"gone", b"x").expect("in order");
            target.entry(b"storageVersion", b"3.6.0").expect("in order");
        }
        let mut plan = Plan::new();
        fill(&mut plan);
        let mut writer = Writer::new(Vec::new(), plan.finish().expect("planned"), 2).expect("written");
        fill(&mut writer);
        let file = writer.finish().expect("written");
        let database = Database::open(&file[..]).expect("whole");
        let changes =
            Changes { bucket: "meta", values: vec![("storageVersion", Some(b"3.7.0".to_vec())), ("gone", None)] };
        let layout = super::plan(&database, &changes).expect("planned");
        let copy = write(&database, &changes, layout, Vec::new(), 3).expect("copied");
        assert_eq!(copy.len() as u64, layout.file_bytes());
        let copy = Database::open(&copy[..]).expect("whole");
        assert_eq!(crate::check::verify(&copy), [""; 0]);
        assert_eq!(crate::check::status(&copy).expect("read").version, "3.7.0");
        let meta = copy.bucket(b"meta").expect("read").expect("there");
        let mut entries = copy.entries(&meta);
        assert_eq!(entries.next().expect("read"), Some((&b"storageVersion"[..], &b"3.7.0"[..])));
        assert_eq!(entries.next().expect("read"), None);
        let key = copy.bucket(b"key").expect("read").expect("there");
        let mut entries = copy.entries(&key);
        entries.next().expect("read");
        assert_eq!(entries.next().expect("read"), Some((&b"b"[..], &[7; 9000][..])));
    }
}
