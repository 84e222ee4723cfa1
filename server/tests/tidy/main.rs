//! The habits that a machine can check: every file says what it is for, pure crates stay pure, unsafe code stays in
//! its rooms, functions stay short, every dependency is accounted for in ARCHITECTURE.md, and no room names one above it.

mod floors;

use std::fs;
use std::path::{Path, PathBuf};

/// Crates that may not touch the world, but for their `sys` rooms.
const PURE: [&str; 5] = ["api/src", "engine/src", "wal/src", "raft/src", "member/src"];

/// Where the log meets the world: its folder, behind the trait that the simulator implements too.
const IO_SIDE: [&str; 1] = ["wal/src/directory.rs"];

/// What a pure crate does not say, and what to use instead.
const BANNED_IN_PURE: [(&str, &str); 8] = [
    ("Instant::now", "take the time as an argument"),
    ("SystemTime::now", "take the time as an argument"),
    ("thread::spawn", "return the work as a value"),
    ("std::net", "leave sockets to `net` and `server`"),
    ("std::fs", "go through the crate's storage trait"),
    ("thread_rng", "take a seeded generator"),
    ("rand::rng()", "take a seeded generator"),
    ("println!", "return a value"),
];

/// What no file says.
const BANNED: [(&str, &str); 4] = [
    ("TODO", "do it, or write it into the closing note"),
    ("FIXME", "do it, or write it into the closing note"),
    ("XXX", "say what is wrong"),
    ("todo!(", "do it"),
];

/// Longest function that may be added; longer ones that exist are listed with their length, which may only shrink.
const FUNCTION_LINES_MAX: usize = 90;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, out);
        } else if name.ends_with(".rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 50, "only {} source files found below {}", files.len(), root.display());
    let mut sources: Vec<(String, String)> = files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is UTF-8");
            let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
            (name, text)
        })
        .filter(|(name, _)| !name.starts_with("server/tests/tidy/"))
        .collect();
    sources.sort();
    sources
}

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The part of a file before its test module.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn is_sys(name: &str) -> bool {
    name.contains("/sys/") || name.ends_with("/sys.rs")
}

#[test]
fn every_file_opens_with_its_purpose() {
    let faults = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| format!("{name}: does not open with `//!`"));
    report(faults.collect());
}

#[test]
fn banned_words_are_absent() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in BANNED {
                if line.contains(word) {
                    faults.push(format!("{name}:{}: `{word}`: {instead}", number + 1));
                }
            }
        }
    }
    report(faults);
}

#[test]
fn pure_crates_do_not_touch_the_world() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        if !PURE.iter().any(|folder| name.starts_with(folder))
            || is_sys(&name)
            || name.contains("test")
            || IO_SIDE.contains(&name.as_str())
        {
            continue;
        }
        for (number, line) in production(&text).lines().enumerate() {
            for (word, instead) in BANNED_IN_PURE {
                if line.contains(word) && !line.trim_start().starts_with("//") {
                    faults.push(format!("{name}:{}: `{word}` in a pure crate: {instead}", number + 1));
                }
            }
        }
    }
    report(faults);
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        if is_sys(&name) || name.contains("/tests/") {
            continue;
        }
        for (number, line) in production(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") {
                faults.push(format!("{name}:{}: unsafe code outside a `sys` folder", number + 1));
            }
        }
    }
    report(faults);
}

/// What others may use says what it is for. Fields and variants say units, ranges and meanings that their names do not, and
/// so do methods of types that their crate keeps to itself.
#[test]
fn public_items_are_documented() {
    const KEPT_INSIDE: [&str; 2] = ["engine/src/pagefile/", "wal/"];
    const ITEMS: [&str; 9] =
        ["fn ", "const ", "async fn ", "unsafe fn ", "struct ", "enum ", "trait ", "static ", "type "];
    let mut faults = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.contains("src/")) {
        let lines: Vec<&str> = production(text).lines().collect();
        let is_inside = KEPT_INSIDE.iter().any(|folder| name.starts_with(folder));
        for (number, line) in lines.iter().enumerate() {
            let Some(item) = line.trim_start().strip_prefix("pub ") else { continue };
            let is_indented = line.starts_with(' ');
            if is_indented && (is_inside || item.starts_with("const ") && !item.starts_with("const fn")) {
                continue;
            }
            if !ITEMS.iter().any(|word| item.starts_with(word)) || item.contains("$name") {
                continue;
            }
            let before = lines[..number].iter().rev().map(|line| line.trim_start());
            let mut before = before.take_while(|line| !line.is_empty() && *line != "}");
            if !before.any(|line| line.starts_with("///") || line.starts_with("#[doc")) {
                faults.push(format!("{name}:{}: is public and not documented: {line}", number + 1));
            }
        }
    }
    report(faults);
}

/// A file is found by its name: these say nothing where there are two of them, so the next one says of what it is.
#[test]
fn names_that_say_nothing_are_given_once() {
    const NAMES: [&str; 5] = ["connection.rs", "head.rs", "options.rs", "wire.rs", "world.rs"];
    let sources = sources();
    let mut faults = Vec::new();
    for file in NAMES {
        let of_name =
            |name: &&str| name.contains("/src/") && !name.contains("/oracle/") && name.rsplit('/').next() == Some(file);
        let found: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).filter(of_name).collect();
        if found.len() > 1 {
            faults.push(found.join(" and ") + ": say of what they are");
        }
    }
    report(faults);
}

/// What ARCHITECTURE.md sends its reader to is there.
#[test]
fn the_map_leads_to_files_that_are_there() {
    let sources = sources();
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map");
    let named = map.split('`').skip(1).step_by(2).filter(|text| text.ends_with(".rs") && !text.contains(' '));
    let is_there = |text: &str| sources.iter().any(|(name, _)| name == text || name.ends_with(&format!("/{text}")));
    let lost = named.filter(|text| !text.contains("tests/tidy/") && !is_there(text));
    report(lost.map(|text| format!("ARCHITECTURE.md names {text}, which is nowhere")).collect());
}

/// A comment on a field or variant that says its name again says nothing: the unit, the range, the reason, or nothing at all.
/// Files of command lines are left out, where comments are the help.
#[test]
fn no_comment_only_repeats_a_name() {
    const SMALL: [&str; 11] = ["the", "a", "an", "of", "its", "it", "is", "this", "and", "whether", "own"];
    let words = |text: &str| -> Vec<String> {
        let spaced: String =
            text.chars().flat_map(|c| [' ', c].into_iter().skip(usize::from(!c.is_uppercase()))).collect();
        let words = spaced.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(|word| word.to_lowercase().trim_end_matches('s').to_string()).collect()
    };
    let mut faults = Vec::new();
    for (name, text) in sources().iter().filter(|(name, text)| name.contains("src/") && !text.contains("clap")) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, around) in lines.windows(3).enumerate() {
            let Some(comment) = around[1].strip_prefix("/// ") else { continue };
            let is_alone = ![around[0], around[2]].iter().any(|line| line.starts_with("///"));
            let item = lines[number + 2..].iter().find(|line| !line.starts_with("#["));
            let item = item.map_or("", |item| item.strip_prefix("pub ").unwrap_or(item));
            let (item, behind) = item.split_once([':', ',', '(', ' ']).unwrap_or((item, ""));
            // Items of their own are described by another rule: `fn name`, `const NAME` and so on.
            let is_part = behind.is_empty() || !behind.starts_with(|c: char| c.is_alphabetic());
            let item = words(item);
            let said = words(comment);
            let mut said = said.iter().filter(|word| !SMALL.iter().any(|small| small.trim_end_matches('s') == *word));
            if is_alone && is_part && !comment.contains('`') && said.all(|word| item.contains(word)) {
                faults.push(format!("{name}:{}: says the name again: {comment}", number + 2));
            }
        }
    }
    report(faults);
}

/// A newcomer finds each room of a crate in the tour at its head.
#[test]
fn every_crate_opens_with_a_tour_of_its_rooms() {
    let mut faults = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.ends_with("src/lib.rs") && !name.contains("/oracle/"))
    {
        let tour: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let rooms = text.lines().filter_map(|line| {
            let room = line.trim_start_matches("pub ").trim_start_matches("(crate) ").strip_prefix("mod ")?;
            room.strip_suffix(';')
        });
        for room in rooms.filter(|room| *room != "tests") {
            let is_named = ["`", "[`", "[mod@", "mod@"]
                .iter()
                .any(|before| ["`", "]", ")"].iter().any(|behind| tour.contains(&format!("{before}{room}{behind}"))));
            if !is_named {
                faults.push(format!("{name}: its tour does not name `{room}`"));
            }
        }
    }
    report(faults);
}

/// What the network edge carries is the service's: texts, names of methods and of metadata come from there.
#[test]
fn the_network_edge_knows_no_word_of_etcd() {
    let mut faults = Vec::new();
    for (name, text) in
        sources().iter().filter(|(name, _)| ["net/src/", "net/tests/"].iter().any(|folder| name.starts_with(folder)))
    {
        for (number, line) in text.lines().enumerate() {
            if line.to_ascii_lowercase().contains("etcd") {
                faults.push(format!("{name}:{}: names etcd: {line}", number + 1));
            }
        }
    }
    report(faults);
}

/// Tests, simulations and measurements draw from `random/`, so that a seed means the same everywhere.
#[test]
fn there_is_one_generator() {
    /// Numbers that a server ships: probes nobody can foresee, elections that differ, a tree that stays flat.
    const SHIPPED: [&str; 3] = ["net/src/peer/core.rs", "raft/src/core/mod.rs", "engine/src/watch/interval.rs"];
    let is_apart =
        |name: &str| name.starts_with("random/") || name.starts_with("raft/oracle/") || SHIPPED.contains(&name);
    let mut faults = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_apart(name)) {
        let text = text.to_ascii_lowercase().replace('_', "");
        // The multipliers of splitmix64, pcg and xorshift*, and a step of xorshift.
        let marks = ["bf58476d1ce4e5b9", "6364136223846793005", "2545f4914f6cdd1d", "<< 13;"];
        if marks.iter().any(|mark| text.contains(mark)) {
            faults.push(format!("{name}: has a generator of its own: use `plinth-random`"));
        }
    }
    report(faults);
}

#[test]
fn functions_fit_a_screen() {
    let mut faults = Vec::new();
    for (name, text) in sources() {
        let mut start: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            let is_fn = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "]
                .iter()
                .any(|prefix| code.starts_with(prefix));
            if is_fn && start.is_none() {
                start = Some((number, indent, code.to_string()));
            }
            if let Some((from, at, head)) = &start
                && indent == *at
                && (code == "}" || code.ends_with("{}") || code.ends_with(" }") || code.ends_with(';'))
            {
                let lines = number - from + 1;
                if lines > FUNCTION_LINES_MAX {
                    faults.push(format!("{name}:{}: {lines} lines: {head}", from + 1));
                }
                start = None;
            }
        }
    }
    report(faults);
}

#[test]
fn every_dependency_is_accounted_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace manifest");
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let section = manifest.split("[workspace.dependencies]").nth(1).expect("a dependency section");
    let section = section.split("\n[").next().expect("its end");
    let names = section.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim()));
    let faults = names
        .filter(|name| !name.starts_with("plinth-") && !name.starts_with('#'))
        .filter(|name| !architecture.contains(&format!("`{name}`")))
        .map(|name| format!("ARCHITECTURE.md does not say why `{name}` is there"));
    report(faults.collect());
}
