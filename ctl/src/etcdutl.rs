//! `etcdutl`: offline work on etcd's own files. What makes a data directory (`snapshot restore`) is the server's own and not
//! here; what is missing is refused as such.

mod status;

use crate::etcdctl;
use crate::failure::{Exit, Failure};
use crate::output::print::print;
use crate::output::{Format, render};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Commands of the reference tool that are missing here.
const MISSING: [&str; 4] = ["defrag", "hashkv", "migrate", "completion"];

#[derive(Parser, Debug)]
#[command(name = "etcdutl", about = "Works on files of a stopped server", subcommand_required = true)]
struct Cli {
    /// How to print: fields, json, protobuf, simple, table
    #[arg(short, long, global = true, default_value = "simple")]
    write_out: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Snapshot {
        #[command(subcommand)]
        command: Snapshot,
    },
    Version,
}

#[derive(Subcommand, Debug)]
enum Snapshot {
    /// Tells what a snapshot holds, and whether it is whole
    Status {
        /// The snapshot
        #[arg(value_name = "FILE")]
        args: Vec<PathBuf>,
    },
    /// Makes a data directory from a snapshot
    Restore { file: PathBuf },
}

/// Runs etcdutl with the arguments behind its name.
pub fn main(args: Vec<String>) -> ExitCode {
    if let Some(word) = args.first().filter(|word| MISSING.contains(&word.as_str())) {
        return Failure::unsupported(word).report();
    }
    if let [first, rest @ ..] = &args[..]
        && first == "migrate-v2"
    {
        return crate::v2::migrate::main(rest.to_vec());
    }
    match Cli::try_parse_from(std::iter::once("etcdutl".to_owned()).chain(args)) {
        Ok(cli) => run(cli).map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS),
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { Exit::Error.code() } else { 0 })
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let format = Format::parse(&cli.write_out)?;
    match cli.command {
        Command::Version => print(version().as_bytes()),
        Command::Snapshot { command: Snapshot::Restore { .. } } => Err(Failure::unsupported("restore by this program")),
        Command::Snapshot { command: Snapshot::Status { args } } => {
            let [path] = args.as_slice() else {
                return Err(Failure::arguments("snapshot status requires exactly one argument"));
            };
            print(&render(&status::of(path)?, format, false)?)
        }
    }
}

fn version() -> String {
    format!("etcdutl version: {}\nAPI version: {}\n", etcdctl::VERSION, etcdctl::API_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_its_version() {
        assert_eq!(version(), "etcdutl version: 3.7.1\nAPI version: 3.7\n");
    }
}
