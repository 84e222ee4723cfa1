//! The small buckets of an etcd database, translated from the trees of a store.

use super::ExportError;
use crate::META_CONF_STATE;
use crate::records;
use plinth_bbolt::schema::{self, BUCKETS, Downgrade};
use plinth_engine::store::{EntryId, meta};
use plinth_engine::trees::{TreeId, View};
use plinth_raft::{ConfState, Member};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A member as etcd keeps it.
pub fn etcd_member(member: Member) -> schema::Member {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    schema::Member { id: id.0, peer_urls, is_learner, name, client_urls }
}

/// Entries of one bucket, in order.
pub(super) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Buckets that hold what a tree holds.
pub(super) const SAME: [(&str, TreeId); 4] = [
    ("alarm", TreeId::Alarm),
    (schema::auth::STATE, TreeId::Auth),
    (schema::auth::USERS, TreeId::AuthUsers),
    (schema::auth::ROLES, TreeId::AuthRoles),
];

/// The first schema whose files say their version.
const FIRST_TOLD: &str = "3.6.0";

/// All buckets but `key` and `lease`, which are copied from their trees. `version` is that of the schema, and of the
/// cluster as long as it has not agreed on an older one.
pub(super) fn translate(view: &impl View, version: &str) -> Result<BTreeMap<&'static str, Entries>, ExportError> {
    let mut buckets: BTreeMap<&'static str, Entries> = BUCKETS
        .into_iter()
        .filter(|name| !matches!(*name, "key" | "lease"))
        .map(|name| (name, Entries::new()))
        .collect();
    let mut set = |bucket: &'static str, key: &[u8], value: Vec<u8>| {
        buckets.get_mut(bucket).expect("a bucket of the schema").insert(key.to_vec(), value);
    };
    for (bucket, tree) in SAME {
        view.walk(tree, &[], &mut |key, value| {
            set(bucket, key, value.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    for member in records::listed(view)? {
        let record = etcd_member(member);
        set("members", &schema::member_key(record.id), schema::to_json(&record));
    }
    for id in records::removed(view)? {
        set("members_removed", &schema::member_key(id.0), schema::REMOVED.into());
    }
    // Of one figure each, so that they compare as texts do.
    let agreed = view.value(TreeId::Meta, meta::CLUSTER_VERSION)?.filter(|agreed| *agreed < version.as_bytes());
    let cluster_version = agreed.unwrap_or(version.as_bytes());
    set("cluster", schema::cluster::CLUSTER_VERSION.as_bytes(), cluster_version.to_vec());
    if let Some(target) = view.value(TreeId::Meta, meta::DOWNGRADE)? {
        let target_version = String::from_utf8_lossy(target).into_owned();
        let downgrade = Downgrade { target_version, enabled: true };
        set("cluster", schema::cluster::DOWNGRADE.as_bytes(), schema::to_json(&downgrade));
    }
    for (key, value) in meta_entries(view, version)? {
        set("meta", key.as_bytes(), value);
    }
    Ok(buckets)
}

fn meta_entries(view: &impl View, version: &str) -> Result<Vec<(&'static str, Vec<u8>)>, ExportError> {
    let applied = match view.value(TreeId::Meta, meta::APPLIED)? {
        Some(value) => EntryId::decode(value).ok_or(ExportError::Record { what: "applied entry" })?,
        None => EntryId::default(),
    };
    let mut entries = vec![
        (schema::meta::CONSISTENT_INDEX, applied.index.to_be_bytes().to_vec()),
        (schema::meta::TERM, applied.term.to_be_bytes().to_vec()),
    ];
    if let Some(value) = view.value(TreeId::Meta, META_CONF_STATE)? {
        let conf = ConfState::decode(value).map_err(|_| ExportError::Record { what: "configuration" })?;
        let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = conf;
        let conf = schema::ConfState { voters, learners, voters_outgoing, learners_next, auto_leave };
        entries.push((schema::meta::CONF_STATE, schema::to_json(&conf)));
    }
    for (ours, theirs) in [
        (meta::SCHEDULED_COMPACT, schema::meta::SCHEDULED_COMPACT),
        (meta::FINISHED_COMPACT, schema::meta::FINISHED_COMPACT),
    ] {
        if let Some(value) = view.value(TreeId::Meta, ours)? {
            entries.push((theirs, value.to_vec()));
        }
    }
    if version >= FIRST_TOLD {
        entries.push((schema::meta::STORAGE_VERSION, version.as_bytes().to_vec()));
    }
    Ok(entries)
}
