//! The `plinth` binary: one program under several names. `plinth` and `etcd` serve.

use plinth_server::config::{self, Command, ConfigError};
use plinth_server::datadir::DataDir;
use plinth_server::sys::Signals;
use plinth_server::{logging, reactor};
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
    // Before the first thread is started, so that all of them inherit the mask.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("plinth: signals cannot be taken: {error}");
            return ExitCode::FAILURE;
        }
    };
    let guard = match logging::init(&loaded.config.log) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("plinth: {error}");
            return ExitCode::FAILURE;
        }
    };
    logging::notices(&loaded.notices);
    let code = match DataDir::open(&loaded.config) {
        Ok(folder) => {
            logging::notices(folder.notices());
            reactor::run(loaded.config, &folder, signals)
        }
        Err(error) => {
            tracing::error!(%error, "the data directory cannot be used");
            eprintln!("plinth: {error}");
            reactor::Ended::Failed
        }
    };
    drop(guard);
    code.end()
}
