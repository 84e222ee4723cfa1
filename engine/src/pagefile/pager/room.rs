//! Room for changes: growing the file ahead of need, cutting its end off.
//!
//! An operation asks for all the pages it may take before it changes anything, so that running out of space is an
//! error with nothing half done. The file grows well before it must, so that a full disk shows in
//! [`Pager::short_of_space`] while there is still room for deletes and flushes. Every request leaves what a flush
//! takes, so that what was accepted can always be flushed.
//!
//! If an overdraft is allowed, an operation that finds no room on the disk goes on with pages in memory that lie beyond the
//! end of the file. Invariant: all pages beyond the file are dirty or free, and no flush begins while there are any; so that
//! what is on the disk, and what recovery finds, never depends on them.

use std::cell::Cell;

use super::{Packed, Pager, describe};
use crate::pagefile::format::{PAGE_SIZE, PAGES_MAX};
use crate::pagefile::store::{PageIoError, PageStore};
use crate::trees::TreeError;

/// Smallest and largest step by which the file grows, in pages: 256 KiB and 64 MiB. With what is free ahead of need this is
/// less than 1 MiB in a small file, and less than a tenth of a large one: the file is about as large as what is in it.
const GROW_PAGES: (usize, usize) = (16, 4096);
/// Bounds of the free pages below which the file grows ahead of need: 512 KiB and 4 MiB.
const LOW_WATER_PAGES: (usize, usize) = (32, 256);
/// Steps of growth and free pages ahead of need are this part of the file, within their bounds.
const PART_OF_FILE: usize = 32;
/// Free pages that inserts leave to removals, so that deleting can begin on a full disk.
pub(in crate::pagefile) const REMOVAL_RESERVE_PAGES: usize = 16;

impl<S: PageStore> Pager<S> {
    /// Makes sure that `singles` pages and one run of `run` pages can be allocated, growing the file if need be.
    /// Nothing has changed if it fails. Grows ahead of need, so that a full disk shows in
    /// [`Pager::short_of_space`] while there is still room for deletes and flushes.
    #[inline]
    pub fn ensure_room(&mut self, singles: usize, run: usize) -> Result<(), TreeError> {
        if run == 0 && self.space.free_pages() >= singles + self.low_water() {
            return Ok(());
        }
        self.ensure_room_slow(singles, run)
    }

    /// Free pages below which the file grows ahead of need: more than the next flush takes.
    #[inline]
    pub(super) fn low_water(&self) -> usize {
        (self.table.len() / PART_OF_FILE).clamp(LOW_WATER_PAGES.0, LOW_WATER_PAGES.1) + self.flush_needs()
    }

    #[cold]
    fn ensure_room_slow(&mut self, singles: usize, run: usize) -> Result<(), TreeError> {
        self.space.close_window(); // shrinking gives way
        let singles = singles + self.flush_needs();
        let has_run = run == 0 || self.space.find_run(run).is_some();
        let enough = has_run && self.space.free_pages() >= singles + run;
        if enough && (self.grow_blocked || self.space.free_pages() >= singles + run + self.low_water()) {
            return Ok(());
        }
        let chunk = (self.table.len() / PART_OF_FILE).clamp(GROW_PAGES.0, GROW_PAGES.1);
        if enough {
            return match self.grow(chunk, chunk) {
                Err(TreeError::Full { .. }) => Ok(()),
                other => other,
            };
        }
        // A run may begin with the free pages at the end of the file.
        let missing = if has_run { 0 } else { run.saturating_sub(self.space.free_tail()) };
        let free_after = self.space.free_pages() + missing;
        let minimum = missing + (singles + run).saturating_sub(free_after);
        match self.grow(minimum, minimum + chunk) {
            Err(TreeError::Full { .. }) if self.overdraw(minimum) => Ok(()),
            other => other,
        }
    }

    /// See [`PageFile::set_overdraft`](crate::pagefile::PageFile::set_overdraft).
    pub fn set_overdraft(&mut self, pages: usize) {
        self.overdraft_pages = pages;
    }

    /// Whether there are pages beyond the end of the file.
    pub fn is_overdrawn(&self) -> bool {
        self.table.len() > self.file_pages()
    }

    fn file_pages(&self) -> usize {
        (self.store.len() / PAGE_SIZE as u64) as usize
    }

    /// Adds pages in memory, if there may be so many.
    fn overdraw(&mut self, pages: usize) -> bool {
        let target = self.table.len() + pages;
        let is_allowed = target <= PAGES_MAX && target - self.file_pages() <= self.overdraft_pages;
        if is_allowed {
            self.table.resize(target, Cell::new(Packed::FILE));
            self.space.set_pages(target);
        }
        is_allowed
    }

    /// Tries again to grow the file after it could not: there may be room by now, and nobody writes who would find out.
    pub fn retry_space(&mut self) -> Result<(), TreeError> {
        if !self.short_of_space && !self.is_overdrawn() {
            return Ok(());
        }
        let chunk = (self.table.len() / PART_OF_FILE).clamp(GROW_PAGES.0, GROW_PAGES.1);
        // What is in memory needs room before anything else.
        let minimum = if self.is_overdrawn() { 0 } else { chunk };
        match self.grow(minimum, chunk) {
            Err(TreeError::Full { .. }) => Ok(()),
            other => other,
        }
    }

    /// As [`Pager::ensure_room`] for single pages, without growing ahead of need.
    pub fn ensure_room_now(&mut self, singles: usize) -> Result<(), TreeError> {
        let needed = singles + self.flush_needs();
        match needed.checked_sub(self.space.free_pages()) {
            None | Some(0) => Ok(()),
            Some(missing) => self.grow(missing, missing),
        }
    }

    /// Pages a flush takes: each segment of the space map at most once, and what growing adds.
    #[inline]
    fn flush_needs(&self) -> usize {
        self.space.segments() + 2
    }

    /// Grows the file by `wanted` pages, or else by `minimum`.
    pub(super) fn grow(&mut self, minimum: usize, wanted: usize) -> Result<(), TreeError> {
        let pages = self.table.len();
        let mut last = None;
        for target in [pages + wanted, pages + minimum] {
            if target > PAGES_MAX {
                continue;
            }
            match self.store.grow(target as u64 * PAGE_SIZE as u64) {
                Ok(()) => {
                    self.table.resize(target, Cell::new(Packed::FILE));
                    self.space.set_pages(target);
                    self.grow_blocked = target < pages + wanted;
                    self.short_of_space = self.grow_blocked;
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            None | Some(PageIoError::NoSpace { .. }) => {
                self.grow_blocked = true;
                self.short_of_space = true;
                Err(TreeError::Full { size_bytes: self.store.len() })
            }
            Some(other) => Err(TreeError::Io { detail: describe(&other) }),
        }
    }

    /// Cuts free pages off the end of the file, down to `pages`. Pages that are busy stay.
    pub fn truncate(&mut self, pages: usize) -> Result<(), TreeError> {
        let pages = pages.max(self.space.highest_busy().index() + 1);
        if pages >= self.table.len() {
            return Ok(());
        }
        if pages < self.file_pages() {
            let cut = self.store.truncate(pages as u64 * PAGE_SIZE as u64);
            cut.map_err(|error| TreeError::Io { detail: describe(&error) })?;
        }
        self.table.truncate(pages);
        self.space.set_pages(pages);
        self.grow_blocked = false;
        Ok(())
    }
}
