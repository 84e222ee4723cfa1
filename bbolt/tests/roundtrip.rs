//! What is written is read back, whatever the sizes; damage is told, never followed.

use plinth_bbolt::{Database, Error, Plan, Writer, check};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(buckets: &Buckets) -> Result<Vec<u8>, Error> {
    let mut plan = Plan::new();
    for (name, entries) in buckets {
        plan.bucket(name)?;
        entries.iter().try_for_each(|(key, value)| plan.entry(key, value.len()))?;
    }
    let layout = plan.finish()?;
    let mut writer = Writer::new(Vec::new(), layout, 2)?;
    for (name, entries) in buckets {
        writer.bucket(name)?;
        entries.iter().try_for_each(|(key, value)| writer.entry(key, value))?;
    }
    let file = writer.finish()?;
    assert_eq!(file.len() as u64, layout.file_bytes(), "the plan knows the size");
    Ok(file)
}

fn read(file: &[u8]) -> Result<Buckets, Error> {
    let database = Database::open(file)?;
    let mut buckets = Buckets::new();
    for (name, bucket) in database.buckets()? {
        let mut entries = database.entries(&bucket);
        let found = buckets.entry(name).or_default();
        while let Some((key, value)) = entries.next()? {
            found.insert(key.to_vec(), value.to_vec());
        }
    }
    Ok(buckets)
}

fn entries() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let key = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 1..20),
        1 => (any::<u8>(), 1000usize..4000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (any::<u8>(), 3000usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop::collection::btree_map(key, value, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(buckets in prop::collection::btree_map(prop::collection::vec(1u8.., 1..12), entries(), 1..6)) {
        let file = write(&buckets).expect("written");
        let database = Database::open(&file[..]).expect("opens");
        prop_assert_eq!(check::verify(&database), Vec::<String>::new());
        prop_assert_eq!(read(&file).expect("reads"), buckets);
    }

    #[test]
    fn damage_is_told_and_never_followed(
        buckets in prop::collection::btree_map(prop::collection::vec(1u8.., 1..6), entries(), 1..3),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut file = write(&buckets).expect("written");
        for (at, bits) in flips {
            let at = at.index(file.len());
            file[at] ^= bits;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        // Either it reads (the damage is in a value or in padding) or the error says where; it never panics or hangs.
        if let Ok(database) = Database::open(&file[..]) {
            let _ = check::verify(&database);
            let _ = check::status(&database);
        }
        let _ = read(&file);
    }
}

#[test]
fn three_levels_of_branches() {
    let entries: BTreeMap<_, _> = (0..60_000u64).map(|n| (n.to_be_bytes().repeat(30), vec![7; 90])).collect();
    let buckets = Buckets::from([(b"key".to_vec(), entries)]);
    let file = write(&buckets).expect("written");
    let database = Database::open(&file[..]).expect("opens");
    assert_eq!(check::verify(&database), Vec::<String>::new());
    assert_eq!(read(&file).expect("reads"), buckets);
}

#[test]
fn a_torn_meta_leaves_the_other() {
    let buckets = Buckets::from([(b"meta".to_vec(), BTreeMap::from([(b"k".to_vec(), b"v".to_vec())]))]);
    let file = write(&buckets).expect("written");
    for page in [0, 1] {
        let mut torn = file.clone();
        torn[page * 4096 + 40] ^= 1;
        assert_eq!(read(&torn).expect("the other meta"), buckets, "meta {page} torn");
    }
    let mut torn = file;
    torn[40] ^= 1;
    torn[4096 + 40] ^= 1;
    let error = read(&torn).expect_err("no meta").to_string();
    assert!(error.contains("page 0: checksum") && error.contains("page 1: at no size"), "{error}");
}

/// The first element of none was read.
#[test]
fn ghsa_6jwv_w5xf_7j27_pages_without_elements_are_refused() {
    let entries: BTreeMap<_, _> = (0..1000u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 100])).collect();
    let file = write(&Buckets::from([(b"key".to_vec(), entries)])).expect("written");
    let (mut refused, pages) = (0, file.len() / 4096);
    for page in 2..pages {
        let mut emptied = file.clone();
        emptied[page * 4096 + 10..page * 4096 + 12].fill(0);
        if let Ok(database) = Database::open(&emptied[..]) {
            refused += usize::from(!check::verify(&database).is_empty());
            let _ = check::status(&database);
        }
        let _ = read(&emptied);
    }
    assert!(refused > 20, "{refused} of {pages}");
}

#[test]
fn damage_names_page_and_bucket() {
    let entries: BTreeMap<_, _> = (0..1000u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 100])).collect();
    let buckets = Buckets::from([(b"key".to_vec(), entries)]);
    let mut file = write(&buckets).expect("written");
    // The second leaf's first key grows beyond that of the third.
    let page = &mut file[3 * 4096..4 * 4096];
    let pos = u32::from_le_bytes(page[20..24].try_into().expect("four")) as usize;
    page[16 + pos] = 0xff;
    let error = read(&file).expect_err("keys out of order").to_string();
    assert!(error.starts_with("bucket \"key\", page 3: element"), "{error}");
    let database = Database::open(&file[..]).expect("metas are whole");
    assert_eq!(check::verify(&database), [error]);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let mut plan = Plan::new();
    assert!(plan.entry(b"k", 1).is_err(), "no bucket");
    plan.bucket(b"b").expect("first");
    assert!(plan.entry(b"", 1).is_err(), "an empty key");
    let mut plan = Plan::new();
    plan.bucket(b"b").expect("first");
    plan.entry(b"k", 1).expect("first");
    assert!(plan.entry(b"k", 1).is_err(), "the same key again");
    let layout = Plan::new().finish().expect("no buckets");
    let mut writer = Writer::new(Vec::new(), layout, 2).expect("metas");
    writer.bucket(b"unplanned").expect("a bucket");
    writer.entry(b"k", &[0; 5000]).expect("an entry");
    assert!(writer.finish().is_err(), "not what was planned");
}
