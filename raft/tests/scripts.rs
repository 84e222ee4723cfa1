//! Scripts under `testdata/`: a story, verbs, and what happens. `UPDATE=1` writes down what happens; review the diff.
//!
//! A script is blocks of commands, `----`, and their output; `#` begins a comment. The verbs are in [`Script::run`], one
//! handler each. A command that does nothing visible says `ok`.

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use plinth_raft::{
    Change, ConfChange, ConfChangeKind, ConfState, Entry, EntryKind, Group, GroupConfig, HardState, MemberId,
    PeerMessage, PeerState, PeerStatus, Transition, WindowBounds,
};
use support::node::{Disk, Store};
use support::{Cluster, Options, trace};

/// A command: its verb, plain arguments, `key=value` arguments, and the lines below it that belong to it.
struct Command<'a> {
    verb: &'a str,
    plain: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
    below: Vec<&'a str>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Command<'a> {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a verb");
        let (named, plain): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
        let named = named.into_iter().map(|word| word.split_once('=').expect("it has one")).collect();
        Command { verb, plain, named, below: Vec::new() }
    }

    fn id(&self, at: usize) -> u64 {
        let word = self.plain.get(at).unwrap_or_else(|| panic!("{}: argument {at} is a member", self.verb));
        word.parse().unwrap_or_else(|_| panic!("{}: {word} is not a member", self.verb))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.named.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).map(|value| value.parse().unwrap_or_else(|_| panic!("{key}={value} is not a number")))
    }

    fn ids(&self, key: &str) -> Vec<u64> {
        self.get(key).map(list).unwrap_or_default()
    }
}

/// `(1,2,3)` or `1`.
fn list(text: &str) -> Vec<u64> {
    let inner = text.trim_start_matches('(').trim_end_matches(')');
    inner.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().expect("a member id")).collect()
}

struct Script {
    cluster: Cluster,
    /// What members that join know from the start; nothing in a bootstrapped cluster, whose log says it.
    conf: ConfState,
}

impl Script {
    /// The verbs.
    fn run(&mut self, command: &Command<'_>) -> String {
        match command.verb {
            "cluster" => self.cluster(command),
            "bootstrap" => self.bootstrap(command),
            "join" => {
                let store = Store { conf: self.conf.clone(), ..Store::default() };
                self.cluster.add(command.id(0), Disk::default(), store);
            }
            "snapshots" => self.cluster.snapshots_by_hand = command.plain[0] == "by-hand",
            "quiet" => self.cluster.trace.quiet = command.plain[0] == "on",
            "tick" => self.tick(command),
            "campaign" => self.with(command.id(0), Group::campaign),
            "propose" => return self.propose(command),
            "conf" => return self.conf(command),
            "read" => (0..command.number("times").unwrap_or(1)).for_each(|i| {
                let token = command.id(1) + i;
                self.cluster.read(command.id(0), token);
            }),
            "transfer" => return self.transfer(command),
            "ready" => self.ready(command),
            "flush" => self.repeat(command, Cluster::finish_flush),
            "apply" => self.repeat(command, Cluster::apply_one),
            "deliver" => return self.deliver(command),
            "drop" => return self.drop(command),
            "network" => return self.network(),
            "stabilize" => self.stabilize(command),
            "cut" => self.cut(command),
            "heal" => self.cluster.cut.clear(),
            "crash" => self.cluster.crash(command.id(0), command.number("torn").unwrap_or(0) as usize),
            "start" => self.cluster.restart(command.id(0)),
            "store" => self.cluster.node(command.id(0)).flush_store(),
            "release" => self.cluster.node(command.id(0)).release_log(),
            "compact" => self.with(command.id(0), |group| group.compact(command.id(1))),
            "unreachable" => self.with(command.id(0), |group| group.report_unreachable(MemberId(command.id(1)))),
            "gone" => self.with(command.id(0), |group| group.report_gone(MemberId(command.id(1)))),
            "offer" => self.cluster.send_snapshot(command.id(0), MemberId(command.id(1))),
            "refuse-snapshot" => {
                self.cluster.node(command.id(0)).snapshots_wanted.clear();
                self.with(command.id(0), |group| group.report_snapshot(MemberId(command.id(1)), false));
            }
            "log" => return self.log(command),
            "status" => return self.status(command),
            verb => panic!("unknown verb {verb}"),
        }
        String::new()
    }

    fn with(&mut self, id: u64, act: impl FnOnce(&mut Group)) {
        act(self.cluster.node(id).group.as_mut().unwrap_or_else(|| panic!("{id} is down")));
    }

    /// Members with a given configuration, and logs in the lines below: `1: 1/1 1/2 3/3*100` (term/index*bytes).
    fn cluster(&mut self, command: &Command<'_>) {
        let tune: fn(&mut GroupConfig) = match command.get("limits") {
            Some("tight") => tight,
            Some(other) => panic!("limits={other}"),
            None => |_| {},
        };
        let seed = command.number("seed").unwrap_or(1);
        self.cluster = Cluster::new(Options { seed, tune });
        let mut conf = ConfState::of_voters(command.ids("voters").into_iter().map(MemberId));
        conf.learners = command.ids("learners");
        for id in conf.members() {
            let prefix = format!("{id}:");
            let log = command.below.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("");
            let mut disk = Disk::default();
            let entries: Vec<Entry> = log.split_whitespace().map(entry).collect();
            if let Some(last) = entries.last() {
                disk.hard_state(&HardState { term: last.term, vote: None, commit: 0 });
            }
            disk.entries(&entries);
            disk.durable = disk.records.len();
            let store = Store { conf: conf.clone(), ..Store::default() };
            self.cluster.add(id.0, disk, store);
        }
        self.conf = conf;
    }

    fn bootstrap(&mut self, command: &Command<'_>) {
        self.cluster = Cluster::bootstrapped(Options::default(), &command.ids("voters"));
        self.conf = ConfState::default();
    }

    /// `tick 1 20`: twenty ticks of one member, its readies untouched. `tick (1,2) 20` or `tick all 20`: twenty ticks of
    /// these members, and everything they do among themselves.
    fn tick(&mut self, command: &Command<'_>) {
        let times = if command.plain.len() > 1 { command.id(1) } else { 1 };
        let whom = command.plain[0];
        for _ in 0..times {
            if whom != "all" && !whom.starts_with('(') {
                self.cluster.tick(command.id(0));
                continue;
            }
            let ids = if whom == "all" { self.up() } else { list(whom) };
            ids.iter().for_each(|id| self.cluster.tick(*id));
            self.cluster.stabilize(&ids);
        }
    }

    fn up(&self) -> Vec<u64> {
        let nodes = self.cluster.nodes.iter();
        nodes.filter(|(_, node)| node.group.is_some()).map(|(id, _)| *id).collect()
    }

    /// `propose 1 text`, `propose 1 size=1000 times=5`.
    fn propose(&mut self, command: &Command<'_>) -> String {
        let mut out = String::new();
        for i in 1..=command.number("times").unwrap_or(1) {
            let data = match command.number("size") {
                Some(size) => format!("{i:0>width$}", width = size as usize),
                None => command.plain[1].to_owned(),
            };
            if let Err(error) = self.cluster.propose(command.id(0), data.as_bytes()) {
                let _ = writeln!(out, "refused: {error}");
            }
        }
        out
    }

    /// `conf 1 v4 l5 r3 how=explicit`, `conf 1 leave`, `conf 1 records`.
    fn conf(&mut self, command: &Command<'_>) -> String {
        let change = match command.plain[1] {
            "leave" => ConfChange::leave_joint(),
            "records" => ConfChange::records_only(Bytes::from_static(b"a peer URL")),
            _ => {
                let changes = command.plain[1..].iter().map(|word| change(word)).collect();
                let transition = match command.get("how") {
                    None => Transition::Auto,
                    Some("implicit") => Transition::JointImplicit,
                    Some("explicit") => Transition::JointExplicit,
                    Some(other) => panic!("how={other}"),
                };
                ConfChange { kind: ConfChangeKind::Members { changes, transition }, context: Bytes::new() }
            }
        };
        match self.cluster.propose_conf(command.id(0), &change) {
            Ok(()) => String::new(),
            Err(error) => format!("refused: {error}\n"),
        }
    }

    fn transfer(&mut self, command: &Command<'_>) -> String {
        let target = MemberId(command.id(1));
        match self.cluster.node(command.id(0)).group.as_mut().expect("it runs").transfer_leader(target) {
            Ok(()) => String::new(),
            Err(error) => format!("refused: {error}\n"),
        }
    }

    /// `ready 1`: one `Ready`, its flush begun. `ready 1 all`: until there is none.
    fn ready(&mut self, command: &Command<'_>) {
        let all = command.plain.get(1) == Some(&"all");
        while self.cluster.take_ready(command.id(0)) && all {}
    }

    fn repeat(&mut self, command: &Command<'_>, act: fn(&mut Cluster, u64) -> bool) {
        let times = if command.plain.get(1) == Some(&"all") { 1_000 } else { 1 };
        for _ in 0..times {
            if !act(&mut self.cluster, command.id(0)) {
                return;
            }
        }
    }

    /// Positions of waiting messages that match `from=`, `to=` and `kind=`.
    fn matching(&self, command: &Command<'_>) -> Option<usize> {
        let matches = |message: &PeerMessage| {
            command.number("from").is_none_or(|from| message.from.0 == from)
                && command.number("to").is_none_or(|to| message.to.0 == to)
                && command.get("kind").is_none_or(|kind| trace::message(message).contains(kind))
        };
        let found = self.cluster.network.iter().position(matches);
        if command.get("order") == Some("last") { self.cluster.network.iter().rposition(matches) } else { found }
    }

    /// `deliver from=1 to=2 kind=append order=last count=1 twice=yes`; all that match, unless counted.
    fn deliver(&mut self, command: &Command<'_>) -> String {
        for _ in 0..command.number("count").unwrap_or(u64::MAX) {
            let Some(at) = self.matching(command) else { break };
            if command.get("twice").is_some() {
                let message = self.cluster.network[at].clone();
                self.cluster.receive(message);
            }
            self.cluster.deliver(at);
        }
        String::new()
    }

    fn drop(&mut self, command: &Command<'_>) -> String {
        for _ in 0..command.number("count").unwrap_or(u64::MAX) {
            let Some(at) = self.matching(command) else { break };
            let message = self.cluster.network.remove(at);
            self.cluster.lose(&message);
        }
        String::new()
    }

    fn network(&mut self) -> String {
        self.cluster.network.iter().fold(String::new(), |out, message| out + &trace::message(message) + "\n")
    }

    fn stabilize(&mut self, command: &Command<'_>) {
        let ids: Vec<u64> = command.plain.iter().map(|word| word.parse().expect("a member")).collect();
        let ids = if ids.is_empty() { self.up() } else { ids };
        self.cluster.stabilize(&ids);
    }

    /// `cut 1 (2,3)`: no message passes between them.
    fn cut(&mut self, command: &Command<'_>) {
        for a in list(command.plain[0]) {
            for b in list(command.plain[1]) {
                self.cluster.cut.push((a, b));
            }
        }
    }

    fn log(&mut self, command: &Command<'_>) -> String {
        let node = self.cluster.node(command.id(0));
        let log: Vec<String> = node.log.iter().map(|id| trace::id(*id)).collect();
        format!("behind {}: {}\n", log[0], log[1..].join(" "))
    }

    fn status(&mut self, command: &Command<'_>) -> String {
        let status = self.cluster.node(command.id(0)).group().status();
        let leader = status.leader.map_or("nobody".to_owned(), |leader| leader.to_string());
        let vote = status.vote.map_or("nobody".to_owned(), |vote| vote.to_string());
        let mut out = format!(
            "{:?} of {leader} in term {}, vote {vote}, log {}..{}, durable {}, commit {}, applied {}, {}\n",
            status.role,
            status.term,
            status.first_index,
            status.last_index,
            status.persisted,
            status.commit,
            status.applied,
            trace::conf(&status.conf)
        );
        for PeerStatus { member, matched, next, state, recent_active, in_flight_bytes } in status.peers {
            let state = match state {
                PeerState::Probe => "probe",
                PeerState::Replicate => "replicate",
                PeerState::Snapshot => "snapshot",
            };
            let silent = if recent_active { "" } else { ", silent" };
            let _ = write!(out, "  {member}: {state}, matched {matched}, next {next}{silent}");
            let flow = format!(", {in_flight_bytes} bytes in flight");
            out += if in_flight_bytes > 0 { &flow } else { "" };
            out += "\n";
        }
        out
    }
}

/// Bounds small enough for a script to reach.
fn tight(config: &mut GroupConfig) {
    config.window = WindowBounds { entries: 8, bytes: 10_000 };
    config.append_bytes = 100;
    config.in_flight_messages = 4;
    config.in_flight_bytes = 250;
    config.uncommitted_bytes = 1_000;
}

/// `term/index`, or `term/index*bytes`.
fn entry(word: &str) -> Entry {
    let (id, bytes) = word.split_once('*').unwrap_or((word, "0"));
    let (term, index) = id.split_once('/').expect("term/index");
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{word} is no entry"));
    let data = Bytes::from(vec![b'x'; number(bytes) as usize]);
    Entry { index: number(index), term: number(term), kind: EntryKind::Normal, data }
}

fn change(word: &str) -> Change {
    let (kind, id) = word.split_at(1);
    let id = id.parse().expect("a member");
    match kind {
        "v" => Change::AddVoter(id),
        "l" => Change::AddLearner(id),
        "r" => Change::Remove(id),
        _ => panic!("{word} is no change"),
    }
}

/// One block of a script: comments, commands, output.
#[derive(Default)]
struct Block {
    comments: Vec<String>,
    commands: Vec<String>,
    output: String,
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut block = Block::default();
        let mut in_output = false;
        for line in paragraph.lines() {
            match line {
                "----" => in_output = true,
                _ if in_output => block.output += &format!("{line}\n"),
                _ if line.starts_with('#') || line.is_empty() => block.comments.push(line.to_owned()),
                _ => block.commands.push(line.to_owned()),
            }
        }
        blocks.push(block);
    }
    blocks
}

fn run_block(script: &mut Script, block: &Block) -> String {
    let mut commands: Vec<Command<'_>> = Vec::new();
    for line in &block.commands {
        match commands.last_mut() {
            Some(last) if line.split(':').next().is_some_and(|id| id.parse::<u64>().is_ok()) => last.below.push(line),
            _ => commands.push(Command::parse(line)),
        }
    }
    let mut out = String::new();
    for command in &commands {
        let result = script.run(command);
        for line in script.cluster.trace.lines.drain(..) {
            out += &line;
            out += "\n";
        }
        out += &result;
    }
    if out.is_empty() && !commands.is_empty() {
        out += "ok\n";
    }
    out
}

fn check(path: &Path, update: bool) {
    let text = std::fs::read_to_string(path).expect("a script");
    let mut script = Script { cluster: Cluster::new(Options::default()), conf: ConfState::default() };
    let mut written = String::new();
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    for block in parse(&text) {
        let output = run_block(&mut script, &block);
        if !update {
            let commands = block.commands.join("\n");
            assert_eq!(output, block.output, "{name}, after\n{commands}\n(UPDATE=1 accepts it)");
        }
        for line in block.comments.iter().chain(&block.commands) {
            let _ = writeln!(written, "{line}");
        }
        if !block.commands.is_empty() {
            let _ = write!(written, "----\n{output}");
        }
        written += "\n";
    }
    if update {
        std::fs::write(path, written.trim_end().to_owned() + "\n").expect("the script can be written");
    }
}

#[test]
fn scripts_tell_what_happens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("testdata").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 10, "scripts are missing");
    let update = std::env::var("UPDATE").is_ok();
    for path in paths {
        println!("{}", path.display());
        check(&path, update);
    }
}
