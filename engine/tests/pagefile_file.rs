//! The page file on a real file system, and the format's golden file.

use plinth_random::Random;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use plinth_engine::pagefile::testing::{CheckedFile, MemStore};
use plinth_engine::pagefile::{
    FORMAT_VERSION, FileStore, OpenError, Options, PAGE_SIZE, PageFile, PageStore, PageWriter, ShrinkProgress,
};
use plinth_engine::trees::{TreeError, TreeId, Trees};

fn count<S: PageStore>(file: &PageFile<S>, tree: TreeId) -> u64 {
    let mut count = 0;
    file.scan_cold(tree, b"", &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })
    .expect("no damage");
    count
}

/// Grows beyond the reserved address range, flushes from another thread while changes go on, shrinks, reopens.
#[test]
fn lives_on_a_file_system() {
    let dir = tempfile::tempdir().expect("a directory for tests");
    let path = dir.path().join("data");
    let store = FileStore::open_reserving(&path, 1 << 20).expect("a new file");
    let mut file = CheckedFile(PageFile::create(store, Options { file_id: 7 }).expect("it is blank"));
    for key in 0u64..40_000 {
        let length = if key.is_multiple_of(1000) { 100_000 } else { 200 };
        file.insert(TreeId::Rev, &key.to_be_bytes(), &vec![key as u8; length]).expect("there is room");
        if key % 4000 == 3999 {
            let flush = file.begin_flush().expect("there is room").expect("there are changes");
            let mut writer = file.store().writer();
            let writing = std::thread::spawn(move || {
                flush.write_to(&mut writer).expect("the disk works");
                flush
            });
            for key in key - 100..key {
                file.insert(TreeId::Lease, &key.to_be_bytes(), b"while flushing").expect("there is room");
                let found = file.get(TreeId::Rev, &key.to_be_bytes()).expect("no damage").expect("it is there");
                assert_eq!(found[0], key as u8);
            }
            file.finish_flush(writing.join().expect("the writer is fine"));
        }
    }
    file.flush_now().expect("the disk works");
    assert!(matches!(FileStore::open(&path), Err(error) if error.to_string().contains("lock")));
    assert_eq!(std::fs::metadata(&path).expect("it exists").len(), file.size_bytes());
    let full = file.size_bytes();
    drop(file);

    let mut file = CheckedFile(PageFile::open(FileStore::open(&path).expect("unlocked again")).expect("sound"));
    assert_eq!(file.file_id(), 7);
    assert_eq!((count(&file, TreeId::Rev), count(&file, TreeId::Lease)), (40_000, 1000));
    for key in (0u64..40_000).filter(|key| key % 50 != 0) {
        assert!(file.remove(TreeId::Rev, &key.to_be_bytes()).expect("no damage"));
    }
    while file.shrink_step(256).expect("no damage") != ShrinkProgress::Done {
        file.flush_now().expect("the disk works");
    }
    assert!(file.size_bytes() < full / 2);
    let mut writer = file.store().writer();
    while writer.cut().expect("the disk works") {}
    assert!(!file.store().has_surplus());
    drop(writer); // it holds the lock
    assert_eq!(std::fs::metadata(&path).expect("it exists").len(), file.size_bytes());
    drop(file);

    let file = PageFile::open(FileStore::open_read_only(&path).expect("it exists")).expect("sound");
    assert_eq!(count(&file, TreeId::Rev), 800);
    assert!(FileStore::open_read_only(dir.path().join("none")).is_err());
}

/// What the store has stays readable, byte for byte, while another thread shortens the file behind it.
#[test]
fn shortening_leaves_what_the_store_has() {
    const PAGES: u64 = 4096;
    let page = |index: u64, round: u64| vec![(index * 7 + round) as u8; PAGE_SIZE];
    let dir = tempfile::tempdir().expect("a directory for tests");
    let mut store = FileStore::open(dir.path().join("data")).expect("a new file");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut cutter, stop) = (store.writer(), &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                cutter.cut().expect("the disk works");
            }
        });
        let mut rounds: Vec<u64> = Vec::new();
        let mut random = Random::new(1);
        for round in 0..300 {
            let (keep, grown) = (random.below(rounds.len() as u64 + 1), 1 + random.below(PAGES / 16));
            if (keep as usize) < rounds.len() {
                rounds.truncate(keep as usize);
                store.truncate(keep * PAGE_SIZE as u64).expect("the disk works");
            }
            if round % 3 == 0 {
                std::thread::yield_now();
            }
            store.grow((keep + grown) * PAGE_SIZE as u64).expect("there is room");
            for index in keep..keep + grown {
                store.write_at(index * PAGE_SIZE as u64, &page(index, round)).expect("the disk works");
                rounds.push(round);
            }
            for (index, round) in rounds.iter().enumerate() {
                let found = store.read((index * PAGE_SIZE) as u64, PAGE_SIZE).expect("it has it");
                assert!(found == page(index as u64, *round), "page {index} of round {round}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let len = store.len();
    let mut writer = store.writer();
    while writer.cut().expect("the disk works") {}
    assert_eq!((std::fs::metadata(store.path()).expect("it exists").len(), store.has_surplus()), (len, false));
}

#[test]
fn what_is_no_page_file_is_refused() {
    let open = |bytes: Vec<u8>| match PageFile::open(MemStore::from_bytes(bytes)) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    };
    assert!(matches!(open(Vec::new()), OpenError::Blank));
    assert!(matches!(open(vec![0; 4 * PAGE_SIZE]), OpenError::Blank));
    assert!(matches!(open(vec![7; 4 * PAGE_SIZE]), OpenError::NotAPageFile));
    assert!(matches!(open(vec![7; 100]), OpenError::NotAPageFile));

    let mut file = PageFile::create(MemStore::new(), Options::default()).expect("memory does not fail");
    for key in 0u64..1000 {
        file.insert(TreeId::Rev, &key.to_be_bytes(), &[1; 300]).expect("there is room");
    }
    file.flush_now().expect("memory does not fail");
    file.insert(TreeId::Rev, b"more", &[1; 300]).expect("there is room");
    file.flush_now().expect("memory does not fail");
    let bytes = file.store().bytes().to_vec();
    assert!(matches!(
        PageFile::create(MemStore::from_bytes(bytes.clone()), Options::default()),
        Err(OpenError::Exists)
    ));
    assert!(matches!(open(bytes[..10 * PAGE_SIZE].to_vec()), OpenError::Truncated { found: 10, .. }));
    let mut both_bad = bytes.clone();
    both_bad[100] ^= 1;
    both_bad[PAGE_SIZE + 100] ^= 1;
    assert!(matches!(open(both_bad), OpenError::NoMeta { .. }));
    let mut newer = bytes;
    for page in newer.chunks_mut(PAGE_SIZE).take(2) {
        page[4] = FORMAT_VERSION as u8 + 1;
        let crc = crc32fast::hash(&page[4..]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
    }
    assert!(matches!(open(newer), OpenError::Version { found } if found == FORMAT_VERSION + 1));
}

/// The file behind the golden dump: every kind of page, both meta pages, freed pages.
fn golden_file() -> PageFile<MemStore> {
    let mut file = PageFile::create(MemStore::new(), Options { file_id: 0x1122_3344_5566_7788 }).expect("memory");
    let insert = |file: &mut PageFile<MemStore>, tree, key: &[u8], value: &[u8]| {
        file.insert(tree, key, value).expect("there is room");
    };
    for key in 1u64..=4 {
        insert(&mut file, TreeId::Rev, &key.to_be_bytes(), &[0; 5000]);
    }
    insert(&mut file, TreeId::Meta, b"applied", &7u64.to_le_bytes());
    file.flush_now().expect("memory does not fail");
    let mut long = vec![0; 20_000];
    long[19_999] = 0xee;
    insert(&mut file, TreeId::Rev, &5u64.to_be_bytes(), &long);
    insert(&mut file, TreeId::Meta, b"applied", &8u64.to_le_bytes());
    file.remove(TreeId::Rev, &2u64.to_be_bytes()).expect("no damage");
    file.flush_now().expect("memory does not fail");
    file
}

/// Lines of 16 bytes that are not all zero, by page.
fn dump(bytes: &[u8]) -> String {
    let mut text = format!("# page file format {FORMAT_VERSION}, {} bytes; lines of zeros are left out\n", bytes.len());
    for (index, page) in bytes.chunks(PAGE_SIZE).enumerate().filter(|(_, page)| page.iter().any(|&byte| byte != 0)) {
        let kind =
            if index < 2 { "meta" } else { ["?", "leaf", "branch", "overflow", "space"][usize::from(page[4]).min(4)] };
        writeln!(text, "page {index} # {kind}").expect("strings grow");
        for (line, bytes) in page.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|&byte| byte != 0)) {
            let hex: String = bytes.iter().map(|byte| format!(" {byte:02x}")).collect();
            writeln!(text, "  {:04x}:{hex}", line * 16).expect("strings grow");
        }
    }
    text
}

fn undump(text: &str) -> Vec<u8> {
    let number = |text: &str| usize::from_str_radix(text, 16).expect("hexadecimal");
    let header = text.lines().next().and_then(|line| line.split_whitespace().nth(5)).expect("a header");
    let mut bytes = vec![0; header.parse().expect("a length")];
    let mut page = 0;
    for line in text.lines().skip(1) {
        if let Some(rest) = line.strip_prefix("page ") {
            page = rest.split_whitespace().next().and_then(|index| index.parse().ok()).expect("a page number");
            continue;
        }
        let (at, hex) = line.trim().split_once(':').expect("offset and bytes");
        for (index, byte) in hex.split_whitespace().enumerate() {
            bytes[page * PAGE_SIZE + number(at) + index] = number(byte) as u8;
        }
    }
    bytes
}

/// The bytes of the format do not change by accident, and what version 1 wrote opens forever. `UPDATE=1` rewrites the
/// file, which is right only together with a new format version.
#[test]
fn golden() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pagefile-v1.hex");
    let file = golden_file();
    // How far ahead the file grows is no matter of format.
    let bytes = file.store().bytes();
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("there is something") + 1;
    let written = dump(&bytes[..end.next_multiple_of(PAGE_SIZE)]);
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(path, &written).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the golden file is there");
    let difference = written.lines().zip(golden.lines()).find(|(written, golden)| written != golden);
    assert_eq!(difference, None, "written, golden");
    assert_eq!(written.len(), golden.len());

    let file = CheckedFile(PageFile::open(MemStore::from_bytes(undump(&golden))).expect("version 1 opens"));
    assert_eq!(file.file_id(), 0x1122_3344_5566_7788);
    assert_eq!((file.durable().get(), file.entries(TreeId::Rev)), (2, 4));
    let get = |key: u64| file.get(TreeId::Rev, &key.to_be_bytes()).expect("no damage");
    assert_eq!(get(2), None);
    assert_eq!(get(4), Some(&[0; 5000][..]));
    assert_eq!(get(5).map(|value| (value.len(), value[19_999])), Some((20_000, 0xee)));
    assert_eq!(file.get(TreeId::Meta, b"applied").expect("no damage"), Some(&8u64.to_le_bytes()[..]));
}

/// Long values leave in pieces, short pages together, and nothing is written twice.
#[test]
fn a_flush_is_cut_to_chunks() {
    let mut file = PageFile::create(MemStore::new(), Options::default()).expect("memory does not fail");
    file.insert(TreeId::Rev, b"long", &vec![5; 1 << 20]).expect("there is room");
    for key in 0u64..2000 {
        file.insert(TreeId::Lease, &key.to_be_bytes(), &[1; 100]).expect("there is room");
    }
    let flush = file.begin_flush().expect("there is room").expect("there are changes");
    let mut writes = flush.writes(1 << 16);
    let (mut end, mut total, mut count) = (0, 0, 0);
    while let Some((offset, bytes)) = writes.next() {
        assert!(bytes.len() <= 1 << 16);
        assert!(bytes.len().is_multiple_of(PAGE_SIZE) && !bytes.is_empty());
        assert!(offset >= end, "in the order of the file");
        end = offset + bytes.len() as u64;
        total += bytes.len() as u64;
        count += 1;
        file.store_mut().write_at(offset, bytes).expect("memory does not fail");
    }
    drop(writes);
    assert_eq!(total, flush.bytes());
    assert!(count <= total / (1 << 16) + 4, "{count} writes for {total} bytes");
    let (offset, meta) = flush.meta();
    file.store_mut().write_at(offset, meta).expect("memory does not fail");
    file.finish_flush(flush);
    assert_eq!(file.dirty_bytes(), 0);
    let error = match file.begin_flush() {
        Ok(None) => None,
        Ok(Some(_)) => Some(TreeError::Io { detail: "a clean file has nothing to flush".into() }),
        Err(error) => Some(error),
    };
    assert!(error.is_none(), "{error:?}");
    drop(CheckedFile(PageFile::open(MemStore::from_bytes(file.store().bytes().to_vec())).expect("sound")));
}
