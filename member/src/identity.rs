//! Who a member is, as its log says.

use plinth_raft::MemberId;

/// Schema of the metadata record's payload: two little-endian u64, member and cluster id.
pub const METADATA_SCHEMA: u16 = 1;

/// Who a member is, for ever: written when its log is created, and again before old segments are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member: MemberId,
    pub cluster: u64,
}

impl Identity {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.member.0.to_le_bytes());
        out[8..].copy_from_slice(&self.cluster.to_le_bytes());
        out
    }

    /// Nothing if no release before this one has written it.
    pub(crate) fn decode(schema: u16, payload: &[u8]) -> Option<Identity> {
        if schema != METADATA_SCHEMA || payload.len() != 16 {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(payload[at..].first_chunk().copied()?));
        Some(Identity { member: MemberId(number(0)?), cluster: number(8)? })
    }
}
