//! Gets lines from the threads that have them to the outputs, without ever making these threads wait for an output.
//!
//! Lines are appended to a buffer under a lock that is held for a copy of a line; a thread of its own takes the whole
//! buffer and writes it. The buffer is bounded: at the bound ordinary lines are dropped and counted, warnings and
//! errors have room of the same size above it. What was dropped is said in the log once there is room again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that may wait for the writer. Some thousand lines: a burst at start or in trouble, not a minute of it.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;
/// The same with the reserve for lines that are important.
pub(super) const QUEUE_BYTES_MAX_IMPORTANT: usize = 2 * QUEUE_BYTES_MAX;

/// Where bytes of the log end up.
pub(super) trait Sink: Send {
    /// Writes whole lines.
    fn write_lines(&mut self, lines: &[u8]);
}

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    /// Dropped since the last time it was said.
    dropped: u64,
    writing: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dropped_total: AtomicU64,
}

/// The queue and the thread that empties it.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. `complaint` makes the line that says how many were dropped.
    pub(super) fn start(
        sink: Box<dyn Sink>,
        complaint: impl Fn(u64) -> String + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = State { waiting: Vec::new(), dropped: 0, writing: false, stopping: false };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), dropped_total: AtomicU64::new(0) });
        let for_thread = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || for_thread.run(sink, &complaint))?;
        Ok(Writer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a line, or drops it at the bound. Never waits for an output.
    pub(super) fn push(&self, line: &str, important: bool) {
        let bound = if important { QUEUE_BYTES_MAX_IMPORTANT } else { QUEUE_BYTES_MAX };
        let mut state = self.shared.lock();
        if state.stopping || state.waiting.len() + line.len() > bound {
            state.dropped += 1;
            self.shared.dropped_total.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        if was_empty {
            self.shared.changed.notify_all();
        }
    }

    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped_total.load(Ordering::Relaxed)
    }

    /// Waits until everything queued so far is written, but not longer than `patience`: a dead pipe must not keep the
    /// process from ending.
    pub(super) fn flush(&self, patience: Duration) {
        let pending = |state: &mut State| state.writing || !state.waiting.is_empty();
        let state = self.shared.lock();
        drop(self.shared.changed.wait_timeout_while(state, patience, pending));
    }

    /// Writes the rest and ends the thread.
    pub(super) fn stop(&self, patience: Duration) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        self.flush(patience);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let drained = {
            let state = self.shared.lock();
            !state.writing && state.waiting.is_empty()
        };
        if let Some(thread) = thread.filter(|_| drained) {
            // It has nothing to do any more; a panic in it was printed by the hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; and if something did, the buffer is still a buffer of lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut sink: Box<dyn Sink>, complaint: &dyn Fn(u64) -> String) {
        let mut lines = Vec::new();
        loop {
            let idle = |state: &mut State| state.waiting.is_empty() && !state.stopping;
            let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut lines, &mut state.waiting);
            let dropped = std::mem::take(&mut state.dropped);
            state.writing = true;
            drop(state);
            sink.write_lines(&lines);
            if dropped > 0 {
                sink.write_lines(complaint(dropped).as_bytes());
            }
            lines.clear();
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes into memory, but only when told to.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for Gate {
        fn write_lines(&mut self, lines: &[u8]) {
            let _ = self.open.recv();
            self.written.lock().expect("no panic").extend_from_slice(lines);
        }
    }

    fn gated() -> (Writer, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open, receiver) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Gate { open: receiver, written: Arc::clone(&written) };
        let writer = Writer::start(Box::new(sink), |count| format!("dropped {count}\n")).expect("a thread");
        (writer, open, written)
    }

    #[test]
    fn lines_arrive_in_order_and_stop_waits_for_them() {
        let (writer, open, written) = gated();
        drop(open); // wide open
        for number in 0..1000 {
            writer.push(&format!("{number}\n"), false);
        }
        writer.stop(Duration::from_secs(10));
        let text = String::from_utf8(written.lock().expect("no panic").clone()).expect("UTF-8");
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected);
        writer.push("late\n", true);
        assert_eq!(writer.dropped(), 1, "nothing is queued behind the end");
    }

    #[test]
    fn at_the_bound_ordinary_lines_are_dropped_and_counted_and_important_ones_are_not() {
        let (writer, open, written) = gated();
        writer.push("first\n", false);
        // The thread takes the first line and is stuck with it; then the buffer fills up.
        while !writer.shared.lock().writing {
            std::thread::yield_now();
        }
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..QUEUE_BYTES_MAX / line.len() {
            writer.push(&line, false);
        }
        assert_eq!(writer.dropped(), 0);
        for _ in 0..5 {
            writer.push(&line, false);
        }
        assert_eq!(writer.dropped(), 5);
        writer.push("important\n", true);
        assert_eq!(writer.dropped(), 5);
        for _ in 0..2 * QUEUE_BYTES_MAX / line.len() {
            writer.push(&line, true);
        }
        assert!(writer.dropped() > 5, "the reserve ends too");
        assert!(writer.shared.lock().waiting.len() <= QUEUE_BYTES_MAX_IMPORTANT);
        let dropped = writer.dropped();
        drop(open);
        writer.stop(Duration::from_secs(10));
        let text = String::from_utf8(written.lock().expect("no panic").clone()).expect("UTF-8");
        assert!(text.contains("important\n") && text.ends_with(&format!("dropped {dropped}\n")));
    }

    #[test]
    fn a_dead_output_does_not_keep_the_process_from_ending() {
        let (writer, _open, _) = gated();
        writer.push("never written\n", false);
        writer.stop(Duration::from_millis(20));
    }
}
