//! The watch operations of one server: sending them, waiting for what must come, and what is new since the last
//! comparison.

use super::normal::Normal;
use super::op::Meaning;
use super::side::{EVENT_TIMEOUT, Side};
use plinth_api::proto::etcdserverpb::*;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Pause between looks.
const LOOK_PAUSE: Duration = Duration::from_micros(300);
/// Pause between progress requests; servers bring watchers up to date about ten times a second.
const PROGRESS_PAUSE: Duration = Duration::from_millis(20);
/// Time after which a watcher is up to date where it cannot be asked.
const CATCH_UP_TIME: Duration = Duration::from_millis(250);

impl Side {
    fn pump(&mut self) -> Result<(), String> {
        let plant = &mut self.plant;
        self.streams.pump(&mut |messages| {
            if let Some(plant) = plant {
                plant.messages(messages);
            }
        })
    }

    /// Waits until every watcher has delivered what the history says, up to the current revision.
    pub async fn settle(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            self.pump()?;
            let newest = self.streams.newest();
            let difference = match newest >= self.revision {
                true => self.streams.difference(),
                false => Some(format!("the watch on everything is at revision {newest}, not {}", self.revision)),
            };
            match difference {
                None => return Ok(()),
                Some(what) if Instant::now() > deadline => return Err(what),
                Some(_) => sleep(LOOK_PAUSE).await,
            }
        }
    }

    /// Waits until a stream has `count` control messages.
    async fn await_control(&mut self, stream: usize, count: usize) -> Result<(), String> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        while self.streams.stream(stream).control.len() < count {
            if Instant::now() > deadline {
                return Err(format!("stream {stream} gave no answer"));
            }
            sleep(LOOK_PAUSE).await;
            self.pump()?;
        }
        Ok(())
    }

    /// Asks for progress until the server answers, which it does once all watchers of the stream are in sync.
    /// Streams without watchers get no answer, and `None`, and so do those that tell no progress.
    pub async fn progress(&mut self, stream: usize) -> Result<Option<i64>, String> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        self.pump()?;
        self.streams.stream(stream).progress.clear();
        while !self.streams.stream(stream).watchers.is_empty() && self.streams.stream(stream).tells_progress {
            if Instant::now() > deadline {
                return Err(format!("stream {stream} never answered a progress request"));
            }
            self.streams.stream(stream).send(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {}));
            let next = Instant::now() + PROGRESS_PAUSE;
            while Instant::now() < next {
                sleep(LOOK_PAUSE).await;
                self.pump()?;
                if let Some(&revision) = self.streams.stream(stream).progress.first() {
                    return Ok(Some(revision));
                }
            }
        }
        Ok(None)
    }

    pub async fn watch(&mut self, stream: usize, request: &WatchCreateRequest) -> Result<(), String> {
        // Never below 0, see `main`.
        let start_revision = self.meaning().number(request.start_revision).max(0);
        let sent = WatchCreateRequest { start_revision, ..request.clone() };
        let control = self.streams.stream(stream).control.len();
        self.streams.stream(stream).send(watch_request::RequestUnion::CreateRequest(sent));
        self.await_control(stream, control + 1).await?;
        if start_revision > 0 {
            // A watcher that begins in the past is brought up to date in the background. Operations that follow,
            // compactions above all, must not race with that.
            self.progress(stream).await?;
            if !self.streams.stream(stream).tells_progress {
                sleep(CATCH_UP_TIME).await;
                self.pump()?;
            }
        }
        Ok(())
    }

    pub async fn cancel(&mut self, stream: usize, request: WatchCancelRequest) -> Result<(), String> {
        let known = self.streams.stream(stream).watchers.contains_key(&request.watch_id);
        let control = self.streams.stream(stream).control.len();
        self.streams.stream(stream).send(watch_request::RequestUnion::CancelRequest(request));
        if known {
            self.await_control(stream, control + 1).await?;
        }
        Ok(())
    }

    /// Control messages since the last comparison, in normal form.
    pub fn new_control(&mut self) -> String {
        let identity = self.identity;
        let meaning =
            Meaning { revision: self.revision, compact_revision: self.compact_revision, picked: &self.picked };
        let normal = Normal { identity, meaning };
        let mut out = String::new();
        for (index, stream) in self.streams.open_ones() {
            for message in &stream.control[stream.compared..] {
                let mut message = message.clone();
                normal.header(&mut message.header);
                out.push_str(&format!("stream {index}: {message:#?}\n"));
            }
            stream.compared = stream.control.len();
        }
        out
    }

    /// Events since the last comparison, in normal form.
    pub fn new_events(&mut self) -> String {
        let mut out = String::new();
        for event in &self.streams.history()[self.events_compared..] {
            let mut event = event.clone();
            self.normal().event(&mut event);
            out.push_str(&format!("{event:#?}\n"));
        }
        self.events_compared = self.streams.history().len();
        out
    }
}
