//! One member of one group: the path of a write from the open batch through consensus and the write-ahead log
//! to the store, and of a linearizable read through a read-index round.
//!
//! Tour: `member` joins log, consensus and store, with `batching`, `reads` and `changes` for who waits; [`log`] is what the
//! members of a machine share; [`round`] is the order in which it is driven; [`keeper`] decides about leases (since when,
//! says `tenure`), [`history`] feeds watchers and compacts, [`compare`] looks whether all members hold the same,
//! [`handover`] gives leadership away, [`downgrade`] says which release of etcd the cluster has, [`space`] looks after a full disk,
//! [`stall`] notices one that does not answer, [`addresses`] says where others are found,
//! [`transfer`] copies snapshots, `install` takes one over, [`backup`] makes one in etcd's format; [`recover`] (with
//! `identity`) and [`records`] read what is stored; [`planted`] holds mistakes for the simulator to find.
//!
//! Sans-I/O like the crates it joins: time is an argument, the disk is behind [`plinth_wal::Disk`] and
//! [`plinth_engine::trees::Trees`], and what the outside has to do comes back as [`Effects`]. The server drives one
//! `Member` per group on its home reactor; the simulator drives many in one thread.
//!
//! Invariants:
//! - a waiter is answered with an outcome only after the entry that holds its command is durable and applied;
//! - entries are applied in index order, each exactly once, also across restarts;
//! - batches close when the log has a free flush slot (natural group commit): there is no batching timer;
//! - everything queued is bounded ([`limits`]); at the bound a submission is refused, never queued.
//!
//! Deliberately absent: sockets, clocks, protobuf, matching of watchers (see `plinth_engine::watch`).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

pub mod addresses;
pub mod backup;
mod batching;
mod changes;
pub mod compare;
pub mod downgrade;
pub mod handover;
pub mod history;
mod identity;
mod install;
pub mod keeper;
pub mod limits;
pub mod log;
mod member;
pub mod planted;
mod reads;
pub mod records;
pub mod recover;
pub mod round;
pub mod space;
pub mod stall;
mod tenure;
pub mod transfer;

pub use member::{Applied, Changed, Effects, Fatal, Lost, META_CONF_STATE, Member, MemberConfig, Pumped, SubmitError};
