//! What `/v2/stats/store` tells: counts since the store was opened, on this member.

/// What was tried, and how often it succeeded or failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tried {
    /// It was done.
    pub success: u64,
    /// It was refused.
    pub fail: u64,
}

impl Tried {
    /// Counts one.
    pub fn count(&mut self, success: bool) {
        match success {
            true => self.success += 1,
            false => self.fail += 1,
        }
    }
}

/// The counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Stats {
    pub gets: Tried,
    /// Those of all gets that were to show all that is below.
    pub recursive_gets: Tried,
    pub sets: Tried,
    pub deletes: Tried,
    pub updates: Tried,
    pub creates: Tried,
    pub swaps: Tried,
    pub compared_deletes: Tried,
    pub expired: u64,
}

impl Stats {
    /// The answer.
    pub fn to_json(&self, watchers: usize) -> String {
        let pair =
            |name: &str, tried: Tried| format!("\"{name}Success\":{},\"{name}Fail\":{},", tried.success, tried.fail);
        let pairs = [
            pair("gets", self.gets),
            pair("sets", self.sets),
            pair("delete", self.deletes),
            pair("update", self.updates),
            pair("create", self.creates),
            pair("compareAndSwap", self.swaps),
            pair("compareAndDelete", self.compared_deletes),
        ];
        format!("{{{}\"expireCount\":{},\"watchers\":{watchers}}}", pairs.concat(), self.expired)
    }
}
