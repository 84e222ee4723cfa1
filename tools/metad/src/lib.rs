//! `metad`: each machine asks "who am I", and is told what is about it, out of memory.
//!
//! A tour, from the store to the client:
//!
//! - [`store`] follows three ranges of an etcd v3 and writes to them; [`state`] is what they say, as [`tree`]s, and what
//!   a client sees of it under its [`rules`] and its mapping ([`mapping`] looks at what is to be one)
//! - [`waiters`] are the long polls; [`who`] says whose a request is, [`limit`] how many it may make
//! - [`api`] answers, in the formats of [`render`]; [`config`] has the settings
//!
//! Deliberately absent: a way to end the process over the network, and a backend that forgets.

#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod limit;
pub mod mapping;
pub mod render;
pub mod rules;
pub mod state;
pub mod store;
pub mod tree;
pub mod waiters;
pub mod who;

use api::Api;
use config::{Config, Order};
use plinth_companion::{listen, log};
use plinth_ctl::signals;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;
use store::Store;
use tokio::net::TcpListener;

/// Runs metad with the arguments behind its name.
pub fn main(words: Vec<String>) -> ExitCode {
    let order = match config::read(&words) {
        Ok(order) => order,
        Err(text) => {
            eprintln!("metad: {text}");
            return ExitCode::from(2);
        }
    };
    let config = match order {
        Order::Serve(config) => *config,
        Order::Print(text) => {
            // Whoever stops reading has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
    };
    log::start("metad", config.level, false);
    let served = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let served = served.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(config)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            plinth_companion::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends it.
async fn run(config: Config) -> Result<(), String> {
    let mut end = signals::end().map_err(|failure| failure.text)?;
    if let Some(file) = &config.pid_file {
        std::fs::write(file, std::process::id().to_string()).map_err(|error| format!("{file}: {error}"))?;
    }
    let store = tokio::select! {
        store = follow(&config) => store?,
        () = end.recv() => return Ok(()),
    };
    let listeners = Listeners::bind(&config).await?;
    tokio::select! {
        () = answer(store, config, listeners) => {}
        () = end.recv() => plinth_companion::info!("Received stop signal"),
    }
    Ok(())
}

/// Serves within another program, which has bound the listeners, until that drops it.
///
/// # Errors
/// If the clock of the machine is before 1970.
pub async fn serve(config: Config, listeners: Listeners) -> Result<(), String> {
    let store = follow(&config).await?;
    answer(store, config, listeners).await;
    Ok(())
}

/// The state, once all of it has been read.
async fn follow(config: &Config) -> Result<Arc<Store>, String> {
    let first_version = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let first_version = i64::try_from(first_version.as_micros()).map_err(|error| error.to_string())?;
    let store = Store::new(config.cluster.clone(), config.places.clone(), first_version);
    store.start().await;
    Ok(store)
}

/// The sockets of the two APIs.
#[derive(Debug)]
pub struct Listeners {
    data: TcpListener,
    manage: Option<TcpListener>,
}

impl Listeners {
    /// Binds them.
    ///
    /// # Errors
    /// If one cannot be had.
    pub async fn bind(config: &Config) -> Result<Listeners, String> {
        let bound = |error: std::io::Error| error.to_string();
        let data = listen::bind(&config.listen).await.map_err(bound)?;
        let manage = match &config.listen_manage {
            Some(address) => Some(listen::bind(address).await.map_err(bound)?),
            None => None,
        };
        Ok(Listeners { data, manage })
    }
}

/// Answers requests to both APIs.
async fn answer(store: Arc<Store>, mut config: Config, listeners: Listeners) {
    plinth_companion::info!("Listening on {}", config.listen);
    let encryption = config.encryption.take();
    let api = Arc::new(Api::new(store, config));
    let managed = Arc::clone(&api);
    let data = listen::serve(listeners.data, encryption, move |request, peer| Arc::clone(&api).data(request, peer));
    let manage = async move {
        match listeners.manage {
            Some(listener) => {
                listen::serve(listener, None, move |request, peer| Arc::clone(&managed).manage(request, peer)).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = data => {}
        () = manage => {}
    }
}
