//! Reads of the tree, in steps: a listing may be as large as the tree, and so may what a command removes, which readers wait for.

use super::failed;
use crate::answer::status;
use crate::home::Home;
use plinth_net::turn;
use plinth_v2::tree::listing::Listing;
use plinth_v2::{Answer, Tree, V2Error};
use std::rc::Rc;

/// Nodes that a step reads: about a tenth of a millisecond.
const STEP_NODES: usize = 200;

/// Waits until no command is half applied.
pub async fn whole(home: &Home) {
    while home.state().member.store().v2().is_unfinished() && !home.is_stopping() {
        turn::pass().await;
    }
}

/// A listing under way, which holds on to what changes in the tree that it was begun in.
struct Reading<'h> {
    home: &'h Rc<Home>,
    listing: Listing,
    /// Replacements of the data until it was begun: behind another one there is another tree.
    replaced: u64,
}

impl Reading<'_> {
    fn on<R>(&mut self, act: impl FnOnce(&mut Tree, &mut Listing) -> R) -> Option<R> {
        let is_there = self.home.data_replacements() == self.replaced;
        is_there.then(|| act(self.home.state_mut().member.store_mut().v2_mut(), &mut self.listing))
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.on(Tree::give_up);
    }
}

/// What a node is, and what is in it: its children, or all below it.
///
/// # Errors
/// If it is not there, or the tree has changed too much meanwhile.
pub async fn read(home: &Rc<Home>, path: &[u8], recursive: bool) -> Result<Answer, V2Error> {
    whole(home).await;
    let now = home.v2.now();
    let listing = home.state_mut().member.store_mut().v2_mut().list(path, recursive, now)?;
    let mut reading = Reading { home, listing, replaced: home.data_replacements() };
    let mut json = Vec::new();
    let index = reading.listing.index;
    loop {
        match reading.on(|tree, listing| tree.list_some(listing, STEP_NODES, &mut json)) {
            Some(Ok(true)) => return Ok(Answer { status: 200, index, json }),
            Some(Ok(false)) if !home.is_stopping() => turn::pass().await,
            Some(Err(error)) => return Err(error),
            Some(Ok(false)) | None => return Err(failed(&status::STOPPED)),
        }
    }
}
