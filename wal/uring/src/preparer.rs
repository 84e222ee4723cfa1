//! The helper thread that makes segments ready and puts retired ones away, so that the reactor never waits for a file
//! system.
//!
//! Invariants: jobs are done in the order given, each durable before the next, so a crash leaves a prefix of them.
//! After a failure other than a full disk nothing more is done. Deliberately absent: flushes (`uring_disk`).

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use plinth_wal::format::SegmentHeader;
use plinth_wal::{Access, Directory, DiskFault, SegmentSeq};

enum Job {
    Prepare(SegmentHeader),
    Retire(SegmentSeq),
}

/// What the thread has to say.
pub(crate) enum Notice {
    /// The answer to one `prepare`.
    Prepared { segment: SegmentSeq, result: Result<File, DiskFault>, direct: Option<File> },
    /// A retired segment could not be put away.
    Failed(DiskFault),
}

/// The reactor's end.
pub(crate) struct Preparer {
    jobs: Option<Sender<Job>>,
    notices: Receiver<Notice>,
    thread: Option<JoinHandle<()>>,
    hurry: Arc<AtomicBool>,
}

impl Preparer {
    /// Starts the thread with these retired files to recycle. It opens segments with `access`, and for direct writes as well
    /// where that differs and the file system has them; and it writes a byte to `wake` after each notice.
    pub fn start(directory: Directory, spares: Vec<String>, access: Access, wake: UnixStream) -> std::io::Result<Self> {
        let hurry = Arc::new(AtomicBool::new(false));
        let (jobs, inbox) = channel();
        let (outbox, notices) = channel();
        let worker = Worker { directory, spares, access, wake, inbox, outbox, hurry: hurry.clone() };
        let thread = std::thread::Builder::new().name("wal-prepare".into()).spawn(move || worker.run())?;
        Ok(Self { jobs: Some(jobs), notices, thread: Some(thread), hurry })
    }

    pub fn prepare(&self, header: SegmentHeader) {
        self.send(Job::Prepare(header));
    }

    pub fn retire(&self, seq: SegmentSeq) {
        self.send(Job::Retire(seq));
    }

    /// No pauses until the segment being prepared is there.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    fn send(&self, job: Job) {
        // The thread ends early only after a failure, which `poll` reports.
        let _ = self.jobs.as_ref().expect("open until dropped").send(job);
    }

    /// The next notice, if there is one.
    pub fn poll(&self) -> Option<Notice> {
        match self.notices.try_recv() {
            Ok(notice) => Some(notice),
            Err(TryRecvError::Empty) => None,
            // It ends early only by a panic, or after a failure already reported.
            Err(TryRecvError::Disconnected) => Some(Notice::Failed(DiskFault {
                action: "prepare segments",
                file: "(the helper thread ended)".into(),
                offset: None,
                errno: libc::ECANCELED,
            })),
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add while closing.
            let _ = thread.join();
        }
    }
}

struct Worker {
    directory: Directory,
    spares: Vec<String>,
    access: Access,
    wake: UnixStream,
    inbox: Receiver<Job>,
    outbox: Sender<Notice>,
    hurry: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        while let Ok(job) = self.inbox.recv() {
            match job {
                Job::Prepare(header) => {
                    let prepared = self.prepare(header);
                    let result = prepared.and_then(|()| self.directory.open_segment(header.seq, self.access));
                    self.hurry.store(false, Ordering::Relaxed);
                    let fatal = result.as_ref().is_err_and(|fault| !fault.is_out_of_space());
                    let direct = (self.access == Access::Buffered)
                        .then(|| self.directory.open_segment(header.seq, Access::Direct).ok());
                    self.tell(Notice::Prepared { segment: header.seq, result, direct: direct.flatten() });
                    if fatal {
                        return;
                    }
                }
                Job::Retire(seq) => match self.directory.retire(seq, self.spares.len()) {
                    Ok(spare) => self.spares.extend(spare),
                    Err(fault) => return self.tell(Notice::Failed(fault)),
                },
            }
        }
    }

    fn prepare(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        while let Some(spare) = self.spares.pop() {
            if self.directory.file_bytes(&spare)? == header.segment_bytes {
                return self.directory.recycle(&spare, SegmentHeader { recycled: true, ..header });
            }
            // Of another size, from before a change of options.
            self.directory.remove(&spare)?;
        }
        // As long a pause as the work took: a flush in between finds the device at most half busy with zeros.
        let mut worked_since = Instant::now();
        self.directory.create(header, &mut || {
            if !self.hurry.load(Ordering::Relaxed) {
                std::thread::sleep(worked_since.elapsed());
            }
            worked_since = Instant::now();
        })
    }

    fn tell(&mut self, notice: Notice) {
        if self.outbox.send(notice).is_ok() {
            // Full means that a wake-up is waiting already; closed, that nobody is left to wake.
            let _ = self.wake.write(&[1]);
        }
    }
}
