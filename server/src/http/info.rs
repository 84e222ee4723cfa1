//! Endpoints that tell about the server: `/version`, `/metrics`, `/debug/vars`.

use crate::config::version::ETCD_VERSION;
use crate::logging::push_json_string;
use crate::metrics::ProcessStats;
use plinth_member::downgrade::Release;
use plinth_net::http1::Response;

/// `/version`. The version of the storage follows that of the cluster.
pub fn version(cluster: Release) -> Response {
    let cluster = json_string(&cluster.to_string());
    let server = json_string(ETCD_VERSION);
    let text = format!(r#"{{"etcdserver":{server},"etcdcluster":{cluster},"storage":{cluster}}}"#);
    Response::with_body(200, "application/json", text)
}

/// `/metrics`, from the rendered text.
pub fn metrics(text: String) -> Response {
    Response::with_body(200, crate::metrics::CONTENT_TYPE, text)
}

/// What a leader knows about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The member.
    pub id: u64,
    /// Highest index known to be there.
    pub matched: u64,
    /// Next index to send.
    pub next: u64,
    /// How entries are sent: `StateProbe`, `StateReplicate`, `StateSnapshot`.
    pub state: &'static str,
}

/// The state of consensus as `/debug/vars` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// This member.
    pub id: u64,
    pub term: u64,
    /// The member voted for, 0 if none.
    pub vote: u64,
    /// The commit index.
    pub commit: u64,
    /// The leader, 0 if none is known.
    pub lead: u64,
    /// `StateFollower`, `StatePreCandidate`, `StateCandidate` or `StateLeader`.
    pub state: &'static str,
    /// The applied index.
    pub applied: u64,
    /// On the leader, what it knows about all members.
    pub progress: Vec<PeerProgress>,
    /// The member leadership is being given to, 0 if none.
    pub transferee: u64,
}

/// What `/debug/vars` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct DebugVars<'a> {
    /// The command line, the program's name included.
    pub command_line: &'a [String],
    /// Figures of the process.
    pub process: ProcessStats,
    /// The state of consensus.
    pub raft: &'a RaftStatus,
}

/// `/debug/vars`: the shape of Go's `expvar`, with what of it exists here.
pub fn debug_vars(vars: &DebugVars<'_>) -> Response {
    let command_line: Vec<String> = vars.command_line.iter().map(|argument| json_string(argument)).collect();
    let whole = |value: Option<f64>| value.unwrap_or(0.0) as u64;
    let text = format!(
        "{{\n\"cmdline\": [{}],\n\"file_descriptor_limit\": {},\n\"memstats\": {{\"Alloc\":{},\"Sys\":{}}},\n\
         \"raft.status\": {}\n}}\n",
        command_line.join(","),
        whole(vars.process.max_fds),
        whole(vars.process.resident_bytes),
        whole(vars.process.virtual_bytes),
        raft_status(vars.raft)
    );
    Response::with_body(200, "application/json; charset=utf-8", text)
}

fn raft_status(raft: &RaftStatus) -> String {
    let progress: Vec<String> = raft
        .progress
        .iter()
        .map(|peer| {
            format!(r#""{:x}":{{"match":{},"next":{},"state":"{}"}}"#, peer.id, peer.matched, peer.next, peer.state)
        })
        .collect();
    format!(
        r#"{{"id":"{:x}","term":{},"vote":"{:x}","commit":{},"lead":"{:x}","raftState":"{}","applied":{},"progress":{{{}}},"leadtransferee":"{:x}"}}"#,
        raft.id,
        raft.term,
        raft.vote,
        raft.commit,
        raft.lead,
        raft.state,
        raft.applied,
        progress.join(","),
        raft.transferee
    )
}

/// A JSON string as Go writes it into HTTP answers: what would end an HTML script is escaped too.
pub(super) fn json_string(text: &str) -> String {
    const HTML: [(char, &str); 5] =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let mut out = String::with_capacity(text.len() + 2);
    push_json_string(&mut out, text);
    for (character, escape) in HTML {
        if out.contains(character) {
            out = out.replace(character, escape);
        }
    }
    out
}
