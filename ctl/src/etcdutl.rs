//! `etcdutl`: offline work on etcd's own files. Only its version so far; the rest is refused as missing.

use crate::etcdctl;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use std::process::ExitCode;

/// Commands of the reference tool that are missing here.
const MISSING: [&str; 5] = ["defrag", "snapshot", "hashkv", "migrate", "completion"];

/// Runs etcdutl with the arguments behind its name.
pub fn main(args: Vec<String>) -> ExitCode {
    match run(&args) {
        Ok(text) => print(text.as_bytes()).map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS),
        Err(failure) => failure.report(),
    }
}

fn run(args: &[String]) -> Result<String, Failure> {
    match args.first().map(String::as_str) {
        Some("version") => {
            Ok(format!("etcdutl version: {}\nAPI version: {}\n", etcdctl::VERSION, etcdctl::API_VERSION))
        }
        None | Some("help" | "-h" | "--help") => {
            Ok(format!("Usage: etcdutl version\nNot supported yet: {}\n", MISSING.join(", ")))
        }
        Some(word) if MISSING.contains(&word) => Err(Failure::unsupported(word)),
        Some(word) => Err(Failure::new(Exit::Error, format!("unknown command {word:?} for \"etcdutl\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let run = |word: &str| run(&[word.to_owned()]);
        assert_eq!(run("version").as_deref(), Ok("etcdutl version: 3.7.1\nAPI version: 3.7\n"));
        for word in MISSING {
            assert_eq!(run(word), Err(Failure::new(Exit::Error, format!("{word} is not supported yet"))));
        }
        assert_eq!(run("nonsense").map_err(|failure| failure.exit), Err(Exit::Error));
    }
}
