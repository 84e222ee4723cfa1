//! The `plinth` binary: one program under several names. `plinth` and `etcd` serve.

use plinth_server::config::{self, Command, ConfigError};
use std::collections::BTreeMap;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    match config::load(&arguments, &environment) {
        Ok(Command::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Command::Serve(loaded)) => serve(*loaded),
        Err(error @ ConfigError::Usage { .. }) => {
            eprintln!("{}", error.usage_text());
            ExitCode::from(error.exit_code())
        }
        Err(error) => {
            eprintln!("failed to verify flags: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(loaded: config::Loaded) -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let folder = loaded.config.member_dir();
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("plinth: {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let log_folder = loaded.config.wal_dir.clone();
    plinth_server::reactor::run(loaded.config, &folder, log_folder.as_deref())
}
