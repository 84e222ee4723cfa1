//! A metad beside the member (`--metad-config`): it follows this member as any client would, in a thread of its own, and answers
//! out of memory. No reactor waits for it, and none of its requests reaches one.

use crate::config::{Config, Scheme};
use plinth_companion::log::{self, Level};
use plinth_metad::{Listeners, config};
use std::fmt::Arguments;
use std::thread::{Builder, JoinHandle};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// One whose listeners are bound.
pub struct Bound {
    config: config::Config,
    listeners: Listeners,
    runtime: Runtime,
}

/// One that answers, until it is dropped.
pub struct Metad {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bound {
    /// Reads the settings and binds the listeners, if there is to be one.
    ///
    /// # Errors
    /// If the settings make no sense, or the addresses cannot be had.
    pub fn new(member: &Config) -> Result<Option<Bound>, String> {
        let Some(file) = &member.metad else { return Ok(None) };
        let config =
            config::of_file(file, own_addresses(member)).map_err(|error| format!("--metad-config: {error}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let listeners = runtime.block_on(Listeners::bind(&config)).map_err(|error| format!("metad: {error}"))?;
        Ok(Some(Bound { config, listeners, runtime }))
    }

    /// Begins to follow the member, and to answer when it has read all.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(self) -> Result<Metad, String> {
        let Bound { config, listeners, runtime } = self;
        let (end, ended) = oneshot::channel();
        log::pass_to(pass_on);
        let serve = move || {
            let served = runtime.block_on(async {
                tokio::select! {
                    served = plinth_metad::serve(config, listeners) => served,
                    // The other half is dropped without a word.
                    _ = ended => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!(%error, "metad ended");
            }
        };
        let thread = Builder::new().name("metad".to_owned()).spawn(serve).map_err(|error| error.to_string())?;
        Ok(Metad { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Metad {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but what it has logged.
            let _ = thread.join();
        }
    }
}

/// Where this member is reached without a certificate.
fn own_addresses(member: &Config) -> Vec<String> {
    let clear = member.addresses.listen_client.iter().filter(|url| url.scheme() == Scheme::Http);
    clear.map(|url| url.as_str().replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")).collect()
}

fn pass_on(level: Level, message: Arguments<'_>) {
    match level {
        Level::Debug => tracing::debug!("metad: {message}"),
        Level::Info => tracing::info!("metad: {message}"),
        Level::Warn => tracing::warn!("metad: {message}"),
        Level::Error => tracing::error!("metad: {message}"),
    }
}
