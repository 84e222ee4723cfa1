//! Five machines with ten groups of three: the layer for many groups ([`plinth_raft::groups`]) on logs that tear.
//!
//! Each machine has one write-ahead log (the real one, on a simulated disk) for all its groups, one line to each other machine,
//! and for each group a small store of keys that is checkpointed now and then, after which the log gives space back.
//! Storms alternate with calms. In a storm machines lose power at any step of their disks, stand still, have disks that take
//! a thousand times longer, cannot be heard or do not hear; parcels are lost, doubled, late; leadership is handed over, and
//! groups move to other machines, member by member.
//!
//! What must hold: all that members of a group apply is the same, at the same index, in every life; a term of a group has
//! one leader; no machine refuses a group of its own; what clients saw of each key is linearizable, so that nothing
//! acknowledged is lost and no read is stale; in a calm every group takes writes again, every member has all of them, and then
//! all groups sleep.
//!
//! Tour: [`groups_options`] (what a seed decides), [`groups_world`] (the queue of events), [`machine`], [`groups_store`], [`pump`]
//! (a round of a machine), [`groups_clients`], [`machine_faults`], [`rot`] (damage to a log), [`groups_calm`] (what must hold in the end), [`groups_bugs`]
//! (planted to see that they are found).
//!
//! Deliberately absent: what is replicated by etcd's rules (see `cluster`).

mod groups_bugs;
mod groups_calm;
mod groups_clients;
mod groups_options;
mod groups_store;
mod groups_world;
mod machine;
mod machine_faults;
mod pump;
mod rot;

pub use groups_bugs::Bug;
pub use groups_world::{Outcome, run, run_with, tell};
