//! Scripts of commands and what came of them, in `testdata`. A line is a command; what it answered stands behind it, down to
//! an empty line. `UPDATE=1` writes the answers anew; the difference is to be reviewed.
//!
//! ```text
//! at SECONDS                                 the time of what follows
//! set|mkdir PATH [VALUE] [ttl=N] [refresh]   create|createdir, post, update: the same
//! cas PATH VALUE [prev=V] [index=N] [ttl=N] [refresh]        cad PATH [prev=V] [index=N]
//! get PATH [recursive]                       delete PATH [dir] [recursive]
//! sync, stats, reload, own
//! watch NAME PATH [recursive] [stream] [since=N]             next NAME: what it gets, until it waits
//! ```

use plinth_v2::hub::{Interest, WatchError};
use plinth_v2::tree::{Before, Leaves, Moment};
use plinth_v2::{Answer, Hub, Tree, V2Error, WatchId, Watched, path, record};
use std::collections::{BTreeMap, HashMap};
use std::{env, fs};

const SECOND: i64 = 1_000_000_000;
/// The moment at which scripts begin.
const BEGIN: i64 = 1_800_000_000;

/// What is stored, by place and key.
type Records = BTreeMap<(bool, [u8; 8]), Vec<u8>>;

struct World {
    tree: Tree,
    hub: Hub,
    now: i64,
    watchers: HashMap<String, WatchId>,
    records: Records,
}

struct Words<'a> {
    plain: Vec<&'a str>,
    options: HashMap<&'a str, &'a str>,
    flags: Vec<&'a str>,
}

const FLAGS: [&str; 4] = ["recursive", "dir", "stream", "refresh"];

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Words<'a> {
        let mut words = Words { plain: Vec::new(), options: HashMap::new(), flags: Vec::new() };
        for word in line.split(' ') {
            match word.split_once('=') {
                Some((name, value)) => {
                    words.options.insert(name, value);
                }
                None if FLAGS.contains(&word) => words.flags.push(word),
                None => words.plain.push(word),
            }
        }
        words
    }

    fn word(&self, at: usize) -> &'a str {
        self.plain.get(at).copied().unwrap_or_default()
    }

    fn path(&self, at: usize) -> Vec<u8> {
        path::join(path::KEYS, self.word(at).as_bytes())
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn number(&self, name: &str) -> u64 {
        self.options.get(name).map_or(0, |text| text.parse().expect("a number"))
    }

    fn before(&self) -> Before<'a> {
        let value = self.options.get("prev").copied().unwrap_or_default().as_bytes();
        Before { value, index: self.number("index") }
    }

    fn leaves(&self, now: i64) -> Leaves<'a> {
        let ttl = self.options.get("ttl").map(|text| text.parse::<i64>().expect("a number"));
        let expires = ttl.map_or(0, |ttl| now + ttl * SECOND);
        Leaves { value: self.word(2).as_bytes(), expires, refresh: self.is("refresh") }
    }
}

impl World {
    fn new() -> World {
        World {
            tree: Tree::default(),
            hub: Hub::default(),
            now: BEGIN * SECOND,
            watchers: HashMap::new(),
            records: Records::new(),
        }
    }

    fn run(&mut self, line: &str) -> String {
        let words = Words::new(line);
        let moment = Moment { at: self.now, shown_at: self.now };
        let leaves = words.leaves(self.now);
        let (tree, path) = (&mut self.tree, words.path(1));
        let result = match words.word(0) {
            "set" => tree.set(&path, false, leaves, moment),
            "mkdir" => tree.set(&path, true, leaves, moment),
            "create" => tree.create(&path, false, false, leaves, moment),
            "createdir" => tree.create(&path, true, false, leaves, moment),
            "post" => tree.create(&path, false, true, leaves, moment),
            "update" => tree.update(&path, leaves, moment),
            "cas" => tree.compare_and_swap(&path, words.before(), leaves, moment),
            "cad" => tree.compare_and_delete(&path, words.before(), moment),
            "delete" => tree.delete(&path, words.is("dir"), words.is("recursive"), moment),
            "get" => tree.get(&path, words.is("recursive"), self.now),
            _ => return self.run_other(&words),
        };
        let answer = Answer::of(&result, self.tree.index(), false);
        self.settle();
        format!("{} {} {}", answer.status, answer.index, String::from_utf8_lossy(&answer.json))
    }

    fn run_other(&mut self, words: &Words<'_>) -> String {
        let text = match words.word(0) {
            "at" => {
                self.now = (BEGIN + words.word(1).parse::<i64>().expect("seconds")) * SECOND;
                String::new()
            }
            "sync" => {
                self.tree.sync(self.now);
                format!("{}\n", self.tree.index())
            }
            "own" => {
                self.tree.note_own_change();
                format!("{}\n", self.tree.index())
            }
            "begin" => {
                self.tree.begin(words.word(1).parse().expect("a number"));
                format!("{}\n", self.tree.index())
            }
            "keep" => {
                self.tree.set_history_bounds(words.word(1).parse().expect("a number"), usize::MAX);
                String::new()
            }
            "stats" => format!("{}\n", self.tree.stats().to_json(self.hub.waiting())),
            "reload" => {
                self.reload();
                String::new()
            }
            "watch" => self.watch(words),
            "next" => self.next(words.word(1)),
            other => panic!("no verb {other}"),
        };
        self.settle();
        text
    }

    fn watch(&mut self, words: &Words<'_>) -> String {
        let path = words.path(2);
        let (recursive, stream) = (words.is("recursive"), words.is("stream"));
        let interest = Interest { path: &path, recursive, stream, since: words.number("since") };
        match self.hub.watch(interest, self.tree.contains(&path), self.tree.history()) {
            Ok(id) => {
                self.watchers.insert(words.word(1).to_string(), id);
                String::new()
            }
            Err(WatchError::Refused(error)) => String::from_utf8(V2Error::to_json(&error)).expect("text"),
            Err(WatchError::TooMany) => panic!("there are few"),
        }
    }

    fn next(&mut self, name: &str) -> String {
        let mut text = String::new();
        loop {
            match self.hub.next(self.watchers[name], self.tree.history()) {
                Watched::Event(event) => {
                    let mut json = Vec::new();
                    event.write_json(&mut json, false);
                    text += &String::from_utf8(json).expect("text");
                }
                Watched::Pending => return text + "waits\n",
                Watched::Ended => return text + "over\n",
            }
        }
    }

    /// Stores what has changed, and tells of it.
    fn settle(&mut self) {
        for write in self.tree.take_writes() {
            let key = (write.place == record::Place::Events, write.key);
            match write.value {
                Some(value) => drop(self.records.insert(key, value)),
                None => drop(self.records.remove(&key)),
            }
        }
        self.hub.publish(self.tree.history(), self.tree.index());
    }

    fn reload(&mut self) {
        let of = |events: bool| {
            let records = self.records.iter().filter(move |((is_event, _), _)| *is_event == events);
            records.map(|((_, key), value)| (&key[..], &value[..]))
        };
        let again = Tree::load(of(false), of(true)).expect("what was stored is read again");
        assert_eq!(again.index(), self.tree.index());
        assert_eq!(again.nodes().collect::<Vec<_>>(), self.tree.nodes().collect::<Vec<_>>());
        assert_eq!(again.bytes(), self.tree.bytes());
        assert!(again.history().from(0).eq(self.tree.history().from(0)));
        self.tree = again;
    }
}

#[test]
fn scripts_answer_as_written() {
    let update = env::var_os("UPDATE").is_some();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let mut files: Vec<_> = fs::read_dir(folder).expect("scripts").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() > 3, "scripts are missing");
    for file in files {
        let text = fs::read_to_string(&file).expect("a script");
        let (mut world, mut written) = (World::new(), String::new());
        for block in text.split("\n\n") {
            let mut lines = block.lines().peekable();
            while let Some(line) = lines.next() {
                written += &format!("{line}\n");
                if line.starts_with('#') || line.is_empty() {
                    continue;
                }
                let answered = world.run(line);
                // What was answered before ends with the block, or where the next command is.
                while lines.next_if(|line| line.starts_with("  ")).is_some() {}
                answered.lines().for_each(|line| written += &format!("  {line}\n"));
            }
            written += "\n";
        }
        let written = format!("{}\n", written.trim_end());
        if update {
            fs::write(&file, written).expect("written");
        } else {
            assert_eq!(written, text, "{}", file.display());
        }
    }
}
