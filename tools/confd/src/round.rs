//! One round over all resources: keys, template, check, replacement, and after all of them the reload commands, each one
//! once for whatever number of its templates has changed. A reload that failed, or that has to pause, comes again.

use crate::backend::Backend;
use crate::command;
use crate::engine;
use crate::keys::Keys;
use crate::resource::Resource;
use crate::target::Stage;
use plinth_companion::figures::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What holds for every resource.
#[derive(Clone, Debug)]
pub struct Manner {
    pub templates: PathBuf,
    pub noop: bool,
    /// Neither check nor reload.
    pub sync_only: bool,
    pub keep_stage_file: bool,
    pub texts_are_numbers: bool,
    pub check_time: Duration,
    pub reload_time: Duration,
    /// The first failure ends a round.
    pub fail_fast: bool,
}

/// What has been done.
#[derive(Debug, Default)]
pub struct Figures {
    pub rounds: Cell,
    pub rendered: Cell,
    pub failed: Cell,
    pub replaced: Cell,
    pub checks_failed: Cell,
    pub reloads: Cell,
    pub reloads_failed: Cell,
    /// When the last round ended without a failure, in seconds since 1970.
    pub last_success: Cell,
}

/// A reload that is owed.
#[derive(Clone, Debug)]
struct Owed {
    /// Not before this.
    at: Instant,
    pause: Duration,
    limit: Duration,
}

/// Rounds.
#[derive(Debug)]
pub struct Rounds {
    pub manner: Manner,
    pub figures: Arc<Figures>,
    owed: BTreeMap<String, Owed>,
    /// When each command was last run.
    ran: BTreeMap<String, Instant>,
}

impl Rounds {
    /// Nothing is owed.
    pub fn new(manner: Manner, figures: Arc<Figures>) -> Rounds {
        Rounds { manner, figures, owed: BTreeMap::new(), ran: BTreeMap::new() }
    }

    /// When a reload is due, if one is owed.
    pub fn next_reload(&self) -> Option<Instant> {
        self.owed.values().map(|owed| owed.at).min()
    }

    /// Goes over all of them; gives the number of failures, each of which is in the log.
    pub async fn go(&mut self, resources: &[Resource], backend: &Backend) -> usize {
        let mut failures = 0;
        self.figures.rounds.add(1);
        for resource in resources {
            if let Err(error) = self.process(resource, backend).await {
                plinth_companion::error!("{error}");
                self.figures.failed.add(1);
                failures += 1;
                if self.manner.fail_fast {
                    break;
                }
            }
        }
        failures += self.reload().await;
        if failures == 0 {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            self.figures.last_success.set(now.map_or(0, |time| time.as_secs()));
        }
        failures
    }

    async fn process(&mut self, resource: &Resource, backend: &Backend) -> Result<(), String> {
        let pairs = backend.get(&resource.keys).await?;
        plinth_companion::debug!("{}: {} keys below {}", resource.file.display(), pairs.len(), resource.prefix);
        let keys = Arc::new(Keys::new(pairs, &resource.prefix));
        let (manner, of) = (self.manner.clone(), resource.clone());
        // Templates may ask for names, and run long.
        let staged = tokio::task::spawn_blocking(move || {
            let text = engine::render(&manner.templates, &of.src, &keys, manner.texts_are_numbers)?;
            of.shape.check(&text).map_err(|error| format!("{}: {error}", of.dest.display()))?;
            Stage::write(&of, &text).map_err(|error| format!("{}: {error}", of.dest.display()))
        });
        let stage = staged.await.map_err(|error| error.to_string())??;
        self.figures.rendered.add(1);
        self.sync(resource, stage).await
    }

    async fn sync(&mut self, resource: &Resource, stage: Stage) -> Result<(), String> {
        let (dest, manner) = (resource.dest.display(), &self.manner);
        let differences = stage.differences(resource);
        differences.iter().for_each(|line| plinth_companion::info!("{line}"));
        let io = |error: std::io::Error| format!("{dest}: {error}");
        if manner.keep_stage_file {
            plinth_companion::info!("Keeping staged file: {}", stage.path().display());
        }
        let keep = |stage: Stage| if manner.keep_stage_file { stage.keep() } else { Ok(()) };
        if manner.noop {
            plinth_companion::warn!("Noop mode enabled. {dest} will not be modified");
            return keep(stage).map_err(io);
        }
        if differences.is_empty() {
            plinth_companion::debug!("Target config {dest} in sync");
            return keep(stage).map_err(io);
        }
        plinth_companion::info!("Target config {dest} out of sync");
        if let Some(check) = resource.check.as_ref().filter(|_| !manner.sync_only) {
            let source = stage.path().to_string_lossy().into_owned();
            let text = engine::command(check, &[("src", &source)])?;
            if let Err(error) = command::run(&text, resource.check_time.unwrap_or(manner.check_time)).await {
                self.figures.checks_failed.add(1);
                return Err(format!("Config check failed: {error}"));
            }
        }
        let staged = stage.path().to_string_lossy().into_owned();
        stage.replace(resource).map_err(io)?;
        self.figures.replaced.add(1);
        plinth_companion::info!("Target config {dest} has been updated");
        if let Some(reload) = resource.reload.as_ref().filter(|_| !manner.sync_only) {
            let text = engine::command(reload, &[("src", &staged), ("dest", &dest.to_string())])?;
            let pause = resource.reload_pause;
            let at = self.ran.get(&text).map_or_else(Instant::now, |ran| *ran + pause);
            let limit = resource.reload_time.unwrap_or(manner.reload_time);
            self.owed.entry(text).or_insert(Owed { at, pause, limit });
        }
        Ok(())
    }

    /// Runs what is owed and due; gives the number of failures.
    pub async fn reload(&mut self) -> usize {
        let mut failures = 0;
        let due: Vec<String> =
            self.owed.iter().filter(|(_, owed)| owed.at <= Instant::now()).map(|(text, _)| text.clone()).collect();
        for text in due {
            let Some(owed) = self.owed.remove(&text) else { continue };
            self.figures.reloads.add(1);
            let result = command::run(&text, owed.limit).await;
            self.ran.insert(text.clone(), Instant::now());
            if let Err(error) = result {
                plinth_companion::error!("reload command failed: {error}");
                self.figures.reloads_failed.add(1);
                failures += 1;
                let at = Instant::now() + owed.pause.max(RELOAD_PAUSE);
                self.owed.insert(text, Owed { at, ..owed });
            }
        }
        failures
    }
}

/// Pause before a reload that has failed is tried again.
const RELOAD_PAUSE: Duration = Duration::from_secs(10);
