//! What happened, one line each, for scripts and for the last words of a failing schedule.

use plinth_raft::{
    Change, ConfChange, ConfChangeKind, ConfState, Entry, EntryId, EntryKind, PeerBody, PeerMessage, Ready, Role,
};

#[derive(Default)]
pub struct Trace {
    pub lines: Vec<String>,
    /// Leaves out messages and flushes.
    pub quiet: bool,
    /// Keeps nothing at all.
    pub off: bool,
}

impl Trace {
    pub fn line(&mut self, line: impl FnOnce() -> String) {
        if !self.off {
            self.lines.push(line());
        }
    }

    fn detail(&mut self, line: impl FnOnce() -> String) {
        if !self.quiet {
            self.line(line);
        }
    }

    pub fn ready(&mut self, id: u64, ready: &Ready) {
        if let Some(change) = ready.role {
            self.line(|| {
                let role = match change.role {
                    Role::Follower => "follows",
                    Role::PreCandidate => "is pre-candidate",
                    Role::Candidate => "is candidate",
                    Role::Leader => "leads",
                };
                let leader = match change.leader {
                    Some(leader) if change.role == Role::Follower => format!(" {leader}"),
                    None if change.role == Role::Follower => " nobody".to_owned(),
                    _ => String::new(),
                };
                format!("{id} {role}{leader} in term {}", change.term)
            });
        }
        if let Some(meta) = &ready.snapshot {
            self.line(|| format!("{id} installs the snapshot at {} {}", self::id(meta.id), conf(&meta.conf)));
        }
        if let Some(state) = &ready.hard_state {
            let vote = state.vote.map_or("nobody".to_owned(), |vote| vote.to_string());
            self.detail(|| format!("{id} writes term {}, vote {vote}, commit {}", state.term, state.commit));
        }
        if !ready.entries.is_empty() {
            self.line(|| format!("{id} appends {}", entries(&ready.entries)));
        }
        if !ready.committed.is_empty() {
            self.line(|| format!("{id} commits {}", entries(&ready.committed)));
        }
        for read in &ready.read_states {
            self.line(|| format!("{id} may serve read {} at {}", read.token, read.index));
        }
        for token in &ready.failed_reads {
            self.line(|| format!("{id} fails read {token}"));
        }
        for to in &ready.snapshot_requests {
            self.line(|| format!("{id} needs a snapshot for {to}"));
        }
        for sent in &ready.messages {
            self.detail(|| format!("{id} sends {}", message(sent)));
        }
        for sent in &ready.persisted_messages {
            self.detail(|| format!("{id} sends, once durable, {}", message(sent)));
        }
    }

    pub fn received(&mut self, received: &PeerMessage) {
        self.detail(|| format!("{} gets {}", received.to, message(received)));
    }

    pub fn lost(&mut self, lost: &PeerMessage) {
        self.detail(|| format!("lost: {}", message(lost)));
    }

    pub fn applied(&mut self, id: u64, entry: &Entry, conf: &ConfState) {
        if entry.kind == EntryKind::ConfChange {
            self.line(|| format!("{id} applies {}: {}", self::id(entry.id()), self::conf(conf)));
        }
    }
}

pub fn id(id: EntryId) -> String {
    format!("{}/{}", id.term, id.index)
}

fn list(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("({})", ids.join(","))
}

pub fn conf(conf: &ConfState) -> String {
    let mut out = format!("voters={}", list(&conf.voters));
    for (name, ids) in
        [("outgoing", &conf.voters_outgoing), ("learners", &conf.learners), ("learners-next", &conf.learners_next)]
    {
        if !ids.is_empty() {
            out += &format!(" {name}={}", list(ids));
        }
    }
    if conf.auto_leave {
        out += " auto-leave";
    }
    out
}

pub fn conf_change(change: &ConfChange) -> String {
    match &change.kind {
        ConfChangeKind::LeaveJoint => "leave-joint".to_owned(),
        ConfChangeKind::RecordsOnly => "records".to_owned(),
        ConfChangeKind::Members { changes, .. } => {
            let word = |change: &Change| match change {
                Change::AddVoter(id) => format!("v{id}"),
                Change::AddLearner(id) => format!("l{id}"),
                Change::Remove(id) => format!("r{id}"),
            };
            changes.iter().map(word).collect::<Vec<_>>().join("+")
        }
    }
}

pub fn entry(entry: &Entry) -> String {
    let content = match entry.kind {
        EntryKind::Normal if entry.data.is_empty() => String::new(),
        EntryKind::Normal if entry.data.len() > 16 => format!(":({} bytes)", entry.data.len()),
        EntryKind::Normal => format!(":{}", String::from_utf8_lossy(&entry.data)),
        EntryKind::ConfChange => format!(":{}", conf_change(&ConfChange::decode(&entry.data).expect("a change"))),
    };
    format!("{}/{}{content}", entry.term, entry.index)
}

pub fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

pub fn message(message: &PeerMessage) -> String {
    let body = match &message.body {
        PeerBody::Propose => "propose".to_owned(),
        PeerBody::Append { prev, commit } => format!("append behind {} commit {commit}", id(*prev)),
        PeerBody::AppendResponse { index, reject: Some(hint), .. } => {
            format!("refusal of {index}, hint {}", id(*hint))
        }
        PeerBody::AppendResponse { index, commit, .. } => format!("acknowledgement of {index}, commit {commit}"),
        PeerBody::Vote { pre, transfer, last, .. } => {
            let kind = if *pre { "pre-vote" } else { "vote" };
            format!("{kind} request, log {}{}", id(*last), if *transfer { ", by transfer" } else { "" })
        }
        PeerBody::VoteResponse { pre, reject, .. } => {
            let kind = if *pre { "pre-vote" } else { "vote" };
            format!("{kind} {}", if *reject { "refused" } else { "granted" })
        }
        PeerBody::Snapshot(meta) => format!("snapshot at {} {}", id(meta.id), conf(&meta.conf)),
        PeerBody::Heartbeat { commit, round } => {
            format!("heartbeat commit {commit}{}", if round.is_some() { " for reads" } else { "" })
        }
        PeerBody::HeartbeatResponse { round, .. } => {
            format!("heartbeat response{}", if round.is_some() { " for reads" } else { "" })
        }
        PeerBody::TimeoutNow => "timeout-now".to_owned(),
        PeerBody::ReadIndex { .. } => "read-index".to_owned(),
        PeerBody::ReadIndexResponse { index, .. } => format!("read-index response {index}"),
    };
    let entries =
        if message.entries.is_empty() { String::new() } else { format!(" {}", self::entries(&message.entries)) };
    format!("{}->{} t{} {body}{entries}", message.from, message.to, message.term)
}
