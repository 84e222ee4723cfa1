//! Hand-written protobuf encoding of the hot answers, straight into the connection's output buffer.
//!
//! Field numbers are those of `net/proto/rpc.proto`; a test decodes everything with the generated types. Fields at
//! their default are omitted, as proto3 asks, so that the bytes are what etcd would send.

/// Appends a varint.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that `value` takes as a varint.
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a varint field unless it is zero.
pub fn field_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        varint(out, u64::from(number) << 3);
        varint(out, value);
    }
}

/// Appends a length-delimited field, also when empty.
pub fn field_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a message field whose length is known only after its content is written.
pub fn field_message(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(number) << 3 | 2);
    // Nearly every nested message is shorter than 128 bytes: one byte is left for the length, more are made if needed.
    let at = out.len();
    out.push(0);
    write(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    varint(&mut prefix, len as u64);
    out.splice(at..=at, prefix);
}

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
    use plinth_net::proto::etcdserverpb::{PutResponse, RangeResponse};
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

    #[test]
    fn varint_lengths_agree_with_the_encoding() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }

    #[test]
    fn long_nested_messages_get_a_long_length() {
        for len in [0, 1, 127, 128, 20_000] {
            let mut out = Vec::new();
            field_message(&mut out, 2, |out| field_bytes(out, 5, &vec![7; len]));
            let decoded = RangeResponse::decode(out.as_slice()).expect("valid");
            assert_eq!(decoded.kvs[0].value.len(), len);
        }
    }
}
