//! The list of members in JSON, as `/members` on the peer port answers it and as a joining member reads it.

use plinth_raft::{Member, MemberId};
use serde::{Deserialize, Serialize};

/// One member. Field names and their order are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

impl From<Member> for MemberRecord {
    fn from(member: Member) -> Self {
        let Member { id, name, peer_urls, client_urls, is_learner } = member;
        MemberRecord { id: id.0, peer_urls, is_learner, name, client_urls }
    }
}

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        let MemberRecord { id, peer_urls, is_learner, name, client_urls } = record;
        Member { id: MemberId(id), name, peer_urls, client_urls, is_learner }
    }
}

/// The list as text.
pub fn encode(members: Vec<Member>) -> String {
    let records: Vec<MemberRecord> = members.into_iter().map(MemberRecord::from).collect();
    serde_json::to_string(&records).expect("plain values become text")
}

/// Reads a list.
pub fn decode(text: &[u8]) -> Result<Vec<Member>, serde_json::Error> {
    let records: Vec<MemberRecord> = serde_json::from_slice(text)?;
    Ok(records.into_iter().map(Member::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_look_like_etcds_and_come_back() {
        let started = Member {
            id: MemberId(1),
            name: "a".into(),
            peer_urls: vec!["http://a:2380".into()],
            client_urls: vec!["http://a:2379".into()],
            is_learner: false,
        };
        let learner = Member { id: MemberId(u64::MAX), is_learner: true, ..Member::default() };
        let text = encode(vec![started.clone(), learner.clone()]);
        assert_eq!(
            text,
            r#"[{"id":1,"peerURLs":["http://a:2380"],"name":"a","clientURLs":["http://a:2379"]},{"id":18446744073709551615,"peerURLs":[],"isLearner":true}]"#
        );
        assert_eq!(decode(text.as_bytes()).expect("own text"), [started, learner]);
        assert!(decode(b"{}").is_err());
    }
}
