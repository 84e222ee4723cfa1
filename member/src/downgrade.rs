//! Going back to the release of etcd before: what a cluster that was asked to says of itself until that is cancelled.
//!
//! The release is part of what goes out: snapshots, backups and exports have the schema of the release that the cluster
//! says it has, so that an etcd of that release opens them. Members themselves stay what they are; none of them ever reports
//! the older release, so the job ends when somebody cancels it.

use plinth_engine::store::meta;
use plinth_engine::trees::{TreeError, TreeId, View};
use std::fmt;

/// A release, without its patch version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Release {
    major: u64,
    minor: u64,
}

/// Why a cluster does not go back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No version of the form `MAJOR.MINOR` or `MAJOR.MINOR.PATCH`.
    Format,
    /// Not the release right before that of the cluster.
    Target,
    /// The cluster goes back already.
    InProgress,
}

impl Release {
    /// Release `major.minor`.
    pub const fn new(major: u64, minor: u64) -> Release {
        Release { major, minor }
    }

    /// Reads `MAJOR.MINOR` or `MAJOR.MINOR.PATCH`; what follows a patch version as `-rc.0` or `+build` does not count.
    pub fn parse(text: &str) -> Option<Release> {
        let release = &text[..text.find(['-', '+']).unwrap_or(text.len())];
        let mut numbers = release.split('.').map(|number| {
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<u64>().ok().filter(|_| is_number)
        });
        let (major, minor) = (numbers.next()??, numbers.next()??);
        match numbers.next() {
            Some(patch) => patch.map(drop)?,
            None if release.len() < text.len() => return None,
            None => {}
        }
        numbers.next().is_none().then_some(Release { major, minor })
    }

    /// Without a patch version, as answers tell it: `3.6`.
    pub fn minor(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    fn before(self) -> Option<Release> {
        Some(Release { minor: self.minor.checked_sub(1)?, ..self })
    }
}

/// As a cluster's version is written: `3.6.0`.
impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

/// The release that the cluster goes back to; nothing if it does not.
pub fn target(view: &impl View) -> Result<Option<Release>, TreeError> {
    let recorded = view.value(TreeId::Meta, meta::DOWNGRADE)?;
    Ok(recorded.and_then(|text| Release::parse(std::str::from_utf8(text).ok()?)))
}

/// The release that the cluster says it has: `own`, or the one it goes back to.
pub fn cluster_version(view: &impl View, own: Release) -> Result<Release, TreeError> {
    Ok(target(view)?.unwrap_or(own))
}

/// Whether a cluster of release `cluster` that already goes back to `underway` may go back to what `text` names.
pub fn validate(text: &str, cluster: Release, underway: Option<Release>) -> Result<Release, Refused> {
    let wanted = Release::parse(text).ok_or(Refused::Format)?;
    match underway {
        Some(target) if wanted == target || Some(wanted) == target.before() => Err(Refused::InProgress),
        Some(_) => Err(Refused::Target),
        None if Some(wanted) == cluster.before() => Ok(wanted),
        None => Err(Refused::Target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_engine::trees::{MemTrees, Trees};

    const CLUSTER: Release = Release::new(3, 7);
    const BEFORE: Release = Release::new(3, 6);

    #[test]
    fn a_cluster_goes_back_by_exactly_one_release() {
        for text in ["3.6", "3.6.0", "3.6.12", "3.6.0-rc.1", "3.6.0+build"] {
            assert_eq!(validate(text, CLUSTER, None), Ok(BEFORE), "{text}");
        }
        for text in ["3.5", "3.7", "3.8", "2.6", "4.6", "0.0"] {
            assert_eq!(validate(text, CLUSTER, None), Err(Refused::Target), "{text}");
        }
        for text in
            ["", "3", "x", "v3.6", "3.", "3.6.", "3.6.0.0", "3.-6", "+3.6", "3.6-rc", "3. 6", "3.18446744073709551616"]
        {
            assert_eq!(validate(text, CLUSTER, None), Err(Refused::Format), "{text}");
        }
    }

    #[test]
    fn a_cluster_that_goes_back_does_not_do_so_twice() {
        assert_eq!(validate("3.6", CLUSTER, Some(BEFORE)), Err(Refused::InProgress));
        assert_eq!(validate("3.5", CLUSTER, Some(BEFORE)), Err(Refused::InProgress));
        assert_eq!(validate("3.7", CLUSTER, Some(BEFORE)), Err(Refused::Target));
        assert_eq!(validate("x", CLUSTER, Some(BEFORE)), Err(Refused::Format));
    }

    #[test]
    fn what_is_recorded_is_what_the_cluster_says() {
        let mut trees = MemTrees::default();
        assert_eq!(cluster_version(&trees, CLUSTER).expect("memory does not break"), CLUSTER);
        trees.insert(TreeId::Meta, meta::DOWNGRADE, b"3.6.0").expect("memory does not break");
        assert_eq!(target(&trees).expect("memory does not break"), Some(BEFORE));
        assert_eq!(cluster_version(&trees, CLUSTER).expect("memory does not break"), BEFORE);
        assert_eq!((BEFORE.to_string(), BEFORE.minor()), ("3.6.0".to_owned(), "3.6".to_owned()));
    }
}
