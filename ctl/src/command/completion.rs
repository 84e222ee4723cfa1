//! `completion`: a script for a shell, made from the definition of the commands.

use crate::failure::{Exit, Failure};
use crate::output::print::print;
use clap::Command;
use clap_complete::{Shell, generate};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[arg(value_name = "bash|zsh|fish|powershell")]
    args: Vec<String>,
}

/// Runs the command.
pub fn run(mut definition: Command, args: &Args) -> Result<(), Failure> {
    let name = definition.get_name().to_owned();
    let [shell] = args.args.as_slice() else {
        return Err(Failure::new(Exit::Error, format!("accepts 1 arg(s), received {}", args.args.len())));
    };
    let shell = match shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        "powershell" => Shell::PowerShell,
        other => {
            let text = format!("invalid argument {other:?} for \"{name} completion\"");
            return Err(Failure::new(Exit::Error, text));
        }
    };
    let mut script = Vec::new();
    generate(shell, &mut definition, name, &mut script);
    print(&script)
}
