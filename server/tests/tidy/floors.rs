//! Who may name whom: crates by their manifests, files by what they `use` or name by path. A lower floor names no higher
//! one, and no circle of files spans two rooms, so that each room can be read, tested and replaced without those above.
//!
//! A room is a folder right below a crate's `src`, with all that is in it, or a file there.

use super::{production, report, root, sources};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;

/// Crates from the ground up. A crate depends on crates of lower floors only.
const CRATES: &[&[&str]] = &[
    &["plinth-console", "plinth-random", "rlimit"],
    &["plinth-api", "plinth-net", "plinth-wal"],
    &["plinth-v2"],
    &["plinth-bbolt", "plinth-engine", "plinth-raft", "plinth-wal-uring"],
    &["plinth-member"],
    &["plinth-benches", "plinth-ctl", "plinth-perf", "plinth-sim"],
    &["plinth-companion"],
    &["plinth-confd", "plinth-gateway", "plinth-metad", "plinth-proxy"],
    &["plinth"],
];

/// Rooms of the server from the ground up. A room names rooms of lower floors and of its own.
const SERVER: &[&[&str]] = &[
    &["caller", "config", "failpoints", "notify", "passwords", "resources", "sys", "tokens", "wake"],
    &["datadir", "discovery", "logging", "metrics"],
    &["tls"],
    &["answer", "http"],
    &["home"],
    &["cluster"],
    &["api", "backup", "console", "endpoints", "gateway", "mesh", "metad", "v2"],
    &["service"],
    &["boot", "follow"],
    &["conversion", "export", "reactor", "restore"],
];

#[test]
fn crates_depend_on_lower_floors_only() {
    let floor = |name: &str| CRATES.iter().position(|floor| floor.contains(&name));
    let mut faults = Vec::new();
    for (folder, manifest) in manifests() {
        let name = manifest.split("name = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a crate's name");
        let Some(own) = floor(name) else {
            faults.push(format!("{folder}: say in `CRATES` on which floor `{name}` is"));
            continue;
        };
        let section = manifest.split("\n[dependencies]").nth(1).unwrap_or_default();
        let section = section.split("\n[").next().unwrap_or_default();
        let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for other in names.filter(|other| other.starts_with("plinth")) {
            if floor(other).is_none_or(|floor| floor >= own) {
                faults.push(format!("{folder}: `{name}` may not depend on `{other}`, which is no lower floor"));
            }
        }
    }
    report(faults);
}

#[test]
fn rooms_of_the_server_name_lower_floors_only() {
    let floor = |room: &str| SERVER.iter().position(|floor| floor.contains(&room));
    let mut faults = Vec::new();
    for (file, names) in graph(&sources(), "server/src") {
        let Some(own) = floor(room(&file)) else {
            faults.push(format!("server/src/{file}: say in `SERVER` on which floor it is"));
            continue;
        };
        for other in names {
            if floor(room(&other)).is_none_or(|floor| floor > own) {
                faults.push(format!("server/src/{file} names {other}, which is on a higher floor"));
            }
        }
    }
    report(faults);
}

#[test]
fn no_circle_of_files_spans_two_rooms() {
    let mut faults = Vec::new();
    let sources = sources();
    for (folder, _) in manifests() {
        let crate_folder = format!("{folder}/src");
        let graph = graph(&sources, &crate_folder);
        for (file, names) in &graph {
            for other in names.iter().filter(|other| room(other) != room(file)) {
                if let Some(back) = path(&graph, other, file) {
                    faults.push(format!("{crate_folder}: a circle: {file} → {}", back.join(" → ")));
                }
            }
        }
    }
    report(faults);
}

#[test]
fn what_a_file_names_is_found() {
    let code = "use crate::{a, b::{self, c::D}};\npub use super::e;\nfn f() { crate::g::h(); super::super::i::j() }";
    let found: BTreeSet<String> = named(code).into_iter().collect();
    let expected = ["crate::a", "crate::b", "crate::b::c::D", "super::e", "crate::g::h", "super::super::i::j"];
    for path in expected {
        assert!(found.contains(path), "{path} is missing in {found:?}");
    }
    let modules: BTreeSet<String> = ["a", "b/c", "x/y", "x"].map(String::from).into();
    assert_eq!(resolve("x/y", false, "super::super::b::c::D", &modules).as_deref(), Some("b/c"));
    assert_eq!(resolve("x", true, "super::a", &modules).as_deref(), Some("a"));
    assert_eq!(resolve("x", true, "self::y::Z", &modules).as_deref(), Some("x/y"));
    assert_eq!(resolve("a", false, "crate::nothing", &modules), None);
}

/// All crates of the workspace: folder and manifest.
fn manifests() -> Vec<(String, String)> {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    let members = workspace.split("\nmembers = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    let folders = members.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty());
    let found: Vec<(String, String)> = folders
        .map(|folder| {
            let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a member's manifest");
            (folder.to_string(), manifest)
        })
        .collect();
    assert!(found.len() > 5, "only {} crates found", found.len());
    found
}

/// The room of a file.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default()
}

/// For each file of a crate (`home/waiter`; a folder's `mod.rs` as the folder) the files that it names. The root of the
/// crate is left out: it names all of them, and what others name there is what it only passes on.
fn graph(sources: &[(String, String)], crate_folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut texts = BTreeMap::new();
    for (name, text) in sources {
        let Some(file) = name.strip_prefix(crate_folder).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let module = file.trim_end_matches(".rs");
        let (module, is_folder) = match module.strip_suffix("mod").or_else(|| module.strip_suffix("lib")) {
            Some(folder) if folder.is_empty() || folder.ends_with('/') => (folder.trim_end_matches('/'), true),
            _ => (module, false),
        };
        if !["", "main"].contains(&module) {
            texts.insert(module.to_string(), (is_folder, text));
        }
    }
    let modules: BTreeSet<String> = texts.keys().cloned().collect();
    let names = |module: &str, is_folder: bool, text: &str| -> BTreeSet<String> {
        let named = named(&without_comments(production(text)));
        let found = named.iter().filter_map(|path| resolve(module, is_folder, path, &modules));
        found.filter(|other| other != module).collect()
    };
    texts.iter().map(|(module, (is_folder, text))| (module.clone(), names(module, *is_folder, text))).collect()
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// All paths within the crate that code names, in `use` declarations and elsewhere.
fn named(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        let is_whole = code[..at].chars().next_back().is_none_or(|before| before.is_whitespace() || before == '(');
        if is_whole {
            let start = found.len();
            expand("", tree, &mut found);
            // What begins with the name of a module is below this one, or another crate's.
            for path in &mut found[start..] {
                if !["crate", "super", "self"].iter().any(|first| path.split("::").next() == Some(first)) {
                    path.insert_str(0, "self::");
                }
            }
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
            if !code[..at].ends_with(is_path) {
                let end = code[at..].find(|letter| !is_path(letter)).unwrap_or(code.len() - at);
                found.push(code[at..at + end].trim_end_matches(':').to_string());
            }
        }
    }
    found
}

/// Adds the paths of a tree of `use`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = if path == "self" { prefix.trim_end_matches(':').to_string() } else { format!("{prefix}{path}") };
        return found.push(path);
    };
    let prefix = format!("{prefix}{}", head.trim());
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&prefix, &inner[start..at], found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The file that a path leads to from a module, if it is one of this crate.
fn resolve(module: &str, is_folder: bool, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut at: Vec<&str> = module.split('/').filter(|part| !part.is_empty()).collect();
    let mut parts = path.split("::").map(str::trim).peekable();
    match parts.next()? {
        "crate" => at.clear(),
        "super" => {
            at.pop();
            while parts.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        // Relative: only to what is below a folder's own module.
        _ if is_folder => {}
        _ => return None,
    }
    let own = at.len();
    at.extend(parts);
    while at.len() > own || (at.len() == own && path.starts_with("super")) {
        if modules.contains(&at.join("/")) {
            return Some(at.join("/"));
        }
        at.pop()?;
    }
    None
}

/// The shortest way from one file to another, both included.
fn path(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut way = vec![to.to_string()];
            let mut at = to;
            while at != from {
                at = before[at];
                way.insert(0, at.to_string());
            }
            return Some(way);
        }
        for next in graph.get(file).into_iter().flatten() {
            if next != from && !before.contains_key(next.as_str()) {
                before.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}
