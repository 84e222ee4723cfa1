//! What is to be rendered: the files of `conf.d`, each one template, its keys, its target and what follows a change.

use crate::paths::join;
use plinth_companion::settings::duration;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A resource as its file has it.
#[derive(Debug, Deserialize)]
struct File {
    template: Written,
    backend: Option<toml::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    src: String,
    dest: String,
    keys: Vec<String>,
    prefix: String,
    mode: String,
    uid: Option<i64>,
    gid: Option<i64>,
    owner: String,
    group: String,
    check_cmd: String,
    reload_cmd: String,
    check_cmd_timeout: String,
    reload_cmd_timeout: String,
    output_format: String,
    min_reload_interval: String,
    debounce: String,
}

/// What a target has to be, beside text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Any,
    Json,
    Yaml,
    Toml,
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The file it was read from.
    pub file: PathBuf,
    pub src: PathBuf,
    pub dest: PathBuf,
    /// Where its keys are; begins with a slash.
    pub prefix: String,
    /// Its keys, prefix included.
    pub keys: Vec<String>,
    /// Permissions; the target's own, or 0644, if it is not said.
    pub mode: Option<u32>,
    pub uid: u32,
    pub gid: u32,
    pub check: Option<String>,
    pub reload: Option<String>,
    pub check_time: Option<Duration>,
    pub reload_time: Option<Duration>,
    pub shape: Shape,
    /// Pause between two runs of the reload command.
    pub reload_pause: Duration,
    /// How long nothing must change before a change is acted on.
    pub debounce: Option<Duration>,
}

/// How the prefix of the command line and that of a resource come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixMode {
    /// One behind the other, as in the fork and before.
    Join,
    /// The command line's, if it has one, as in the last upstream.
    Replace,
}

/// Where resources are, and what they have in common.
#[derive(Clone, Debug)]
pub struct Place {
    pub confdir: PathBuf,
    pub prefix: String,
    pub mode: PrefixMode,
}

impl Place {
    /// Where templates are.
    pub fn templates(&self) -> PathBuf {
        self.confdir.join("templates")
    }

    /// All resources, in the order of their paths, and what is wrong with those that cannot be read.
    pub fn load(&self) -> (Vec<Resource>, Vec<String>) {
        if !self.confdir.exists() {
            let confdir = self.confdir.display();
            plinth_companion::warn!("Cannot load template resources: confdir '{confdir}' does not exist");
            return (Vec::new(), Vec::new());
        }
        let mut files = Vec::new();
        find(&self.confdir.join("conf.d"), 0, &mut files);
        files.sort();
        if files.is_empty() {
            plinth_companion::warn!("Found no templates");
        }
        let (mut resources, mut errors) = (Vec::new(), Vec::new());
        for file in files {
            plinth_companion::debug!("Loading template resource from {}", file.display());
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string());
            match text.and_then(|text| self.read(&file, &text)) {
                Ok(resource) => resources.push(resource),
                Err(error) => errors.push(format!("Cannot process template resource {} - {error}", file.display())),
            }
        }
        (resources, errors)
    }

    fn read(&self, file: &Path, text: &str) -> Result<Resource, String> {
        let File { template: it, backend } = toml::from_str(text).map_err(|error| error.to_string())?;
        if backend.is_some() {
            return Err("a backend of its own ([backend]) is not supported: one confd has one".to_owned());
        }
        for (name, value) in [("src template", &it.src), ("dest", &it.dest)] {
            if value.is_empty() {
                return Err(format!("empty {name}"));
            }
        }
        let prefix = match self.mode {
            PrefixMode::Replace if !self.prefix.is_empty() => join(&["/", &self.prefix]),
            PrefixMode::Replace => join(&["/", &it.prefix]),
            PrefixMode::Join => join(&["/", &self.prefix, &it.prefix]),
        };
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let time = |text: &String| given(text).map(|text| duration(&text)).transpose();
        Ok(Resource {
            file: file.to_owned(),
            src: self.templates().join(&it.src),
            dest: PathBuf::from(&it.dest),
            keys: it.keys.iter().map(|key| join(&[&prefix, key])).collect(),
            prefix,
            mode: given(&it.mode).map(|mode| permissions(&mode)).transpose()?,
            uid: owner("owner", &it.owner, it.uid, "/etc/passwd", rustix::process::geteuid().as_raw())?,
            gid: owner("group", &it.group, it.gid, "/etc/group", rustix::process::getegid().as_raw())?,
            check: given(&it.check_cmd),
            reload: given(&it.reload_cmd),
            check_time: time(&it.check_cmd_timeout)?,
            reload_time: time(&it.reload_cmd_timeout)?,
            shape: shape(&it.output_format)?,
            reload_pause: time(&it.min_reload_interval)?.unwrap_or_default(),
            debounce: time(&it.debounce)?,
        })
    }
}

/// Files whose names end in `toml`, also in folders below.
fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && depth < 32 {
            find(&path, depth + 1, files);
        } else if path.to_string_lossy().ends_with("toml") && path.is_file() {
            files.push(path);
        }
    }
}

/// A mode as Go reads numbers: `0644`, `0o644`, `420`, `0x1a4`.
fn permissions(text: &str) -> Result<u32, String> {
    let wrong = |_| format!("not a mode: {text:?}");
    let octal = text.strip_prefix('0').filter(|rest| rest.starts_with(|char: char| char.is_ascii_digit()));
    let mode = match octal {
        Some(digits) => i64::from_str_radix(digits, 8).map_err(|error| wrong(error.to_string()))?,
        None => plinth_ctl::quote::parse_flag_int(text).map_err(wrong)?,
    };
    u32::try_from(mode).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| wrong(String::new()))
}

/// The number of an owner that is named or numbered.
fn owner(what: &str, name: &str, number: Option<i64>, file: &str, own: u32) -> Result<u32, String> {
    match (name, number) {
        ("", None | Some(-1)) => Ok(own),
        ("", Some(number)) => u32::try_from(number).map_err(|_| format!("{what}: not an id: {number}")),
        (name, _) => {
            let lines = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            let of_line = |line: &str| {
                let mut fields = line.split(':');
                if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
            };
            lines.lines().find_map(of_line).ok_or_else(|| format!("{what}: nobody is called {name:?}"))
        }
    }
}

fn shape(text: &str) -> Result<Shape, String> {
    match text {
        "" => Ok(Shape::Any),
        "json" => Ok(Shape::Json),
        "yaml" | "yml" => Ok(Shape::Yaml),
        "toml" => Ok(Shape::Toml),
        other => Err(format!("output_format {other} is not supported: json, yaml and toml are")),
    }
}

impl Shape {
    /// Looks at what is to become a target.
    ///
    /// # Errors
    /// If it has another shape; the text itself is not in it.
    pub fn check(self, text: &str) -> Result<(), String> {
        let line_of = |line: usize| format!("the output is not sound, line {line}");
        match self {
            Shape::Any => Ok(()),
            Shape::Json => {
                serde_json::from_str::<serde_json::Value>(text).map(drop).map_err(|error| line_of(error.line()))
            }
            Shape::Yaml => serde_yaml_ng::from_str::<serde_yaml_ng::Value>(text)
                .map(drop)
                .map_err(|error| line_of(error.location().map_or(0, |place| place.line()))),
            Shape::Toml => text.parse::<toml::Table>().map(drop).map_err(|error| {
                line_of(error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count()))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prefix: &str, mode: PrefixMode, text: &str) -> Result<Resource, String> {
        let place = Place { confdir: "/etc/confd".into(), prefix: prefix.to_owned(), mode };
        place.read(Path::new("x.toml"), text)
    }

    #[test]
    fn prefixes_come_together_both_ways() {
        let text = "[template]\nsrc='s'\ndest='/d'\nprefix='myapp'\nkeys=['/k', 'l']";
        let of = |prefix: &str, mode| read(prefix, mode, text).expect("reads");
        assert_eq!(of("production", PrefixMode::Join).keys, ["/production/myapp/k", "/production/myapp/l"]);
        assert_eq!(of("production", PrefixMode::Replace).keys, ["/production/k", "/production/l"]);
        assert_eq!(of("", PrefixMode::Replace).prefix, "/myapp");
        assert_eq!(of("", PrefixMode::Join).src, Path::new("/etc/confd/templates/s"));
    }

    #[test]
    fn what_a_file_says() {
        let text = "[template]\nsrc='s'\ndest='/d'\nmode='0600'\nowner='root'\ngroup='root'\ncheck_cmd='c'\nreload_cmd_timeout='2s'\noutput_format='yml'\nmin_reload_interval='1m'\ndebounce='500ms'";
        let resource = read("", PrefixMode::Join, text).expect("reads");
        assert_eq!((resource.mode, resource.uid, resource.gid, resource.shape), (Some(0o600), 0, 0, Shape::Yaml));
        assert_eq!((resource.check.as_deref(), resource.reload), (Some("c"), None));
        assert_eq!((resource.reload_pause.as_secs(), resource.debounce), (60, Some(Duration::from_millis(500))));
        for (mode, wanted) in [("0644", 0o644), ("0o644", 0o644), ("420", 420), ("0x1a4", 420)] {
            assert_eq!(permissions(mode), Ok(wanted));
        }
        for wrong in [
            "",
            "[template]\ndest='/d'",
            "[template]\nsrc='s'",
            "[template]\nsrc='s'\ndest='/d'\nmode='rw'",
            "[template]\nsrc='s'\ndest='/d'\nowner='nobody-there'",
            "[template]\nsrc='s'\ndest='/d'\noutput_format='xml'",
            "[template]\nsrc='s'\ndest='/d'\n[backend]\nx=1",
        ] {
            assert!(read("", PrefixMode::Join, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shapes_are_looked_at() {
        assert_eq!(Shape::Json.check("{\"a\":1}"), Ok(()));
        assert!(Shape::Json.check("{\n\"secret\"").is_err_and(|error| !error.contains("secret")));
        assert!(Shape::Yaml.check("a: [").is_err() && Shape::Yaml.check("a: 1").is_ok());
        assert!(Shape::Toml.check("a").is_err() && Shape::Toml.check("a = 1").is_ok() && Shape::Any.check("{").is_ok());
    }
}
