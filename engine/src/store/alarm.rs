//! Alarms: what they are raised for, and what they stop.
//!
//! Active alarms are keys of tree `Alarm`: encoded `etcdserverpb.AlarmMember`, so that they survive restarts.

use plinth_api::wire::take_varint;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::command::{AlarmKind, ArchivedAlarm, ArchivedAlarmAction, ArchivedAlarmKind, CommandRef};
use crate::error::{OpError, StoreError};
use crate::kv_codec;
use crate::store::Store;
use crate::trees::{TreeId, Trees};

/// Active alarms by kind and member.
#[derive(Debug, Default)]
pub struct Alarms {
    active: BTreeSet<(AlarmKind, u64)>,
}

impl Alarms {
    /// Whether an alarm of this kind is active for any member.
    pub fn has(&self, kind: AlarmKind) -> bool {
        self.active.range((kind, 0)..=(kind, u64::MAX)).next().is_some()
    }

    /// Active alarms of one kind, or of all kinds for `None`.
    pub fn list(&self, kind: AlarmKind) -> impl Iterator<Item = (AlarmKind, u64)> {
        self.active.iter().copied().filter(move |&(active, _)| kind == AlarmKind::None || active == kind)
    }
}

fn encode(kind: AlarmKind, member: u64) -> Vec<u8> {
    let mut out = Vec::new();
    kv_codec::put_int_field(&mut out, 0x08, member as i64);
    kv_codec::put_int_field(&mut out, 0x10, kind as i64);
    out
}

fn decode(mut key: &[u8]) -> Option<(AlarmKind, u64)> {
    let (mut member, mut kind) = (0, 0);
    while let Some((&tag, rest)) = key.split_first() {
        let (value, rest) = take_varint(rest)?;
        match tag {
            0x08 => member = value,
            0x10 => kind = value,
            _ => return None,
        }
        key = rest;
    }
    Some((AlarmKind::from_wire(i32::try_from(kind).ok()?)?, member))
}

impl From<ArchivedAlarmKind> for AlarmKind {
    fn from(kind: ArchivedAlarmKind) -> Self {
        match kind {
            ArchivedAlarmKind::None => Self::None,
            ArchivedAlarmKind::NoSpace => Self::NoSpace,
            ArchivedAlarmKind::Corrupt => Self::Corrupt,
        }
    }
}

impl<T: Trees> Store<T> {
    /// Active alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Commands that an active alarm stops. CORRUPT comes first, as in etcd.
    #[inline]
    pub(crate) fn refuse_under_alarm(&self, command: CommandRef<'_>) -> Result<(), OpError> {
        if self.alarms.active.is_empty() {
            return Ok(());
        }
        let (touches_keys, costs_space) = match command {
            CommandRef::Put(_) | CommandRef::LeaseGrant(_) => (true, true),
            CommandRef::Txn(txn) => (true, txn.cost() > 0),
            CommandRef::DeleteRange(_) | CommandRef::Compact(_) => (true, false),
            CommandRef::LeaseRevoke(_) | CommandRef::LeaseExpire(_) => (true, false),
            _ => (false, false),
        };
        if touches_keys && self.alarms.has(AlarmKind::Corrupt) {
            return Err(OpError::Corrupt);
        }
        if costs_space && self.alarms.has(AlarmKind::NoSpace) {
            return Err(OpError::NoSpace);
        }
        Ok(())
    }

    /// Raises, clears or lists alarms; the reply names those concerned.
    pub(crate) fn apply_alarm(&mut self, request: &ArchivedAlarm, out: Option<&mut Vec<u8>>) -> Result<(), StoreError> {
        let (kind, member) = (AlarmKind::from(request.kind), request.member.to_native());
        let mut concerned = Vec::new();
        match request.action {
            ArchivedAlarmAction::Get => concerned.extend(self.alarms.list(kind)),
            ArchivedAlarmAction::Activate if kind == AlarmKind::None => {}
            ArchivedAlarmAction::Activate => {
                self.trees.insert(TreeId::Alarm, &encode(kind, member), b"")?;
                self.alarms.active.insert((kind, member));
                concerned.push((kind, member));
            }
            ArchivedAlarmAction::Deactivate => {
                if self.alarms.active.remove(&(kind, member)) {
                    self.trees.remove(TreeId::Alarm, &encode(kind, member))?;
                    concerned.push((kind, member));
                }
            }
        }
        if let Some(out) = out {
            concerned.iter().for_each(|&(kind, member)| kv_codec::put_message_field(out, 0x12, &encode(kind, member)));
        }
        Ok(())
    }

    pub(crate) fn restore_alarms(&mut self) -> Result<(), StoreError> {
        let (alarms, mut bad) = (&mut self.alarms, None);
        self.trees.scan(TreeId::Alarm, b"", &mut |key, _| match decode(key) {
            Some(alarm) => {
                alarms.active.insert(alarm);
                ControlFlow::Continue(())
            }
            None => {
                bad = Some(key.to_vec());
                ControlFlow::Break(())
            }
        })?;
        match bad {
            Some(key) => Err(StoreError::Record { tree: TreeId::Alarm.name(), key, detail: "not an alarm" }),
            None => Ok(()),
        }
    }
}
