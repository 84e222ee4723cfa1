//! The places there are, and what is asked of each.

use super::http;
use super::terms::{Action, Terms};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every place, by its name.
pub const NAMES: &[&str] = &[
    "afterCommit",
    "applyBeforeOpenSnapshot",
    "backupBeforeRename",
    "backupBeforeVerify",
    "backupBeforeWrite",
    "beforeApplyOneEntryNormal",
    "beforeCommit",
    "beforeLookupWhenForwardLeaseTimeToLive",
    "beforeLookupWhenLeaseTimeToLive",
    "beforePublishing",
    "beforeRangeStreamChunk",
    "beforeSendWatchResponse",
    "beforeServeHTTPLeaseRenew",
    "beforeSyncWatchers",
    "compactAfterCommitBatch",
    "compactBeforeCommitBatch",
    "compactBeforeCommitScheduledCompact",
    "convertAfterData",
    "convertAfterImport",
    "convertAfterLog",
    "convertAfterSnapMoved",
    "convertAfterWalMoved",
    "convertBeforeDone",
    "convertBeforeSetAside",
    "cutOverAfterAlarm",
    "cutOverAfterEnd",
    "cutOverBeforeEnd",
    "defragBeforeCopy",
    "defragBeforeRename",
    "defragOpenFileError",
    "exportAfterDatabase",
    "exportBeforeRename",
    "followAfterReplace",
    "followAfterSnapshot",
    "followBeforeReplace",
    "raftAfterApplySnap",
    "raftAfterSave",
    "raftBeforeAdvance",
    "raftBeforeFollowerSend",
    "raftBeforeLeaderSend",
    "raftBeforeSave",
    "restoreAfterData",
    "restoreAfterImport",
    "restoreAfterLog",
];

/// What is asked of places, by their place in [`NAMES`].
static ASKED: Mutex<BTreeMap<usize, Terms>> = Mutex::new(BTreeMap::new());
/// Places of which something is asked, so that others cost a load.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn asked() -> MutexGuard<'static, BTreeMap<usize, Terms>> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes a place: does what is asked of it, and gives the text of a `return`.
pub fn hit(name: &'static str) -> Option<String> {
    let index = NAMES.binary_search(&name).unwrap_or_else(|_| panic!("{name} is not among the names of fail points"));
    if COUNT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let action = asked().get_mut(&index)?.pass(draw)?;
    match action {
        Action::Off => {}
        Action::Return(text) => return Some(text),
        Action::Sleep(time) => std::thread::sleep(time),
        Action::Print(text) => eprintln!("failpoint print: {name}: {text}"),
        Action::Panic(text) => {
            eprintln!("panic: failpoint panic: {name}: {text}");
            // As a Go program ends by one. Nothing is flushed: that is what it is for.
            std::process::exit(2);
        }
    }
    None
}

/// A number below 100, for chances.
fn draw() -> f64 {
    let random = RandomState::new().hash_one(0_u8);
    (random >> 11) as f64 / (1_u64 << 53) as f64 * 100.0
}

/// What is asked of a place; nothing if it is not known.
pub(super) fn get(name: &str) -> Option<Option<String>> {
    let index = NAMES.binary_search(&name).ok()?;
    Some(asked().get(&index).map(|terms| terms.text().to_string()))
}

/// Asks something of a place.
pub(super) fn set(name: &str, text: &str) -> Result<(), String> {
    let index = NAMES.binary_search(&name).map_err(|_| "failpoint: failpoint does not exist".to_string())?;
    let terms = Terms::parse(text)?;
    let mut asked = asked();
    asked.insert(index, terms);
    COUNT.store(asked.len(), Ordering::Relaxed);
    Ok(())
}

/// Asks nothing of it any more. False if nothing was asked.
pub(super) fn clear(name: &str) -> bool {
    let Ok(index) = NAMES.binary_search(&name) else { return false };
    let mut asked = asked();
    let was_asked = asked.remove(&index).is_some();
    COUNT.store(asked.len(), Ordering::Relaxed);
    was_asked
}

/// Reads `GOFAIL_FAILPOINTS` and listens at `GOFAIL_HTTP`.
///
/// # Errors
/// A term that cannot be read, or an address that cannot be listened on.
pub fn start() -> Result<(), String> {
    if let Ok(list) = std::env::var("GOFAIL_FAILPOINTS") {
        for pair in list.split(';').filter(|pair| !pair.trim().is_empty()) {
            let (name, terms) = pair.split_once('=').ok_or_else(|| format!("failpoint: could not parse {pair:?}"))?;
            set(name.trim(), terms).map_err(|error| format!("{error} ({})", name.trim()))?;
        }
    }
    if let Ok(address) = std::env::var("GOFAIL_HTTP") {
        http::start(&address).map_err(|error| format!("GOFAIL_HTTP {address}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_can_be_asked() {
        assert!(NAMES.is_sorted() && NAMES.windows(2).all(|two| two[0] != two[1]));
        assert_eq!(get("nothing"), None);
        assert_eq!(get("raftAfterApplySnap"), Some(None));
        assert!(set("nothing", "off").is_err() && set("raftAfterApplySnap", "nonsense").is_err());
        set("raftAfterApplySnap", "1*return(\"x\")").expect("set");
        assert_eq!(get("raftAfterApplySnap"), Some(Some("1*return(\"x\")".to_string())));
        assert_eq!([hit("raftAfterApplySnap"), hit("raftAfterApplySnap")], [Some("x".to_string()), None]);
        assert!(clear("raftAfterApplySnap") && !clear("raftAfterApplySnap"));
        assert!((0..100).map(|_| draw()).all(|draw| (0.0..100.0).contains(&draw)));
    }
}
