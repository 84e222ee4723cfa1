//! Damage in the data file: looking for it, and what follows.
//!
//! All pages are read again and again, a few every second, and their checksums compared. A page that is damaged is this
//! member's own matter: nobody gets it (reads of it fail), it is counted and logged, the member is not ready any more, and
//! does not lead if somebody else can (`cluster/handover.rs`). The alarm that stops the writes of all members is not raised.

use super::Home;
use crate::answer::refusal::read_status;
use plinth_engine::error::{Error, StoreError};
use plinth_engine::pagefile::ScrubCursor;
use plinth_engine::trees::{TreeError, TreeId};
use plinth_net::grpc::Status;
use plinth_net::rt::sleep;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time between two steps, and the pages of one: 256 KiB, whose checksums take some 30 µs.
const STEP_INTERVAL: Duration = Duration::from_secs(1);
const STEP_PAGES: usize = 16;

/// A pass over a small file takes no less.
const PASS_MIN: Duration = Duration::from_secs(10);

/// Most damaged pages that are remembered one by one.
const PAGES_MAX: usize = 1024;

/// Damaged pages that are known.
#[derive(Default)]
pub struct Damage {
    pages: RefCell<BTreeSet<u64>>,
}

impl Damage {
    /// Whether there is any.
    pub fn is_known(&self) -> bool {
        !self.pages.borrow().is_empty()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.pages.borrow().len()
    }

    /// Takes notice of a damaged page; false if it was known, or cannot be remembered.
    fn add(&self, page: u64) -> bool {
        let mut pages = self.pages.borrow_mut();
        pages.len() < PAGES_MAX && pages.insert(page)
    }

    /// Goes on with what a whole pass has found: pages that are not in use any more are no damage.
    fn replace(&self, pages: BTreeSet<u64>) {
        *self.pages.borrow_mut() = pages;
    }
}

/// The status of a read that failed. If a damaged page is the reason, it is taken notice of.
pub fn read_failed(home: &Home, error: Error) -> Status {
    if let Error::Broken(StoreError::Tree(TreeError::Corrupt { page, tree, detail })) = &error {
        note(home, *page, *tree, detail);
    }
    read_status(error)
}

fn note(home: &Home, page: u64, tree: u8, detail: &str) {
    if !home.damage.add(page) {
        return;
    }
    home.reactor.metrics.damaged_pages_found.inc();
    let name = TreeId::ALL.into_iter().find(|id| *id as u8 == tree).map_or("unknown", TreeId::name);
    tracing::error!(
        page,
        tree = name,
        detail,
        file = %home.data.path().display(),
        "a page of the data file is damaged: what it holds is not served by this member any more"
    );
}

/// Reads all pages again and again.
pub async fn scrub(home: Rc<Home>) {
    let (mut cursor, mut begun, mut found) = (ScrubCursor::default(), Instant::now(), BTreeSet::new());
    while !home.is_stopping() {
        sleep(STEP_INTERVAL).await;
        let step = home.state().member.store().trees().scrub_step(&mut cursor, STEP_PAGES);
        match step {
            Ok(progress) if progress.done => {
                home.damage.replace(std::mem::take(&mut found));
                home.reactor.metrics.scrubs.inc();
                sleep(PASS_MIN.saturating_sub(begun.elapsed())).await;
                begun = Instant::now();
            }
            Ok(_) => {}
            Err(TreeError::Corrupt { page, tree, detail }) => {
                found.insert(page);
                note(&home, page, tree, &detail);
            }
            Err(error) => tracing::error!(%error, "the data file cannot be read"),
        }
    }
}
