//! The endpoints as one: connects to whichever answers, and turns to another one when a connection breaks.
//!
//! An attempt begins with the first endpoint and adds the next one after a short while, so that one that is silent
//! does not hold up the rest; where there is a choice, an endpoint counts only when it has answered something, as a
//! stopped process still takes connections. A read is repeated elsewhere, a write never: it may have taken effect.

use crate::failure::{Exit, Failure};
use crate::rpc::{Client, ConnectError, Options};
use plinth_api::methods::Method;
use prost::Message;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Pause between rounds over all endpoints.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Head start of an endpoint before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(50);

/// How often a read is repeated, and the pause before.
const REPEATS_MAX: u32 = 100;
const REPEAT_PAUSE: Duration = Duration::from_millis(25);

/// Several endpoints of one cluster.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In the order of preference: one that failed goes to the end.
    endpoints: Vec<String>,
    client: Option<Client>,
}

impl Cluster {
    /// Nothing is connected yet.
    pub fn new(endpoints: Vec<String>, options: Options) -> Cluster {
        Cluster(Arc::new(Inner { options, state: Mutex::new(State { endpoints, client: None }) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection, as soon as an endpoint takes one.
    pub async fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = self.state().client.clone() {
            return Ok(client);
        }
        let (start, mut told) = (Instant::now(), false);
        loop {
            let endpoints = self.state().endpoints.clone();
            match connect_any(&endpoints, &self.0.options).await {
                Ok((endpoint, client)) => {
                    let mut state = self.state();
                    state.endpoints.retain(|other| *other != endpoint);
                    state.endpoints.insert(0, endpoint);
                    state.client = Some(client.clone());
                    return Ok(client);
                }
                Err(ConnectError::Refused(failure)) => return Err(failure),
                Err(ConnectError::Unreachable(text)) => {
                    if !told && start.elapsed() >= self.0.options.dial_timeout {
                        told = true;
                        let line = serde_json::json!({
                            "level": "warn", "msg": "no endpoint answers", "endpoints": endpoints, "error": text,
                        });
                        eprintln!("{line}");
                    }
                }
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Forgets the connection, which is broken, and puts its endpoint last.
    pub fn leave(&self) {
        let mut state = self.state();
        if state.client.take().is_some() {
            state.endpoints.rotate_left(1);
        }
    }

    /// One call; if it is a read, wherever it succeeds.
    pub async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut repeats = 0;
        loop {
            match self.client().await?.call(method, request.clone()).await {
                Err(status) if crate::rpc::is_broken(&status) => {
                    self.leave();
                    if !method.read || repeats == REPEATS_MAX {
                        return Err(status.into());
                    }
                }
                done => return Ok(done?),
            }
            repeats += 1;
            sleep(REPEAT_PAUSE).await;
        }
    }
}

/// Connects to the first endpoint that answers.
async fn connect_any(endpoints: &[String], options: &Options) -> Result<(String, Client), ConnectError> {
    let mut attempts = JoinSet::new();
    let mut untried = endpoints.iter();
    let mut last = ConnectError::Refused(Failure::new(Exit::BadConnection, "no endpoint given"));
    loop {
        if let Some(endpoint) = untried.next().cloned() {
            let (options, is_choice) = (options.clone(), endpoints.len() > 1);
            attempts.spawn(async move {
                let client = Client::connect(&endpoint, &options).await?;
                if is_choice {
                    client.wait_for_answer(options.dial_timeout).await?;
                }
                Ok((endpoint, client))
            });
        }
        let head_start = if untried.len() > 0 { HEAD_START } else { options.dial_timeout * 3 };
        match timeout(head_start, attempts.join_next()).await {
            Ok(Some(Ok(Ok(connected)))) => return Ok(connected),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(Some(Err(_))) | Err(_) => {}
            Ok(None) => return Err(last),
        }
    }
}
