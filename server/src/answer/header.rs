//! The header of every answer, as bytes.

use plinth_api::wire::{field_message, field_varint, varint_len};

/// The part of every answer's header that does not change between elections.
#[derive(Clone, Debug)]
pub struct HeaderTemplate {
    ids: Vec<u8>,
    raft_term: u64,
}

impl HeaderTemplate {
    /// A template for answers of `member_id` in `cluster_id` at `raft_term`.
    pub fn new(cluster_id: u64, member_id: u64, raft_term: u64) -> HeaderTemplate {
        let mut ids = Vec::with_capacity(24);
        field_varint(&mut ids, 1, cluster_id);
        field_varint(&mut ids, 2, member_id);
        HeaderTemplate { ids, raft_term }
    }

    /// Appends field 1, `ResponseHeader`, with a revision (0 leaves it out).
    pub fn append(&self, out: &mut Vec<u8>, revision: i64) {
        let mut len = self.ids.len();
        if revision != 0 {
            len += 1 + varint_len(revision as u64);
        }
        if self.raft_term != 0 {
            len += 1 + varint_len(self.raft_term);
        }
        debug_assert!(len < 0x80, "a header has at most four varints");
        out.extend_from_slice(&[0x0a, len as u8]);
        out.extend_from_slice(&self.ids);
        field_varint(out, 3, revision as u64);
        field_varint(out, 4, self.raft_term);
    }
}

/// Appends field 1, the header of a result inside a transaction: it has a revision only.
pub fn inner_header(out: &mut Vec<u8>, revision: i64) {
    field_message(out, 1, |out| field_varint(out, 3, revision as u64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::proto::etcdserverpb::PutResponse;
    use prost::Message;

    #[test]
    fn a_header_decodes_to_what_was_given() {
        let header = HeaderTemplate::new(u64::MAX, 0x8e9e_05c5_2164_694d, 3);
        for revision in [0, 1, 127, 128, i64::MAX] {
            let mut out = Vec::new();
            header.append(&mut out, revision);
            let decoded = PutResponse::decode(out.as_slice()).expect("valid").header.expect("present");
            assert_eq!((decoded.cluster_id, decoded.member_id), (u64::MAX, 0x8e9e_05c5_2164_694d));
            assert_eq!((decoded.revision, decoded.raft_term), (revision, 3));
        }
    }
}
