//! The runtime: everything this program takes from glommio. No other file names it, so that it can be mended or replaced
//! in one place.
//!
//! One [`reactor`] is one thread. Tasks stay on it, in a [`Queue`] each; queues share the thread by weight, and the
//! shortest interval of any of them is how long a reactor may stay away from its sockets. Descriptors become streams of
//! the calling thread's reactor.
//!
//! Not here: how long work is cut into steps ([`crate::turn`]).

mod awake;

use std::io;
use std::time::Duration;

use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, Placement, Shares};

/// A reactor that was started, to be joined.
pub use glommio::ExecutorJoinHandle as Reactor;
/// A task of this reactor. Dropping it cancels the task; [`detach`](Task::detach) lets it run on.
pub use glommio::Task;
/// A queue of tasks, for [`spawn_into`].
pub use glommio::TaskQueueHandle as Queue;
pub use glommio::net::{TcpListener, TcpStream, UnixStream};
pub use glommio::timer::{Timer, sleep};

/// Entries that each ring of a reactor has room for, where nothing is said against it.
pub const RING_ENTRIES: usize = 128;

/// Starts a thread with a reactor, which runs until the future that `main` makes there is done. `core` pins it. It has
/// three rings of `ring_entries` each, which may count as locked memory (Linux before 5.12, and again since 6.14): about
/// 16 KiB each for [`RING_ENTRIES`], 8 KiB for 16 entries, which is as small as they become.
pub fn reactor<F, T>(
    name: &str,
    core: Option<usize>,
    ring_entries: usize,
    main: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Reactor<T>>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let placement = core.map_or(Placement::Unbound, Placement::Fixed);
    // Its own buffers are for direct input and output on files, which no reactor does: the least there is.
    let main = || async move {
        awake::keep_waking().await;
        main().await
    };
    LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(0)
        .ring_depth(ring_entries)
        .spawn(main)
        .map_err(io::Error::from)
}

/// Runs `main` on a reactor of this thread, for tests and examples.
pub fn block_on<T>(main: impl Future<Output = T>) -> T {
    LocalExecutor::default().run(main)
}

/// Runs a task in the queue of the caller.
pub fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
    glommio::spawn_local(task)
}

/// Runs a task in `queue`, which is one of this reactor.
pub fn spawn_into<T: 'static>(task: impl Future<Output = T> + 'static, queue: Queue) -> Task<T> {
    glommio::spawn_local_into(task, queue).expect("queues live as long as their reactor, and stay on it")
}

/// Runs `work`, which may block, on a thread beside the reactor.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}

/// Lets other tasks of the queue, and other queues, run.
pub async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

/// A new queue of this reactor: its weight among the others that want to run, and how long it may keep them waiting.
pub fn queue(name: &str, shares: usize, interval: Duration) -> Queue {
    glommio::executor().create_task_queue(Shares::Static(shares), Latency::Matters(interval), name)
}

/// The queue of the caller.
pub fn current_queue() -> Queue {
    glommio::executor().current_task_queue()
}

/// Tasks that this reactor has run since this was last asked.
pub fn tasks_run() -> u64 {
    glommio::executor().executor_stats().tasks_executed()
}

/// The queue that every reactor begins with. It has no interval, and wakers of its tasks that another thread calls while
/// the reactor is awake make no system call.
pub fn first_queue() -> Queue {
    Queue::default()
}
