//! Which release of etcd the cluster says it has.

use super::Home;
use crate::config::version::CLUSTER_VERSION;
use plinth_member::downgrade::{Release, target};

impl Home {
    /// The cluster's version, which its storage version follows.
    pub fn cluster_version(&self) -> Release {
        self.downgrade_target().unwrap_or(CLUSTER_VERSION)
    }

    /// The release that the cluster goes back to. A page that cannot be read is told by whoever looks for such pages; until
    /// then there is no target.
    pub fn downgrade_target(&self) -> Option<Release> {
        target(self.state().member.store().trees()).ok().flatten()
    }
}
