//! Power failures, rot and hostile files.
//!
//! The disk is simulated: of what was not synced, any sectors may survive in any order. A crash is tried before every
//! write and sync of a flush, with changes and growing of the file in between. Whatever the crash leaves must open as
//! the last finished flush, or as the one under way once its meta page was written, and be sound.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use plinth_engine::pagefile::testing::{MemStore, SimStore};
use plinth_engine::pagefile::{
    FlushWrites, OpenError, PAGE_SIZE, PageFile, PageStore, PageWriter, Pin, ScrubCursor, ShrinkProgress,
};
use plinth_engine::trees::{TreeError, TreeId, Trees};
use plinth_random::Random;

type Model = BTreeMap<(TreeId, Vec<u8>), Vec<u8>>;

/// The seeds of this run: some fixed ones, others from `PLINTH_FUZZ_SEED` on, or the one of a failure.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().map(|seed| seed.parse().expect("a seed is a number"));
    let chosen: Option<u64> = number("SEED");
    let first = number("PLINTH_FUZZ_SEED").unwrap_or(0);
    let count = std::env::var("SEEDS").map_or(count, |seeds| seeds.parse().expect("SEEDS is a number"));
    let range = chosen.map_or(first..first + count, |seed| seed..seed + 1);
    range.inspect(|seed| println!("seed {seed}"))
}

/// Whether a count over all seeds is large enough; a single seed proves nothing about counts.
fn enough(count: u64, per_seed: f64, seeds: u64) -> bool {
    let seeds = std::env::var("SEEDS").map_or(seeds, |seeds| seeds.parse().expect("SEEDS is a number"));
    std::env::var("SEED").is_ok() || count as f64 >= per_seed * seeds as f64
}

fn contents<S: PageStore>(file: &PageFile<S>) -> Result<Model, TreeError> {
    let mut found = Model::new();
    for tree in TreeId::ALL {
        file.scan(tree, b"", &mut |key, value| {
            found.insert((tree, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    Ok(found)
}

/// What a flush has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Idle,
    Data,
    Meta,
}

struct World {
    file: PageFile<SimStore>,
    model: Model,
    durable: Option<Model>,
    before_durable: Option<Model>,
    flushing: Model,
    stage: Stage,
    pins: Vec<(Pin, Model)>,
    random: Random,
    next_revision: u64,
    crashes: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let file = PageFile::create(SimStore::new(), Default::default()).expect("a new disk");
        World {
            file,
            model: Model::new(),
            durable: None,
            before_durable: None,
            flushing: Model::new(),
            stage: Stage::Idle,
            pins: Vec::new(),
            random: Random::new(seed),
            next_revision: 0,
            crashes: 0,
        }
    }

    fn change(&mut self) -> Result<(), TreeError> {
        match self.random.below(12) {
            0..=5 => {
                for _ in 0..self.random.below(60) {
                    self.next_revision += 1;
                    let length = self.random.below(600);
                    self.insert(TreeId::Rev, self.next_revision.to_be_bytes().to_vec(), length)?;
                }
            }
            6 => {
                let length = self.random.below(70_000);
                let key = self.random.below(self.next_revision + 1).to_be_bytes().to_vec();
                self.insert(TreeId::Rev, key, length)?;
            }
            7 | 8 => {
                let skip = self.random.below(200) as usize;
                let count = self.random.below(300) as usize;
                let keys: Vec<_> = self.model.keys().skip(skip).take(count).cloned().collect();
                for (tree, key) in keys {
                    assert!(self.file.remove(tree, &key)?);
                    self.model.remove(&(tree, key));
                }
            }
            9 => {
                let key = vec![self.random.bits() as u8; self.random.below(1000) as usize];
                let length = self.random.below(3000);
                self.insert(TreeId::Lease, key, length)?;
            }
            10 => drop(self.file.shrink_step(self.random.below(100) as usize)?),
            _ => {
                let length = 16;
                self.insert(TreeId::Meta, b"applied".to_vec(), length)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, tree: TreeId, key: Vec<u8>, length: u64) -> Result<(), TreeError> {
        let byte = self.random.bits() as u8;
        let value: Vec<u8> = (0..length).map(|at| byte.wrapping_add((at >> 9) as u8)).collect();
        self.file.insert(tree, &key, &value)?;
        self.model.insert((tree, key), value);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TreeError> {
        let Some(flush) = self.file.begin_flush()? else { return Ok(()) };
        self.flushing = self.model.clone();
        self.stage = Stage::Data;
        if self.random.below(4) == 0 {
            self.pins.push((self.file.pin(), self.flushing.clone()));
        }
        let mut writes: FlushWrites<'_> = flush.writes(1 << (14 + self.random.below(5)));
        while let Some((offset, bytes)) = writes.next() {
            self.crash();
            self.file.store_mut().write_at(offset, bytes).expect("the disk works");
            if self.random.below(3) == 0 {
                self.change()?;
            }
        }
        self.crash();
        self.file.store_mut().sync().expect("the disk works");
        self.crash();
        let (offset, bytes) = flush.meta();
        self.file.store_mut().write_at(offset, bytes).expect("the disk works");
        self.stage = Stage::Meta;
        self.crash();
        self.change()?;
        self.crash();
        self.file.store_mut().sync().expect("the disk works");
        self.file.finish_flush(flush);
        self.before_durable = self.durable.replace(std::mem::take(&mut self.flushing));
        self.stage = Stage::Idle;
        self.crash();
        if self.pins.len() > 2 {
            let (pin, model) = self.pins.remove(0);
            self.compare_pin(&pin, &model)?;
        }
        Ok(())
    }

    /// Pulls the plug on a copy of the disk, in a few ways, and looks what is there afterwards.
    fn crash(&mut self) {
        if self.stage != Stage::Meta {
            self.lose_newer_meta();
        }
        for _ in 0..2 {
            self.crashes += 1;
            let random = &mut self.random;
            let disk = self.file.store().crash(&mut || random.bits());
            let mut recovered = match PageFile::open(disk) {
                Ok(file) => file,
                Err(OpenError::Blank | OpenError::NotAPageFile) if self.durable.is_none() => continue,
                Err(error) => panic!("{:?}: {error}", self.stage),
            };
            recovered.check().unwrap_or_else(|error| panic!("{:?}: {error}", self.stage));
            let found = contents(&recovered).expect("it was checked");
            let is_old = self.durable.as_ref().is_some_and(|durable| *durable == found);
            let is_new = self.stage == Stage::Meta && found == self.flushing;
            assert!(is_old || is_new, "{:?}: neither the last state nor the next", self.stage);
            if self.crashes.is_multiple_of(8) {
                go_on(&mut recovered, found, &mut self.random);
            }
        }
    }

    /// The newer meta page rots, while the next flush may have written some of its pages: the state before is whole.
    fn lose_newer_meta(&mut self) {
        let Some(before) = &self.before_durable else { return };
        let random = &mut self.random;
        let mut disk = self.file.store().crash(&mut || random.bits());
        let place = self.file.durable().get() % 2 * PAGE_SIZE as u64;
        disk.flip_bit(place + self.random.below(PAGE_SIZE as u64), 3);
        let recovered = PageFile::open(disk).expect("the other meta page is good");
        recovered.check().expect("the state before is whole");
        assert!(contents(&recovered).expect("it was checked") == *before);
    }

    /// The process ends and starts again; what was not flushed is gone.
    fn restart(&mut self) {
        let Some(durable) = &self.durable else { return };
        self.pins.clear();
        self.file = PageFile::open(self.file.store().clone()).expect("the disk is fine");
        self.model = durable.clone();
    }

    fn compare_pin(&self, pin: &Pin, model: &Model) -> Result<(), TreeError> {
        for tree in TreeId::ALL {
            let mut expected = model.iter().filter(|((at, _), _)| *at == tree);
            self.file.pinned_scan(pin, tree, b"", &mut |key, value| {
                let ((_, expected_key), expected_value) = expected.next().expect("no more than there were");
                assert_eq!((key, value), (&expected_key[..], &expected_value[..]));
                ControlFlow::Continue(())
            })?;
            assert!(expected.next().is_none());
        }
        Ok(())
    }
}

/// A recovered file is as good as new: it takes changes, and survives another crash.
fn go_on(file: &mut PageFile<SimStore>, mut model: Model, random: &mut Random) {
    for round in 0..3u64 {
        for _ in 0..random.below(200) {
            let key = random.below(1000).to_be_bytes().to_vec();
            file.insert(TreeId::Rev, &key, &[round as u8; 200]).expect("there is room");
            model.insert((TreeId::Rev, key), vec![round as u8; 200]);
        }
        file.flush_now().expect("the disk works");
        assert_eq!(contents(file).expect("sound"), model);
        file.check().expect("sound");
    }
    let again = PageFile::open(file.store().crash(&mut || random.bits())).expect("nothing was unsynced");
    assert_eq!(contents(&again).expect("sound"), model);
}

#[test]
fn any_crash_recovers_a_flushed_state() {
    let mut crashes = 0;
    for seed in seeds(24) {
        let mut world = World::new(seed);
        world.crash();
        for _ in 0..12 {
            for _ in 0..world.random.below(6) {
                world.change().expect("there is room");
            }
            world.flush().expect("there is room");
            world.file.check().expect("sound");
            if world.random.below(4) == 0 {
                world.restart();
            }
        }
        crashes += world.crashes;
    }
    assert!(enough(crashes, 100.0, 24), "{crashes} crashes are too few to mean anything");
}

/// A file with everything in it: several levels, long values, several trees, free pages.
fn sample() -> (Vec<u8>, Model) {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    let mut model = Model::new();
    let mut insert = |file: &mut PageFile<MemStore>, tree, key: Vec<u8>, value: Vec<u8>| {
        file.insert(tree, &key, &value).expect("there is room");
        model.insert((tree, key), value);
    };
    for key in 0u64..1500 {
        let length = if key.is_multiple_of(100) { 20_000 } else { 250 };
        insert(&mut file, TreeId::Rev, key.to_be_bytes().to_vec(), vec![key as u8; length]);
        if key < 40 {
            insert(&mut file, TreeId::Lease, vec![key as u8; 1500], vec![1; 10]);
        }
    }
    insert(&mut file, TreeId::Meta, b"applied".to_vec(), vec![9; 16]);
    file.flush_now().expect("memory does not fail");
    for key in 300u64..600 {
        file.remove(TreeId::Rev, &key.to_be_bytes()).expect("no fault");
        model.remove(&(TreeId::Rev, key.to_be_bytes().to_vec()));
    }
    file.flush_now().expect("memory does not fail");
    let mut bytes = file.into_store().bytes().to_vec();
    // Pages never written prove nothing.
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("there is something") + 1;
    bytes.truncate(end.next_multiple_of(PAGE_SIZE));
    (bytes, model)
}

/// Reads everything there is to read. Ok only with the true contents.
fn read_all(bytes: Vec<u8>) -> Result<Model, String> {
    let file = PageFile::open(MemStore::from_bytes(bytes)).map_err(|error| error.to_string())?;
    let mut cursor = ScrubCursor::default();
    while !file.scrub_step(&mut cursor, 7).map_err(|error| error.to_string())?.done {}
    file.check().map_err(|error| error.to_string())?;
    for tree in TreeId::ALL {
        file.last(tree).map_err(|error| error.to_string())?;
    }
    contents(&file).map_err(|error| error.to_string())
}

#[test]
fn a_flipped_bit_is_never_served() {
    let (bytes, model) = sample();
    assert_eq!(read_all(bytes.clone()).expect("undamaged"), model);
    let mut detected = 0;
    for seed in seeds(300) {
        let mut random = Random::new(seed);
        let mut bad = bytes.clone();
        let at = random.below(bad.len() as u64) as usize;
        bad[at] ^= 1 << random.below(8);
        let file = match PageFile::open(MemStore::from_bytes(bad.clone())) {
            Ok(file) => file,
            Err(_) => {
                detected += 1;
                continue;
            }
        };
        if file.durable().get() == 1 {
            detected += 1; // the newer meta page was hit, and passed over
            continue;
        }
        // Each entry is the true one or an error; whatever is fine, the scrub tells.
        let mut errors = 0;
        for ((tree, key), value) in &model {
            match file.get(*tree, key) {
                Ok(found) => assert_eq!(found, Some(&value[..])),
                Err(error) => {
                    assert!(matches!(error, TreeError::Corrupt { .. }), "{error}");
                    errors += 1;
                }
            }
        }
        let scrubbed = file.scrub_step(&mut ScrubCursor::default(), 1 << 20);
        if errors > 0 {
            let error = scrubbed.expect_err("the scrub sees what reading sees");
            assert!(matches!(error, TreeError::Corrupt { page, .. } if page == (at / PAGE_SIZE) as u64 || page > 1));
        }
        detected += u64::from(scrubbed_or(errors > 0, &file));
    }
    assert!(enough(detected, 0.4, 300), "{detected} detected");
}

fn scrubbed_or(found: bool, file: &PageFile<MemStore>) -> bool {
    found || file.scrub_step(&mut ScrubCursor::default(), 1 << 20).is_err()
}

/// An error names page, tree and keys.
#[test]
fn corruption_has_coordinates() {
    let (bytes, _) = sample();
    let file = PageFile::open(MemStore::from_bytes(bytes.clone())).expect("undamaged");
    let mut named = 0;
    for page in 2..bytes.len() / PAGE_SIZE {
        let mut bad = bytes.clone();
        bad[page * PAGE_SIZE + 5000] ^= 1;
        let damaged = PageFile::open(MemStore::from_bytes(bad));
        let Ok(damaged) = damaged else { continue };
        let Err(error) = damaged.scrub_step(&mut ScrubCursor::default(), 1 << 20) else { continue };
        let TreeError::Corrupt { page: found, tree, detail } = error else { panic!("{error}") };
        assert!(found <= page as u64);
        assert!(detail.contains("checksum"), "{detail}");
        named += u64::from(tree > 0 && (detail.contains("keys") || detail.contains("long value")));
        let by_reading = contents(&damaged).map(|_| ()).expect_err("reading finds it too");
        assert!(by_reading.to_string().contains("checksum"), "{by_reading}");
    }
    assert!(named > 20, "{named} pages named");
    drop(file);
}

/// Changes that meet a bad page fail whole: everything else is as it was, goes on, and can be flushed and reopened.
#[test]
fn changes_stop_at_a_bad_page() {
    let (bytes, contents) = sample();
    let (mut failed, mut done) = (0, 0);
    for page in 2..bytes.len() / PAGE_SIZE {
        let mut bad = bytes.clone();
        bad[page * PAGE_SIZE + 40] ^= 1;
        let Ok(mut file) = PageFile::open(MemStore::from_bytes(bad)) else { continue };
        let mut model = contents.clone();
        let mut random = Random::new(page as u64);
        for step in 0..600u64 {
            let key = random.below(1600).to_be_bytes().to_vec();
            let changed = if step % 3 == 0 {
                file.remove(TreeId::Rev, &key).map(|_| drop(model.remove(&(TreeId::Rev, key))))
            } else {
                let length = if step % 50 == 1 { 30_000 } else { random.below(500) };
                let value = vec![step as u8; length as usize];
                file.insert(TreeId::Rev, &key, &value).map(|()| drop(model.insert((TreeId::Rev, key), value)))
            };
            match changed {
                Ok(()) => done += 1,
                Err(TreeError::Corrupt { .. }) => failed += 1,
                Err(error) => panic!("page {page}: {error}"),
            }
            if step % 200 == 100 {
                file.flush_now().expect("memory does not fail");
                let _ = file.shrink_step(20);
            }
        }
        compare_readable(&file, &model);
        file.flush_now().expect("memory does not fail");
        compare_readable(&PageFile::open(file.into_store()).expect("the flush was whole"), &model);
    }
    println!("{done} done, {failed} failed");
    assert!(failed > 100 && done > 10 * failed);
}

/// What can be read is right.
fn compare_readable(file: &PageFile<MemStore>, model: &Model) {
    for key in 0u64..1600 {
        let key = key.to_be_bytes().to_vec();
        match file.get(TreeId::Rev, &key) {
            Ok(found) => assert_eq!(found, model.get(&(TreeId::Rev, key)).map(Vec::as_slice)),
            Err(TreeError::Corrupt { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Any damage, with checksums made good again in half of the cases so that the checks behind them are reached: an
/// error or not, but no panic and no endless loop.
#[test]
fn mutated_files_do_not_panic() {
    let (bytes, _) = sample();
    let (mut refused, mut read) = (0, 0);
    for seed in seeds(400) {
        let mut random = Random::new(seed);
        let mut bad = bytes.clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut bad, &mut random);
        }
        match read_all(bad) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {read} read");
    assert!(enough(refused, 0.5, 400), "{refused} refused");
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let pages = (bytes.len() / PAGE_SIZE) as u64;
    if pages < 2 {
        return; // It was cut off before: there is nothing left to damage.
    }
    let page = if random.below(3) == 0 { random.below(2) } else { random.below(pages) } as usize;
    let start = page * PAGE_SIZE;
    match random.below(6) {
        0 => {
            let other = random.below(pages) as usize * PAGE_SIZE;
            bytes.copy_within(other..other + PAGE_SIZE, start);
        }
        1 if random.below(8) == 0 => {
            let length = random.below(bytes.len() as u64) as usize;
            bytes.truncate(length);
            return;
        }
        _ => {
            // Headers and slots are where damage is interesting.
            let span = if random.below(4) == 0 { PAGE_SIZE as u64 } else { 200 };
            for _ in 0..1 + random.below(4) {
                bytes[start + random.below(span) as usize] = random.bits() as u8;
            }
        }
    }
    if random.below(2) == 0 {
        reseal(bytes, start);
    }
}

/// Makes the checksum good, of a page or of a run as long as its header says.
fn reseal(bytes: &mut [u8], start: usize) {
    let field = |at: usize| u32::from_le_bytes(*bytes[start + at..].first_chunk().expect("inside the file"));
    let mut end = start + PAGE_SIZE;
    if bytes[start + 4] == 3 {
        let length = 32 + field(24) as usize + (field(28) & 0xffff) as usize;
        end = (start + length.div_ceil(PAGE_SIZE) * PAGE_SIZE).min(bytes.len());
    }
    let crc = crc32fast::hash(&bytes[start + 4..end]);
    bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Shrinking under a pin waits, and goes on when the pin is gone.
#[test]
fn a_pin_holds_the_end_of_the_file() {
    let mut file = PageFile::create(SimStore::new(), Default::default()).expect("a new disk");
    for key in 0u64..5000 {
        file.insert(TreeId::Rev, &key.to_be_bytes(), &[1; 500]).expect("there is room");
    }
    file.flush_now().expect("the disk works");
    let pin = file.pin();
    for key in 100u64..5000 {
        file.remove(TreeId::Rev, &key.to_be_bytes()).expect("no fault");
    }
    let shrink = |file: &mut PageFile<SimStore>| {
        for _ in 0..1000 {
            match file.shrink_step(50).expect("no fault") {
                ShrinkProgress::More => {}
                ShrinkProgress::AwaitFlush => file.flush_now().expect("the disk works"),
                end => return end,
            }
        }
        panic!("shrinking does not end");
    };
    assert_eq!(shrink(&mut file), ShrinkProgress::Pinned);
    let held = file.size_bytes();
    let mut count = 0;
    file.pinned_scan(&pin, TreeId::Rev, b"", &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })
    .expect("no fault");
    assert_eq!(count, 5000);
    file.unpin(pin);
    assert_eq!(shrink(&mut file), ShrinkProgress::Done);
    assert!(file.size_bytes() < held / 4, "{held} to {}", file.size_bytes());
    file.check().expect("sound");
}
