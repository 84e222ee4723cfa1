//! The life of the process: rounds once, by time, or on changes, until a signal ends it.

use crate::config::{Config, When};
use crate::resource::Resource;
use crate::round::{Figures, Rounds};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use plinth_companion::figures::Page;
use plinth_companion::listen::{self, Answer, answer};
use plinth_companion::systemd;
use plinth_ctl::signals;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, sleep_until, timeout};

/// A change that goes on and on is acted on after as many debounce times.
const DEBOUNCE_TIMES_MAX: u32 = 10;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Well,
    /// A round that was to be the only one failed.
    Failed,
}

/// Runs until its end.
///
/// # Errors
/// If it cannot begin.
pub async fn run(config: Config) -> Result<Ended, String> {
    let Config { place, mut backend, manner, when, debounce, metrics, tells_systemd, .. } = config;
    let figures = Arc::new(Figures::default());
    if let Some(address) = metrics {
        let listener = listen::bind(&address).await.map_err(|error| error.to_string())?;
        let shown = Arc::clone(&figures);
        tokio::spawn(listen::serve(listener, None, move |request, _| page(Arc::clone(&shown), request)));
    }
    let mut rounds = Rounds::new(manner, figures);
    let mut end = signals::end().map_err(|failure| failure.text)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let load = || {
        let (resources, errors) = place.load();
        errors.iter().for_each(|error| plinth_companion::error!("{error}"));
        (resources, errors.len())
    };
    if when == When::Once {
        let (resources, broken) = load();
        let failures = tokio::select! {
            failures = rounds.go(&resources, &backend) => failures + broken,
            () = end.recv() => return Ok(Ended::Well),
        };
        return Ok(if failures == 0 { Ended::Well } else { Ended::Failed });
    }
    let pulse = systemd::pulse().filter(|_| tells_systemd);
    if let Some(pulse) = pulse {
        tokio::spawn(async move {
            loop {
                sleep(pulse).await;
                tell_systemd("WATCHDOG=1");
            }
        });
    }
    let (mut resources, _) = load();
    let mut is_ready = false;
    loop {
        if let When::OnChange { .. } = when {
            backend.watch(&resources);
        }
        let failures = tokio::select! {
            failures = rounds.go(&resources, &backend) => failures,
            () = end.recv() => break,
        };
        if tells_systemd && !std::mem::replace(&mut is_ready, true) {
            tell_systemd("READY=1");
        }
        let is_told = {
            let wait = async {
                match when {
                    When::Every(interval) => sleep(interval).await,
                    When::OnChange { pause_on_error } if failures > 0 => {
                        // Whatever failed is tried again, be there a change or not.
                        sleep(pause_on_error).await;
                    }
                    _ => {
                        backend.changed().await;
                        calm(&mut backend, pause(&resources, debounce)).await;
                    }
                }
            };
            tokio::pin!(wait);
            loop {
                let due = rounds.next_reload();
                let due_time = due.unwrap_or_else(Instant::now);
                tokio::select! {
                    () = &mut wait => break Some(false),
                    () = end.recv() => break None,
                    _ = hangup.recv() => break Some(true),
                    () = sleep_until(due_time.into()), if due.is_some() => drop(rounds.reload().await),
                }
            }
        };
        match is_told {
            None => break,
            // Files are looked at in each round that time brings, and when told to.
            Some(is_told) if is_told || matches!(when, When::Every(_)) => resources = load().0,
            Some(_) => {}
        }
    }
    plinth_companion::info!("Captured a signal. Exiting...");
    if tells_systemd {
        tell_systemd("STOPPING=1");
    }
    Ok(Ended::Well)
}

fn tell_systemd(what: &str) {
    if let Err(error) = systemd::tell(what) {
        plinth_companion::warn!("systemd cannot be told {what}: {error}");
    }
}

/// The longest of what the resources and the command line want.
fn pause(resources: &[Resource], debounce: Duration) -> Duration {
    resources.iter().filter_map(|resource| resource.debounce).fold(debounce, Duration::max)
}

/// Returns when nothing has changed for that time, or when too much of it has passed.
async fn calm(backend: &mut crate::backend::Backend, pause: Duration) {
    if pause.is_zero() {
        return;
    }
    let until = Instant::now() + pause * DEBOUNCE_TIMES_MAX;
    while Instant::now() < until && timeout(pause, backend.changed()).await.is_ok() {}
}

/// The pages of a running confd.
async fn page(figures: Arc<Figures>, request: Request<Incoming>) -> Answer {
    let json = "application/json";
    match request.uri().path() {
        "/health" => answer(StatusCode::OK, json, r#"{"status":"up"}"#),
        "/ready" if figures.last_success.get() > 0 => answer(StatusCode::OK, json, r#"{"status":"ready"}"#),
        "/ready" => answer(StatusCode::SERVICE_UNAVAILABLE, json, r#"{"status":"no round has succeeded yet"}"#),
        "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4", metrics(&figures)),
        _ => answer(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n"),
    }
}

fn metrics(figures: &Figures) -> String {
    let mut page = Page::new();
    let mut one = |name: &str, kind: &str, help: &str, number: u64| page.family(name, kind, help, &[("", number)]);
    one("confd_rounds_total", "counter", "Rounds over all resources.", figures.rounds.get());
    one("confd_templates_rendered_total", "counter", "Templates that were rendered.", figures.rendered.get());
    one("confd_resources_failed_total", "counter", "Resources that failed in a round.", figures.failed.get());
    one("confd_targets_replaced_total", "counter", "Targets that were replaced.", figures.replaced.get());
    one("confd_checks_failed_total", "counter", "Check commands that failed.", figures.checks_failed.get());
    one("confd_reloads_total", "counter", "Reload commands that were run.", figures.reloads.get());
    one("confd_reloads_failed_total", "counter", "Reload commands that failed.", figures.reloads_failed.get());
    one("confd_last_success_seconds", "gauge", "When a round last succeeded, since 1970.", figures.last_success.get());
    page.text()
}
