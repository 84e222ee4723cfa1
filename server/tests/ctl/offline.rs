//! `etcdutl` on the files of etcd 3.4 to 3.7: what it prints and how it ends, and the same by etcd 3.7's own `etcdutl`, if
//! there is one. Each tool has a copy of its own.

use super::same::find_etcdctl;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const RELEASES: [&str; 4] = ["3.4", "3.5", "3.6", "3.7"];

/// Words of a command: DB and DIR stand for a database and the data directory that it is in, SNAP for a saved snapshot.
const COMMANDS: &str = "\
hashkv DB
hashkv -w json DB
hashkv DB -w fields
hashkv DB -w table
hashkv DB -w protobuf
hashkv DB -w nonsense
hashkv DB --rev 30
hashkv DB --rev 70
hashkv DB --rev 99999
hashkv DB --rev x
hashkv MISSING
hashkv
hashkv DB DB
hash DB
snapshot status DB
snapshot status DB -w json
-w fields snapshot status DB
snapshot status DB -w table
snapshot status DB -w protobuf
snapshot status DB --write-out nonsense
snapshot status MISSING
snapshot status
snapshot nonsense
snapshot
nonsense
version
completion
completion nonsense
defrag
defrag --data-dir MISSING
defrag --data-dir DIR
snapshot status DB
hashkv DB
migrate
migrate --data-dir DIR
migrate --target-version 3.6
migrate --data-dir DIR --target-version 3
migrate --data-dir DIR --target-version 3.4
migrate --data-dir DIR --target-version 3.9
migrate --data-dir DIR --target-version 4.0
migrate --data-dir MISSING --target-version 3.6
migrate --data-dir DIR --target-version 3.6
snapshot status DB
migrate --data-dir DIR --target-version 3.6
migrate --data-dir DIR --target-version 3.7
snapshot status DB
migrate --data-dir DIR --target-version 3.5
snapshot status DB
migrate --data-dir DIR --target-version 3.9 --force
snapshot status DB
hashkv DB
--timeout x version
hashkv --nonsense
";

/// How a Go program ends that panics.
const PANIC: i32 = 2;

/// What is compared: the exit code, what was printed, and the line that says why not.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    out: String,
    error: String,
}

/// A tool with a directory of its own.
struct Side {
    program: PathBuf,
    first: Option<&'static str>,
    folder: TempDir,
    release: &'static str,
}

impl Side {
    fn new(program: &Path, first: Option<&'static str>, release: &'static str) -> Side {
        let archive = format!("tests/upgrade/golden/etcd-{release}-single.tar.gz");
        let folder = tempfile::tempdir().expect("a folder");
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(archive);
        let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()).status();
        assert!(status.expect("tar is installed").success());
        Side { program: program.to_owned(), first, folder, release }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join(format!("etcd-{}-single/m1", self.release))
    }

    fn run(&self, line: &str) -> Outcome {
        let place = |word: &str| match word {
            "DIR" => self.data_dir(),
            "DB" => self.data_dir().join("member/snap/db"),
            "MISSING" => PathBuf::from("/nonexistent/db"),
            word => PathBuf::from(word),
        };
        let mut command = Command::new(&self.program);
        command.args(self.first).args(line.split(' ').map(place));
        let output = command.output().expect("the tool runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&*self.folder.path().to_string_lossy(), "");
        let error = text(&output.stderr).lines().find(|line| line.starts_with("Error: ")).map(str::to_owned);
        Outcome { code: output.status.code(), out: text(&output.stdout), error: error.unwrap_or_default() }
    }
}

fn ours(release: &'static str) -> Side {
    Side::new(Path::new(env!("CARGO_BIN_EXE_plinth")), Some("util"), release)
}

/// The hash that etcd itself had told of the directory when it was made.
#[test]
fn the_hash_of_a_file_is_what_etcd_told_of_it() {
    for release in RELEASES {
        let side = ours(release);
        let told = std::fs::read_to_string(side.data_dir().with_file_name("hash")).expect("what etcd says");
        // What the log holds behind the database is not in the file: etcd's word counts where there is nothing.
        let outcome = side.run("hashkv DB");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        println!("{release}: {} told {}", outcome.out.trim(), told.trim());
        let before = side.run("snapshot status DB");
        assert_eq!(side.run("defrag --data-dir DIR").code, Some(0));
        assert_eq!(side.run("hashkv DB"), outcome, "a file written anew holds the same");
        let fields = |outcome: &Outcome| outcome.out.split(", ").take(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(fields(&side.run("snapshot status DB")), fields(&before));
    }
}

#[test]
fn both_tools_say_the_same() {
    let Some(etcdutl) = find_etcdctl().map(|etcdctl| etcdctl.with_file_name("etcdutl")) else {
        return eprintln!("skipped: there is no etcd, see tools/install-etcd");
    };
    let version = Command::new(&etcdutl).arg("version").output().map(|output| output.stdout).unwrap_or_default();
    if !version.starts_with(b"etcdutl version: 3.7.") {
        return eprintln!("skipped: {} is not 3.7's", etcdutl.display());
    }
    let mut differences = Vec::new();
    for release in RELEASES {
        let (theirs, ours) = (Side::new(&etcdutl, None, release), ours(release));
        let mut is_rewritten = false;
        for line in COMMANDS.lines() {
            let (mut theirs, mut ours) = (theirs.run(line), ours.run(line));
            if is_help(line) {
                (theirs.out, ours.out) = Default::default();
            }
            if theirs.code == Some(PANIC) {
                // It does not read what etcd up to 3.5 writes into its log. What comes next would differ.
                break;
            }
            is_rewritten |= line.starts_with("defrag --data-dir DIR");
            if is_rewritten && line == "snapshot status DB" {
                // Pages are laid out otherwise: of the size nothing is said.
                let but_size = |outcome: &mut Outcome| {
                    let parts: Vec<&str> = outcome.out.split(", ").collect();
                    assert_eq!(parts.len(), 5, "{outcome:?}");
                    outcome.out = [&parts[..3], &parts[4..]].concat().join(", ");
                };
                but_size(&mut theirs);
                but_size(&mut ours);
            }
            if theirs != ours {
                differences.push(format!("etcd {release}: {line}\n  theirs: {theirs:?}\n  ours:   {ours:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Commands that print a text of the tool's own.
fn is_help(line: &str) -> bool {
    matches!(line, "snapshot" | "snapshot nonsense")
}

/// A directory that holds data of the v2 API, and one that does not.
#[test]
fn data_of_the_v2_api_is_found() {
    let side = ours("3.5");
    let none = side.run("check v2store --data-dir DIR");
    assert_eq!((none.code, none.out.as_str()), (Some(0), "No custom content found in both v2store and WAL records.\n"));
    let missing = side.run("check v2store");
    assert_eq!(missing.error, "Error: required flag(s) \"data-dir\" not set");
}
