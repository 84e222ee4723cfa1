//! Faults planted into what the subject says. A harness that does not find them proves nothing.

use plinth_api::proto::etcdserverpb::WatchResponse;

/// What is wrong with the subject.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The first answer that contains the first text has the second instead.
    Answer(&'static str, &'static str),
    /// An event is lost.
    DropEvent,
    /// A message comes twice.
    RepeatMessage,
    /// Two neighbouring events of a message change places.
    SwapEvents,
    /// Events lose their previous pair.
    DropPrevious,
    /// A watcher is told a later revision when it is created.
    ControlRevision,
    /// A cancellation comes without its compact revision.
    CompactRevision,
}

/// A fault and whether it has had its occasion.
#[derive(Debug)]
pub struct Plant {
    fault: Fault,
    done: bool,
}

impl Plant {
    /// A fault that strikes at its first occasion.
    pub fn new(fault: Fault) -> Plant {
        Plant { fault, done: false }
    }

    /// Whether it has struck.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Tampers with an answer in normal form.
    pub fn answer(&mut self, text: String) -> String {
        match self.fault {
            Fault::Answer(from, to) if !self.done && text.contains(from) => {
                self.done = true;
                text.replacen(from, to, 1)
            }
            _ => text,
        }
    }

    /// Tampers with messages of a watch stream.
    pub fn messages(&mut self, messages: &mut Vec<WatchResponse>) {
        if self.done {
            return;
        }
        match self.fault {
            Fault::Answer(..) => {}
            Fault::DropEvent => self.done = messages.iter_mut().any(|message| message.events.pop().is_some()),
            Fault::RepeatMessage => {
                if let Some(message) = messages.iter().find(|message| !message.events.is_empty()).cloned() {
                    messages.push(message);
                    self.done = true;
                }
            }
            Fault::SwapEvents => {
                if let Some(message) = messages.iter_mut().find(|message| message.events.len() > 1) {
                    message.events.swap(0, 1);
                    self.done = true;
                }
            }
            Fault::DropPrevious => {
                let mut events = messages.iter_mut().flat_map(|message| &mut message.events);
                self.done = events.any(|event| event.prev_kv.take().is_some());
            }
            Fault::ControlRevision => {
                let mut created =
                    messages.iter_mut().filter(|message| message.created).filter_map(|message| message.header.as_mut());
                self.done = created.next().map(|header| header.revision += 1).is_some();
            }
            Fault::CompactRevision => {
                let mut canceled = messages.iter_mut().filter(|message| message.compact_revision != 0);
                self.done = canceled.next().map(|message| message.compact_revision = 0).is_some();
            }
        }
    }
}
