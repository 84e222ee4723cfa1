//! What is on this machine: the environment, and files of YAML or JSON.

use super::Pairs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Pause between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 32;

/// `A_B` of the environment is the key `/a/b`, as far as it is below these keys.
pub fn environment(keys: &[String]) -> Pairs {
    let is_below = |name: &str| {
        keys.iter().any(|key| name.starts_with(&key.trim_start_matches('/').replace('/', "_").to_uppercase()))
    };
    let pairs =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let pairs = pairs.filter(|(name, _)| is_below(name));
    pairs.map(|(name, value)| (format!("/{}", name.to_lowercase().replace('_', "/")), value)).collect()
}

/// A file, when it was written, and its size.
type Facts = (PathBuf, Option<SystemTime>, u64);

/// Files, and folders of them.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    filter: String,
    seen: Vec<Facts>,
}

impl Files {
    /// These files, and in these folders those whose names match the filter.
    pub fn new(paths: Vec<PathBuf>, filter: String) -> Files {
        Files { paths, filter, seen: Vec::new() }
    }

    fn all(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for path in &self.paths {
            find(path, &self.filter, 0, &mut files);
        }
        files
    }

    /// What all of them say; the later files win.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn read(&self) -> Result<Pairs, String> {
        let mut pairs = Pairs::new();
        for file in self.all() {
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).map_err(|error| {
                // The parser's own words show what it has read.
                format!("{}: not sound, line {}", file.display(), error.location().map_or(0, |place| place.line()))
            })?;
            walk(String::new(), &value, &mut pairs);
        }
        Ok(pairs)
    }

    fn facts(&self) -> Vec<Facts> {
        let facts = |file: PathBuf| {
            let facts = std::fs::metadata(&file).ok();
            let written = facts.as_ref().and_then(|facts| facts.modified().ok());
            (file, written, facts.map_or(0, |facts| facts.len()))
        };
        self.all().into_iter().map(facts).collect()
    }

    /// From now on, changes are looked for. What was seen before counts on.
    pub fn watch(&mut self) {
        if self.seen.is_empty() {
            self.seen = self.facts();
        }
    }

    /// Returns when a file is another than it was when last looked at.
    pub async fn changed(&mut self) {
        loop {
            let now = self.facts();
            if std::mem::replace(&mut self.seen, now.clone()) != now {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn find(path: &Path, filter: &str, depth: usize, files: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if depth == 0 || crate::paths::matches(filter, &name).unwrap_or(false) {
            files.push(path.to_owned());
        }
        return;
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    if depth < DEPTH_MAX {
        entries.iter().for_each(|entry| find(entry, filter, depth + 1, files));
    }
}

fn walk(path: String, value: &serde_yaml_ng::Value, pairs: &mut Pairs) {
    use serde_yaml_ng::Value::{Bool, Mapping, Null, Number, Sequence, String, Tagged};
    match value {
        Bool(is_so) => drop(pairs.insert(path, is_so.to_string())),
        Number(number) => {
            let float = number.as_f64().filter(|_| !number.is_i64() && !number.is_u64());
            drop(pairs.insert(path, float.map_or_else(|| number.to_string(), |float| float.to_string())));
        }
        String(text) => drop(pairs.insert(path, text.clone())),
        Sequence(list) => (0..).zip(list).for_each(|(number, value)| walk(format!("{path}/{number}"), value, pairs)),
        Mapping(map) => {
            for (name, value) in map {
                let name = match name {
                    String(text) => text.clone(),
                    Number(number) => number.to_string(),
                    Bool(is_so) => is_so.to_string(),
                    _ => continue,
                };
                walk(format!("{path}/{}", name.trim_matches('/')), value, pairs);
            }
        }
        Tagged(tagged) => walk(path, &tagged.value, pairs),
        Null => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("1.yaml", "a: {b: [1, x, 0.5], c: true}\nd: old\ne: 12345678901\n");
        write("2.yaml", r#"{"d":"new"}"#);
        write("other.txt", "z: 1");
        let mut files = Files::new(vec![folder.path().to_owned()], "*.yaml".to_owned());
        let read = files.read().expect("sound");
        let read: Vec<(&str, &str)> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let wanted = [
            ("/a/b/0", "1"),
            ("/a/b/1", "x"),
            ("/a/b/2", "0.5"),
            ("/a/c", "true"),
            ("/d", "new"),
            ("/e", "12345678901"),
        ];
        assert_eq!(read, wanted);
        write("3.yaml", "secret: [");
        assert!(files.read().is_err_and(|error| error.contains("3.yaml") && !error.contains("secret")));
        files.watch();
        write("4.yaml", "a: 1");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(files.changed());
    }

    #[test]
    fn the_environment_becomes_keys() {
        let pairs = environment(&["/path".to_owned()]);
        assert_eq!(pairs.get("/path").cloned(), std::env::var("PATH").ok());
        assert!(!environment(&["/plinth/none".to_owned()]).contains_key("/path"));
    }
}
