//! Many starts on a machine that is busy: none hangs, and each server ends when it is told.

use super::server::Server;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Threads that want every processor for themselves.
struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start() -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let count = 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let spin = || {
            let ends = ends.clone();
            std::thread::spawn(move || while !ends.load(Ordering::Relaxed) {})
        };
        let threads = (0..count).map(|_| spin()).collect();
        Load { ends, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("it ends"));
    }
}

#[test]
fn no_start_hangs_on_a_busy_machine() {
    let starts: u32 = std::env::var("PLINTH_STARTS").map_or(16, |text| text.parse().expect("a number"));
    let _load = Load::start();
    let mut slowest = Default::default();
    for number in 0..starts {
        let reactors = (1 + number % 8).to_string();
        let begun = Instant::now();
        // Fails if it does not say in time that it is ready.
        let mut server = Server::start(&["--reactors", &reactors]);
        slowest = begun.elapsed().max(slowest);
        assert_eq!(server.terminate().signal(), Some(15), "start {number} with {reactors} reactors");
    }
    println!("{starts} starts, the slowest took {slowest:?}");
}
