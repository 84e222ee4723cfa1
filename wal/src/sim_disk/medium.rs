//! What survives a crash: files, their names, and which of both is durable.
//!
//! A write goes to the cache and is pending until the file is synced; a change of names is pending until the folder
//! is. A power failure decides the fate of everything pending, sector by sector. A failed sync loses what was pending
//! and, as Linux does, leaves the cache saying otherwise. Each effect is one numbered step, so that a test can count
//! the steps of a run and end the next one at each of them.
//!
//! Deliberately absent: when effects happen (`disk`), and time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Rng;
use crate::error::DiskFault;
use crate::limits::SECTOR_BYTES;
use crate::types::SegmentSeq;

/// What becomes of pending effects in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process was killed, the machine runs on: the cache is intact and still pending.
    Nothing,
    All,
    /// Each sector of each pending write arrived or did not.
    Sectors,
    /// As `Sectors`, and some sectors arrived in part.
    Torn,
}

impl Loss {
    /// All kinds.
    pub const ALL: [Loss; 4] = [Loss::Nothing, Loss::All, Loss::Sectors, Loss::Torn];
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next_id: u64,
    capacity: Option<u64>,
    steps: u64,
    crash_at: Option<u64>,
    fail_at: Option<(u64, i32)>,
    dead: bool,
}

/// Why a step had no effect.
#[derive(Debug)]
pub(super) enum Halt {
    /// The machine is down: nothing happens, nothing is reported.
    Dead,
    Fault(DiskFault),
}

type Step<T = ()> = Result<T, Halt>;

/// The medium, shared between the test and the disks opened on it one after another.
#[derive(Clone, Debug, Default)]
pub struct SimMedium(Rc<RefCell<Files>>);

impl SimMedium {
    /// An empty medium without limits or faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Effects so far.
    pub fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// The machine goes down at this step: a write is then pending, a sync has no effect.
    pub fn crash_at(&self, step: u64) {
        self.0.borrow_mut().crash_at = Some(step);
    }

    /// The effect at this step, or the first after it that can, fails with this error number.
    pub fn fail_at(&self, step: u64, errno: i32) {
        self.0.borrow_mut().fail_at = Some((step, errno));
    }

    /// Whether the machine went down.
    pub fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// Limits the sum of all file sizes; creating a file beyond it fails with `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.borrow_mut().capacity = bytes;
    }

    /// Sum of all file sizes.
    pub fn used_bytes(&self) -> u64 {
        self.0.borrow().used_bytes()
    }

    /// Crashes and restarts the machine. No fault survives it.
    pub fn crash(&self, loss: Loss, seed: u64) {
        self.0.borrow_mut().crash(loss, &mut Rng::new(seed));
    }

    /// An independent copy, faults excluded.
    pub fn fork(&self) -> Self {
        let mut files = self.0.borrow().clone();
        (files.crash_at, files.fail_at, files.dead) = (None, None, false);
        Self(Rc::new(RefCell::new(files)))
    }

    /// Names of all files.
    pub fn names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    /// Content of a file as the operating system shows it.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let files = self.0.borrow();
        files.names.get(name).map(|id| files.files[id].cached.clone())
    }

    /// Replaces or creates a file, durably: damage from outside.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut files = self.0.borrow_mut();
        let id = files.fresh_id();
        files.files.insert(id, SimFile { cached: bytes.clone(), durable: bytes, pending: Vec::new() });
        files.names.insert(name.to_string(), id);
        files.durable_names.insert(name.to_string(), id);
    }

    /// Removes a file, durably: damage from outside.
    pub fn delete(&self, name: &str) {
        let mut files = self.0.borrow_mut();
        files.names.remove(name);
        files.durable_names.remove(name);
    }

    /// Flips bits of one byte of a segment, in the cache and on the medium.
    pub fn flip(&self, segment: SegmentSeq, offset: u64, mask: u8) {
        let mut files = self.0.borrow_mut();
        let id = files.names[&segment.file_name()];
        let file = files.files.get_mut(&id).expect("names lead to files");
        file.cached[offset as usize] ^= mask;
        file.durable[offset as usize] ^= mask;
    }

    pub(super) fn with<T>(&self, effect: impl FnOnce(&mut Files) -> T) -> T {
        effect(&mut self.0.borrow_mut())
    }
}

impl Files {
    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|id| self.files[id].cached.len() as u64).sum()
    }

    /// Counts a step; true if the machine goes down at it.
    fn tick(&mut self) -> Step<bool> {
        if self.dead {
            return Err(Halt::Dead);
        }
        self.steps += 1;
        self.dead = self.crash_at == Some(self.steps);
        Ok(self.dead)
    }

    fn injected(&mut self, action: &'static str, name: &str) -> Step {
        match self.fail_at {
            Some((step, errno)) if self.steps >= step => {
                self.fail_at = None;
                Err(Halt::Fault(DiskFault { action, file: name.to_string(), offset: None, errno }))
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: &str) -> &mut SimFile {
        let id = self.names.get(name).unwrap_or_else(|| panic!("{name} exists"));
        self.files.get_mut(id).expect("names lead to files")
    }

    pub fn exists(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub fn listed(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    pub fn bytes(&mut self, name: &str) -> &[u8] {
        &self.file(name).cached
    }

    /// Creates a file; its content is lost in a crash until it is written and synced.
    pub fn create(&mut self, name: &str, bytes: u64) -> Step {
        let down = self.tick()?;
        self.injected("create", name)?;
        if self.capacity.is_some_and(|capacity| self.used_bytes() + bytes > capacity) {
            let fault = DiskFault { action: "write", file: name.to_string(), offset: None, errno: libc::ENOSPC };
            return Err(Halt::Fault(fault));
        }
        let id = self.fresh_id();
        self.files.insert(id, SimFile::default());
        self.names.insert(name.to_string(), id);
        if down { Err(Halt::Dead) } else { Ok(()) }
    }

    pub fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Step {
        let down = self.tick()?;
        self.injected("write", name)?;
        let file = self.file(name);
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if file.cached.len() < to {
            file.cached.resize(to, 0);
        }
        file.cached[from..to].copy_from_slice(bytes);
        file.pending.push((from, bytes.to_vec()));
        if down { Err(Halt::Dead) } else { Ok(()) }
    }

    pub fn sync(&mut self, name: &str) -> Step {
        if self.tick()? {
            return Err(Halt::Dead);
        }
        if let Err(halt) = self.injected("fdatasync", name) {
            // The pages are marked clean although nothing arrived.
            self.file(name).pending.clear();
            return Err(halt);
        }
        let file = self.file(name);
        for (offset, bytes) in std::mem::take(&mut file.pending) {
            file.arrive(offset, &bytes);
        }
        Ok(())
    }

    /// Forgets the cached copy of what is not pending.
    pub fn forget(&mut self, name: &str) {
        let file = self.file(name);
        if file.pending.is_empty() {
            file.cached.clone_from(&file.durable);
        }
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Step {
        let down = self.tick()?;
        self.injected("rename", from)?;
        let id = self.names.remove(from).unwrap_or_else(|| panic!("{from} exists"));
        self.names.insert(to.to_string(), id);
        if down { Err(Halt::Dead) } else { Ok(()) }
    }

    pub fn remove(&mut self, name: &str) -> Step {
        let down = self.tick()?;
        self.injected("remove", name)?;
        self.names.remove(name);
        if down { Err(Halt::Dead) } else { Ok(()) }
    }

    pub fn sync_names(&mut self) -> Step {
        if self.tick()? {
            return Err(Halt::Dead);
        }
        self.injected("fsync", "the folder")?;
        self.durable_names = self.names.clone();
        Ok(())
    }

    fn crash(&mut self, loss: Loss, rng: &mut Rng) {
        (self.crash_at, self.fail_at, self.dead) = (None, None, false);
        if loss == Loss::Nothing {
            return;
        }
        // At most one change of names is pending at a time: it arrived or it did not.
        if loss != Loss::All && rng.chance(50) {
            self.durable_names = self.names.clone();
        }
        self.names = self.durable_names.clone();
        let percent = [0, 10, 50, 90, 100][rng.below(5) as usize];
        for file in self.files.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                if loss != Loss::All {
                    file.arrive_partly(offset, &bytes, percent, loss == Loss::Torn, rng);
                }
            }
            file.cached.clone_from(&file.durable);
        }
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
    }
}

impl SimFile {
    fn arrive(&mut self, offset: usize, bytes: &[u8]) {
        let to = offset + bytes.len();
        if self.durable.len() < to {
            self.durable.resize(to, 0);
        }
        self.durable[offset..to].copy_from_slice(bytes);
    }

    fn arrive_partly(&mut self, offset: usize, bytes: &[u8], percent: u64, torn: bool, rng: &mut Rng) {
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if !rng.chance(percent) {
                continue;
            }
            let part = if torn && rng.chance(20) { rng.below(sector.len() as u64) as usize } else { sector.len() };
            self.arrive(offset + number * SECTOR_BYTES, &sector[..part]);
        }
    }
}
