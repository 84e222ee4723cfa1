//! Versions the server reports.
//!
//! Clients and operators look at etcd's version to know what they can use, so the version of the API that Plinth is
//! compatible with comes first everywhere; Plinth's own is added where there is room for it.

use plinth_member::downgrade::Release;

/// The etcd release whose behaviour Plinth has.
pub const ETCD_VERSION: &str = "3.7.1";
/// The cluster version of a cluster whose members are all of this version; that of the storage format as etcd counts it
/// follows it.
pub const CLUSTER_VERSION: Release = Release::new(3, 7);
/// The oldest cluster version this server can be part of.
pub const MIN_CLUSTER_VERSION: &str = "3.0.0";
/// Plinth's own version.
pub const PLINTH_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit the binary was built from, if the build was told (`PLINTH_GIT_SHA`).
pub const GIT_SHA: &str = match option_env!("PLINTH_GIT_SHA") {
    Some(sha) => sha,
    None => "unknown",
};

/// What stands where etcd names the version of its Go runtime.
pub fn runtime() -> String {
    format!("none (Plinth {PLINTH_VERSION}, Rust)")
}

/// The architecture under Go's name for it.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The four lines of `--version`.
pub fn lines() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: {GIT_SHA}\nGo Version: {}\nGo OS/Arch: {}/{}\n",
        runtime(),
        std::env::consts::OS,
        arch()
    )
}
