//! `confd`: files made of templates and the keys of a store, kept in step with it.
//!
//! A tour, along the way of a change:
//!
//! - [`config`] has the settings, [`resource`] what is to be rendered; [`run`] is the life of the process
//! - [`backend`] gives keys and tells when they change; [`mod@keys`] is what templates see of them, by [`paths`]
//! - [`engine`] renders, with the [`functions`]; [`target`] is the file that comes of it, [`command`] what is run
//!   before and after, [`round`] the order of all that
//!
//! Values of the store are in no line of the log, at no level.
//!
//! Deliberately absent: the stores that upstream knows besides; each is refused by name.

#![forbid(unsafe_code)]

pub mod backend;
pub mod command;
pub mod config;
pub mod engine;
pub mod functions;
pub mod keys;
pub mod paths;
pub mod resource;
pub mod round;
pub mod run;
pub mod target;

use config::Order;
use plinth_companion::log;
use run::Ended;
use std::io::Write;
use std::process::ExitCode;

/// Runs confd with the arguments behind its name.
pub fn main(words: Vec<String>) -> ExitCode {
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = match config::read(&words, &environment.collect()) {
        Ok(Order::Run(config)) => *config,
        Ok(Order::Print(text)) => {
            // Whoever stops reading has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("confd: {text}");
            return ExitCode::FAILURE;
        }
    };
    log::start("confd", config.level, config.is_json);
    plinth_companion::info!("Starting confd");
    let ended = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = ended.map_err(|error| error.to_string()).and_then(|runtime| {
        let ended = runtime.block_on(run::run(config));
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Failed) => ExitCode::FAILURE,
        Err(text) => {
            plinth_companion::error!("{text}");
            ExitCode::FAILURE
        }
    }
}
