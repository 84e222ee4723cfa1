//! Scripts under `testdata/`: a story, verbs, and what happens. `UPDATE=1` writes down what happens; review the diff.
//!
//! A script is blocks of commands, `----`, and their output; `#` begins a comment. The verbs are in [`Script::run`]. Who
//! waits is named by a word. Messages between members are held until `deliver`, effects of a log's disk until `disk`.

use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Command, DeleteRange, Put};
use plinth_engine::lease::Millis;
use plinth_engine::store::compact::CompactProgress;
use plinth_engine::store::{Store, StoreConfig};
use plinth_engine::trees::MemTrees;
use plinth_engine::watch::{EventBatch, EventMode, Hub, HubConfig};
use plinth_member::log::Log;
use plinth_member::recover::{self, Identity};
use plinth_member::round::{self, Outside};
use plinth_member::{Applied, Changed, Effects, Fatal, Lost, Member, MemberConfig, Pumped, history};
use plinth_raft::{EntryId, GroupConfig, MemberChange, MemberId, PeerMessage, Role, RoleChange, SnapshotMeta};
use plinth_wal::sim_disk::{Loss, Schedule, SimDisk, SimMedium};
use plinth_wal::{GroupId, WalId, WalOptions};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const GROUP: GroupId = GroupId(0);
/// Milliseconds between two ticks, and ticks of an election timeout.
const TICK_MILLIS: u64 = 100;
const ELECTION_TICKS: usize = 10;
const REQUEST_TIMEOUT_MILLIS: u64 = 5_000;
/// More rounds than any script needs until nothing moves.
const ROUNDS_MAX: usize = 10_000;

type ScriptMember = Member<MemTrees, String>;

/// A machine, and the process on it if it runs.
struct Node {
    log: SimMedium,
    process: Option<Process>,
    lives: u64,
}

struct Process {
    member: ScriptMember,
    log: Log<SimDisk>,
    hub: Hub,
    effects: Effects<String>,
    is_woken: bool,
}

#[derive(Default)]
struct Script {
    nodes: BTreeMap<u64, Node>,
    /// Messages on their way.
    network: VecDeque<PeerMessage>,
    now: u64,
    out: String,
    /// Only answers are told.
    is_quiet: bool,
}

struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn id(&self, at: usize) -> u64 {
        self.number(at) as u64
    }

    fn number(&self, at: usize) -> i64 {
        let word = self.0.get(at).unwrap_or_else(|| panic!("{:?}: argument {at} is missing", self.0));
        word.parse().unwrap_or_else(|_| panic!("{:?}: {word} is not a number", self.0))
    }

    fn text(&self, at: usize) -> String {
        self.0.get(at).unwrap_or_else(|| panic!("{:?}: argument {at} is missing", self.0)).to_string()
    }
}

impl Script {
    /// The verbs. The first argument is nearly always a member.
    fn run(&mut self, words: &Words<'_>) {
        match words.0[0] {
            "members" => (1..=words.id(1)).for_each(|id| self.bootstrap(id, words.id(1))),
            "quiet" => self.is_quiet = words.0[1] == "on",
            "time" => self.now += words.id(1),
            "tick" => self.tick(words.id(1), words.0.get(2).map_or(1, |times| times.parse().expect("a number"))),
            "elect" => self.elect(words.id(1)),
            "round" => self.round(words.id(1)),
            "disk" => self.disk(words.id(1)),
            "deliver" => self.deliver(),
            "lose" => self.network.clear(),
            "settle" => self.run_until_quiet(),
            "put" => {
                let put = Put { key: words.text(3).into(), value: words.text(4).into(), ..Put::default() };
                self.submit(words, Command::Put(put));
            }
            "put-leased" => {
                let put = Put { key: words.text(3).into(), lease: words.number(4), ..Put::default() };
                self.submit(words, Command::Put(put));
            }
            "delete" => {
                let delete = DeleteRange { key: words.text(3).into(), ..DeleteRange::default() };
                self.submit(words, Command::DeleteRange(delete));
            }
            "compact" => self.submit(words, Command::Compact { revision: words.number(3) }),
            "grant" => self.submit(words, Command::LeaseGrant { id: words.number(3), ttl: words.number(4) }),
            "read" => {
                let (id, waiter, now) = (words.id(1), words.text(2), Millis(self.now));
                assert!(self.member(id).read(waiter, now).is_ok(), "there is room");
            }
            "scan" => {
                let now = Millis(self.now);
                let scan = self.member(words.id(1)).scan_leases(now, |kind| format!("{kind:?}"));
                let _ = writeln!(self.out, "{} expired, again in {} ms", scan.expired, scan.pause);
            }
            "renew" => {
                let (now, id) = (Millis(self.now), words.number(2));
                let renewing = self.member(words.id(1)).renew_leases(&[id], now);
                let told = renewing.map(|renewing| (renewing.ttls[0], renewing.commands.len()));
                let _ = writeln!(self.out, "time to live and commands: {told:?}");
            }
            "left" => {
                let (now, id) = (Millis(self.now), words.number(2));
                let left = self.member(words.id(1)).store().leases().time_to_live(id, now);
                let _ = writeln!(self.out, "{left:?}");
            }
            "background" => self.background(words.id(1)),
            "crash" => self.crash(words.id(1)),
            "start" => self.start(words.id(1)),
            "status" => self.status(words.id(1)),
            verb => panic!("unknown verb {verb}"),
        }
    }

    fn process(&mut self, id: u64) -> &mut Process {
        let node = self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"));
        node.process.as_mut().unwrap_or_else(|| panic!("{id} is down"))
    }

    fn member(&mut self, id: u64) -> &mut ScriptMember {
        &mut self.process(id).member
    }

    fn submit(&mut self, words: &Words<'_>, command: Command) {
        let (id, waiter, now) = (words.id(1), words.text(2), Millis(self.now));
        let submitted = self.member(id).submit(|out| command.encode_into(out), waiter, now);
        assert!(submitted.is_ok(), "there is room");
    }

    fn bootstrap(&mut self, id: u64, members: u64) {
        let medium = SimMedium::new();
        self.nodes.insert(id, Node { log: medium, process: None, lives: 0 });
        self.boot(id, members);
    }

    fn start(&mut self, id: u64) {
        let members = self.nodes.len() as u64;
        self.boot(id, members);
    }

    /// Starts a process. Its data is all in the log.
    fn boot(&mut self, id: u64, members: u64) {
        let node = self.nodes.get_mut(&id).expect("there is a machine");
        node.lives += 1;
        let mut options = WalOptions::new(WalId(id));
        options.segment_bytes = 64 << 10;
        let disk = SimDisk::new(&node.log, Schedule::Manual);
        let mut found = recover::recover(disk, options, [(GROUP, EntryId::default())]).expect("a sound log");
        let mut entries = found.take(GROUP).expect("a sound member").log;
        let mut log = found.log;
        let identity = Identity { member: MemberId(id), cluster: 1 };
        if !recover::is_bootstrapped(&entries) {
            let record = |id| plinth_raft::Member { id: MemberId(id), ..plinth_raft::Member::default() };
            let add = |id| (MemberId(id), MemberChange::Add(record(id)).encode());
            entries = recover::append_bootstrap(&mut log, GROUP, identity, (1..=members).map(add).collect());
            log.flush().expect("a good disk");
            while !log.is_durable() {
                log.disk_mut().run(0);
                log.poll().expect("a good disk");
            }
        }
        let mut group = GroupConfig::new(GROUP, MemberId(id), id);
        group.election_ticks = ELECTION_TICKS;
        let config = MemberConfig {
            identity,
            group,
            lease_extension_millis: TICK_MILLIS * ELECTION_TICKS as u64,
            first_sequence: node.lives << 32,
            request_timeout_millis: REQUEST_TIMEOUT_MILLIS,
            learners_max: 1,
            apply_budget: plinth_member::limits::APPLY_PER_PUMP,
        };
        let store = Store::open(MemTrees::new(), StoreConfig::default()).expect("an empty store");
        let member = Member::new(config, entries, store).expect("a sound log");
        let hub = Hub::new(HubConfig::default(), 1);
        node.process = Some(Process { member, log, hub, effects: Effects::default(), is_woken: false });
    }

    fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("there is a machine");
        node.process = None;
        node.log.crash(Loss::All, 1);
    }

    fn around(&mut self, id: u64, drive: impl FnOnce(&mut Around<'_>, &mut Effects<String>) -> Result<(), Fatal>) {
        let mut effects = std::mem::take(&mut self.process(id).effects);
        if let Err(fatal) = drive(&mut Around { script: self, id }, &mut effects) {
            let _ = writeln!(self.out, "{id} stops: {fatal}");
        }
        self.process(id).effects = effects;
    }

    fn round(&mut self, id: u64) {
        self.around(id, |around, effects| {
            while round::run(around, effects)? == Pumped::More {}
            Ok(())
        });
    }

    fn tick(&mut self, id: u64, times: u64) {
        for _ in 0..times {
            self.now += TICK_MILLIS;
            self.around(id, |around, effects| round::tick(around, effects));
            self.round(id);
        }
    }

    /// All effects of a log's disk that are due; whether there were some.
    fn disk(&mut self, id: u64) {
        let disk = self.process(id).log.disk_mut();
        while disk.ready() > 0 {
            disk.run(0);
        }
        self.round(id);
    }

    fn deliver(&mut self) {
        for message in std::mem::take(&mut self.network) {
            let to = message.to.0;
            if self.nodes.get(&to).is_some_and(|node| node.process.is_some()) {
                let process = self.process(to);
                process.member.step(&process.log, message).expect("nothing is lost");
                self.round(to);
            } else if self.up().contains(&message.from.0) {
                // There is no connection to who is down, and the transport knows.
                self.member(message.from.0).report_unsent(&message);
            }
        }
    }

    fn up(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.process.is_some()).map(|(id, _)| *id).collect()
    }

    /// Until nothing moves without time.
    fn run_until_quiet(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = !self.network.is_empty();
            self.deliver();
            for id in self.up() {
                self.round(id);
                if self.process(id).log.disk_mut().ready() > 0 {
                    self.disk(id);
                    moved = true;
                }
            }
            if !moved && self.network.is_empty() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn elect(&mut self, id: u64) {
        for round in 0..10 * ELECTION_TICKS {
            if self.member(id).is_leader() {
                return;
            }
            self.tick(id, 1);
            // For the others time goes more slowly: they let go of a leader that is gone, and do not campaign first.
            for other in self.up().into_iter().filter(|other| *other != id && round % 2 == 0) {
                self.around(other, |around, effects| round::tick(around, effects));
                self.round(other);
            }
            self.run_until_quiet();
        }
        panic!("{id} is not elected");
    }

    /// What time is found for, if it was asked for.
    fn background(&mut self, id: u64) {
        let process = self.process(id);
        if !std::mem::take(&mut process.is_woken) {
            let _ = writeln!(self.out, "{id} was not woken");
            return;
        }
        while history::catch_up(&process.member, &mut process.hub).expect("sound data") {}
        let mut steps = 0;
        while history::compact(&mut process.member, &mut process.hub, WorkBudget::STEP).expect("sound data")
            != CompactProgress::Idle
        {
            steps += 1;
        }
        let finished = process.member.store().finished_compact_revision();
        let _ = writeln!(self.out, "{id} compacts in {steps} steps up to revision {finished}");
    }

    fn status(&mut self, id: u64) {
        let member = self.member(id);
        let (store, role) = (member.store(), member.group().role());
        let (revision, applied) = (store.revision(), store.applied());
        let (commands, reads) = (member.pending_commands(), member.pending_reads());
        let leases = store.leases().len();
        let line = format!(
            "{id}: {role:?}, term {}, applied {}/{}, revision {revision}, {leases} leases, \
             {commands} commands and {reads} reads pending",
            member.group().term(),
            applied.term,
            applied.index
        );
        let _ = writeln!(self.out, "{line}");
    }
}

/// What surrounds a member: the script, which tells everything.
struct Around<'a> {
    script: &'a mut Script,
    id: u64,
}

impl Around<'_> {
    fn tell(&mut self, what: &str) {
        let _ = writeln!(self.script.out, "{} {what}", self.id);
    }
}

impl Outside for Around<'_> {
    type Disk = SimDisk;
    type Trees = MemTrees;
    type Waiter = String;
    type Stop = Fatal;

    fn with<R>(&mut self, act: impl FnOnce(&mut ScriptMember, &mut Hub) -> R) -> R {
        let process = self.script.process(self.id);
        act(&mut process.member, &mut process.hub)
    }

    fn with_log<R>(&mut self, act: impl FnOnce(&mut ScriptMember, &mut Log<SimDisk>) -> R) -> R {
        let process = self.script.process(self.id);
        act(&mut process.member, &mut process.log)
    }

    fn now(&mut self) -> Millis {
        Millis(self.script.now)
    }

    fn event_mode(&mut self, _: EventMode) -> EventMode {
        EventMode::Plain
    }

    fn applied(&mut self, effects: &mut Effects<String>) -> Result<(), Fatal> {
        let unasked: Vec<String> =
            effects.unasked.drain(..).map(|(kind, is_done)| format!("{kind:?} {is_done}")).collect();
        effects.granted.clear();
        effects.sign_ins.clear();
        if !unasked.is_empty() && !self.script.is_quiet {
            self.tell(&format!("applies unasked {}", unasked.join(", ")));
        }
        Ok(())
    }

    fn role_changed(&mut self, change: RoleChange) -> Result<(), Fatal> {
        if !self.script.is_quiet || change.role == Role::Leader {
            let leader = change.leader.map(|leader| leader.0);
            self.tell(&format!("is {:?} in term {}, leader {leader:?}", change.role, change.term));
        }
        Ok(())
    }

    fn installed(&mut self, meta: SnapshotMeta) -> Result<(), Fatal> {
        self.tell(&format!("installs {:?}", meta.id));
        Ok(())
    }

    fn answer(&mut self, applied: &mut Vec<Applied<String>>) -> Result<(), Fatal> {
        for (waiter, result) in applied.drain(..) {
            match result {
                Ok(outcome) => self.tell(&format!("answers {waiter}: revision {}", outcome.revision)),
                Err(error) => self.tell(&format!("answers {waiter}: {error}")),
            }
        }
        Ok(())
    }

    fn read(&mut self, reads: &mut Vec<String>) -> Result<(), Fatal> {
        for waiter in reads.drain(..) {
            let revision = self.with(|member, _| member.store().revision());
            self.tell(&format!("reads for {waiter} at revision {revision}"));
        }
        Ok(())
    }

    fn lose(&mut self, lost: &mut Vec<(String, Lost)>) {
        for (waiter, why) in lost.drain(..) {
            self.tell(&format!("loses {waiter}: {why:?}"));
        }
    }

    fn changed(&mut self, changed: &mut Vec<Changed<String>>) {
        for (waiter, result) in changed.drain(..) {
            self.tell(&format!("changes for {waiter}: {result:?}"));
        }
    }

    fn send(&mut self, messages: &mut Vec<PeerMessage>) {
        self.script.network.extend(messages.drain(..));
    }

    fn provide_snapshot(&mut self, to: MemberId) {
        self.tell(&format!("is asked for a snapshot for {}", to.0));
    }

    fn published(&mut self, batch: &EventBatch) -> Result<(), Fatal> {
        let events: Vec<String> =
            batch.events().map(|event| format!("{:?} at {}.{}", event.kind(), event.main(), event.sub())).collect();
        if !events.is_empty() && !self.script.is_quiet {
            self.tell(&format!("publishes {}", events.join(", ")));
        }
        Ok(())
    }

    fn deliver(&mut self) {}

    fn wake_background(&mut self) {
        self.script.process(self.id).is_woken = true;
    }

    fn removed(&mut self) {
        self.tell("is removed");
    }
}

/// Runs a script; what it should have said.
fn replay(text: &str) -> String {
    let (mut script, mut written) = (Script::default(), String::new());
    for block in text.trim_end().split("\n\n") {
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        script.out.clear();
        for line in commands.iter().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            script.run(&Words(line.split_whitespace().collect()));
        }
        written.push_str(&commands.join("\n"));
        if commands.iter().any(|line| !line.starts_with('#')) {
            let said = if script.out.is_empty() { "ok\n" } else { &script.out };
            let _ = write!(written, "\n----\n{}", said.trim_end());
        }
        written.push_str("\n\n");
    }
    written.trim_end().to_string() + "\n"
}

#[test]
fn scripts_say_what_they_said() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() > 4, "scripts are missing");
    let mut differ = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a script");
        let said = replay(&text);
        if said == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, said).expect("writable");
            continue;
        }
        differ.push(difference(&path, &text, &said));
    }
    assert!(differ.is_empty(), "{}\nUPDATE=1 writes down what happens", differ.join("\n"));
}

fn difference(path: &Path, old: &str, new: &str) -> String {
    let same = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
    let around = |text: &str| text.lines().skip(same.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n    ");
    format!("{}, line {}: was\n    {}\nand is\n    {}", path.display(), same + 1, around(old), around(new))
}
