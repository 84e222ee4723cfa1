//! The texts of `--help` and of a wrong command line.

use super::registry::{FLAGS, Section};
use super::value::Kind;

/// Shown on stderr behind the complaint about a wrong command line.
pub const USAGE: &str = "\
Usage:

  plinth [flags]
    Start a server.

  plinth --config-file FILE
    Start a server with the configuration of a YAML or JSON file; flags and environment are then ignored.
    Durations in the file are integers of nanoseconds (600000000000 for 10m).

  plinth --version
    Show the version.

  plinth -h | --help
    Show all flags.
";

/// The text of `--help`: every flag with its default, by section.
pub fn help() -> String {
    let mut text = format!(
        "{USAGE}\n\
         Every flag is also an environment variable: ETCD_ and the name in upper case, with _ for -.\n"
    );
    for section in Section::ALL {
        text.push_str(&format!("\n{}:\n", section.title()));
        for flag in FLAGS.iter().filter(|flag| flag.section == *section) {
            text.push_str(&format!("  --{} '{}'\n    {}\n", flag.name, flag.default, flag.help));
            if flag.kind == Kind::Gates {
                for gate in super::gates::Gate::ALL {
                    let (name, stage, state) = (gate.as_str(), gate.stage().as_str(), gate.default_state());
                    text.push_str(&format!("    {name}=true|false ({stage} - default={state})\n"));
                }
            }
        }
    }
    text
}
