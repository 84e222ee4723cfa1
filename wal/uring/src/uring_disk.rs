//! The real disk: a folder, an io_uring of its own, and a helper thread for everything slow.
//!
//! ```text
//!   reactor:  write ─ submit ──────────> ring: write → fdatasync → byte into the socketpair ──> wake_fd: reactor polls
//!             prepare, retire ─────────> helper thread: zeros, syncs, names → byte ───────────> wake_fd
//! ```
//!
//! While little goes on, the reactor has nothing else to do than to wait for its only write. It says so beforehand
//! ([`attend`](UringDisk::attend)), and then sleeps in the log's own ring until the write is durable, for a few hundred
//! microseconds at most ([`wait_attended`](UringDisk::wait_attended)): no socket, no reactor to wake. Such a write is made
//! directly if the device does that as fast ([`Way`]).
//!
//! Writes of the two ways are never in flight together: one that comes while the other way is under way is held back until
//! that has ended. Each begins at a block of its own in any case, so neither touches what the other has made durable.
//!
//! Invariants: nothing the reactor calls after opening blocks on the file system, but opening a prepared segment's file
//! (a look-up of a cached name, once per segment). A buffer in flight belongs to the ring.
//! Deliberately absent: the lock on the folder (the server's), and what goes into a write (`wal`).

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use plinth_wal::format::SegmentHeader;
use plinth_wal::limits::{BLOCK_BYTES, BUFFER_BYTES_DEFAULT, FLUSHES_IN_FLIGHT_DEFAULT};
use plinth_wal::{Access, AlignedBuf, Completion, Directory, Disk, DiskFault, SegmentSeq, Segments, Write};

use crate::preparer::{Notice, Preparer};
use crate::quiet::{Quiet, WAIT_MAX, Way};
use crate::sys::{Chain, FILES_MAX, Ring, RingEvent};

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// A buffered write, then `fdatasync`, by a worker of io_uring, which runs on whatever processor is free. What somebody
    /// waits for is written directly, where that is as fast.
    Fdatasync,
    /// One write to a file opened `O_DIRECT | O_DSYNC`: no copy and no worker, for half the CPU (4 KiB: 16 against 33 us
    /// per flush; 64 KiB: 33 against 96). But Linux (seen with 6.18) ends such writes in a kernel thread bound to the
    /// processor that took the interrupt; if that one is busy, as a reactor under load is, the end waits for its next
    /// tick: a median of 3.5 ms instead of 0.07. Only for machines that keep that processor free.
    Direct,
    /// Not at all (`--unsafe-no-fsync`): a power failure loses what was acknowledged.
    Unsafe,
}

/// How the disk is set up.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// How writes become durable.
    pub sync: SyncMode,
    /// Capacity of each registered buffer. As [`WalOptions::buffer_bytes`](plinth_wal::WalOptions::buffer_bytes).
    pub buffer_bytes: usize,
    /// Number of registered buffers: one being filled, the others in flight.
    pub buffers: usize,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { sync: SyncMode::Fdatasync, buffer_bytes: BUFFER_BYTES_DEFAULT, buffers: FLUSHES_IN_FLIGHT_DEFAULT + 2 }
    }
}

/// Why the disk could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UringError {
    /// The kernel or a container's policy refuses io_uring.
    #[error(
        "io_uring is not permitted here ({source}); kernel.io_uring_disabled is {disabled}. Plinth needs it. Set the \
         sysctl kernel.io_uring_disabled to 0 (1 allows only the group in kernel.io_uring_group), and in a container \
         allow the system calls io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile (Docker: \
         --security-opt seccomp=<profile>; Kubernetes: securityContext.seccompProfile)"
    )]
    NotPermitted {
        /// Value of the sysctl, or "unknown".
        disabled: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel has no io_uring.
    #[error(
        "this kernel has no io_uring, or a container's seccomp profile pretends so ({0}); Plinth needs Linux 5.8 or newer \
         with CONFIG_IO_URING, and the system calls io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Missing(#[source] io::Error),
    /// Rings count as locked memory here, and there is too little of it.
    #[error(
        "io_uring has no memory for a ring ({0}): all processes of a user together may lock what a limit allows \
         (ulimit -l); allow more (LimitMEMLOCK=8M in a systemd unit, --ulimit memlock=8388608 for a container, or the \
         capability IPC_LOCK)"
    )]
    Memory(#[source] io::Error),
    /// Another failure of setting up the ring, the socketpair or the thread.
    #[error("set up {what}: {source}")]
    Setup {
        /// What was being set up.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskFault),
}

impl UringError {
    /// Why a ring, of this disk or of anybody else, could not be set up.
    pub fn ring(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
                let disabled = disabled.map_or_else(|_| "unknown".into(), |value| value.trim().to_string());
                Self::NotPermitted { disabled, source }
            }
            Some(libc::ENOSYS) => Self::Missing(source),
            Some(libc::ENOMEM) => Self::Memory(source),
            _ => Self::Setup { what: "io_uring", source },
        }
    }
}

/// Whether io_uring can be used here at all. What a reactor says where it cannot is less helpful than this error.
pub fn probe() -> Result<(), UringError> {
    crate::sys::probe().map_err(UringError::ring)
}

struct OpenSegment {
    seq: SegmentSeq,
    /// Index in the ring's file table.
    index: u32,
    /// Held open: the ring's table refers to it.
    _file: File,
    /// The same file, opened for direct writes, at its own place of the table; none where the file system has no such.
    direct: Option<File>,
}

/// Segments whose files are in the ring's table, each up to twice.
const SEGMENTS_MAX: u32 = FILES_MAX / 2;

/// A write that somebody waits for.
#[derive(Clone, Copy)]
struct Attended {
    ticket: u64,
    way: Way,
    since: Instant,
    /// Nobody waits any more.
    given_up: bool,
}

/// See the module.
pub struct UringDisk {
    // The ring is dropped first: it waits for what is in flight.
    ring: Ring,
    preparer: Preparer,
    directory: Directory,
    segments: Vec<OpenSegment>,
    buffers: Vec<AlignedBuf>,
    buffers_max: usize,
    buffer_bytes: usize,
    /// Ticket and place of each write in flight, to name it should it fail.
    in_flight: Vec<(u64, SegmentSeq, u64)>,
    /// Completions found while waiting, and of writes that could not be queued.
    ended: VecDeque<Completion>,
    mode: SyncMode,
    /// The next write will be waited for.
    attends: bool,
    /// It is in flight.
    attended: Option<Attended>,
    /// What is in flight are direct writes beside the usual mode.
    is_direct: bool,
    /// Buffered writes that came while a direct one was in flight.
    held: VecDeque<Write>,
    quiet: Quiet,
    /// Whether the file system has direct writes, once that was tried.
    has_direct: Option<bool>,
    wake: UnixStream,
    _wake_sender: UnixStream,
}

impl UringDisk {
    /// Opens the folder, creating it if needed, and sets up the ring and the helper thread.
    pub fn open(path: impl AsRef<Path>, options: UringOptions) -> Result<Self, UringError> {
        let path = path.as_ref();
        let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
        created.map_err(|error| DiskFault::new("create", path.display().to_string(), &error))?;
        let directory = Directory::open(path)?;
        let spares = directory.tidy()?;
        let setup = |what| move |source| UringError::Setup { what, source };

        let (wake, sender) = UnixStream::pair().map_err(setup("the wake-up socket"))?;
        for end in [&wake, &sender] {
            end.set_nonblocking(true).map_err(setup("the wake-up socket"))?;
        }
        let mut ring = Ring::new(&sender).map_err(UringError::ring)?;
        let buffers = ring.register_buffers(options.buffers, options.buffer_bytes);
        let helper_wake = sender.try_clone().map_err(setup("the wake-up socket"))?;
        let preparer = Preparer::start(directory.again()?, spares, access(options.sync), helper_wake);
        Ok(Self {
            ring,
            preparer: preparer.map_err(setup("the helper thread"))?,
            directory,
            segments: Vec::new(),
            buffers,
            buffers_max: options.buffers,
            buffer_bytes: options.buffer_bytes.next_multiple_of(BLOCK_BYTES),
            in_flight: Vec::new(),
            ended: VecDeque::new(),
            mode: options.sync,
            attends: false,
            attended: None,
            is_direct: false,
            held: VecDeque::new(),
            quiet: Quiet::default(),
            has_direct: None,
            wake,
            _wake_sender: sender,
        })
    }

    /// The end a reactor awaits: readable, with one byte or more, whenever [`Wal::poll`](plinth_wal::Wal::poll) has
    /// something new. Non-blocking; read what is there, then poll. Duplicate it to keep it.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// How writes become durable.
    pub fn sync_mode(&self) -> SyncMode {
        self.mode
    }

    /// Whether the buffers are registered with the ring (locked memory may be short).
    pub fn buffers_registered(&self) -> bool {
        self.buffers.iter().any(|buffer| buffer.registered().is_some())
    }

    /// Locked memory that the buffers take if they are registered.
    pub fn registered_bytes(&self) -> usize {
        self.buffers_max * self.buffer_bytes
    }

    /// Reads and drops waiting wake-up bytes.
    pub fn drain_wake(&mut self) {
        use io::Read as _;
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }

    /// Blocks until something wakes the reactor: for tests, benches and tools without one.
    pub fn wait(&mut self) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.wake.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        crate::sys::poll_forever(&mut poll)?;
        self.drain_wake();
        Ok(())
    }

    /// Says whether whoever causes the next write will call [`wait_attended`](UringDisk::wait_attended) when it is on its
    /// way. Only for the time until then: writes of anybody else wake the reactor.
    pub fn attend(&mut self, attends: bool) {
        self.attends = attends && self.mode == SyncMode::Fdatasync && self.ring.can_wait_within();
    }

    /// Whether a write is in flight whose end does not wake the reactor.
    pub fn is_attended(&self) -> bool {
        self.attended.is_some()
    }

    /// Sleeps until the attended write is durable, and no longer than [`WAIT_MAX`], once. True if
    /// [`Wal::poll`](plinth_wal::Wal::poll) has something new; else the caller has to call that now and then, until the
    /// write is no longer [attended](UringDisk::is_attended).
    pub fn wait_attended(&mut self) -> bool {
        let waited = self.wait_or_give_up();
        if let Err(error) = &waited {
            self.ended.push_back(Completion::Failed(DiskFault::new("wait for", "the write-ahead log's ring", error)));
        }
        waited.unwrap_or(true)
    }

    fn wait_or_give_up(&mut self) -> io::Result<bool> {
        let Some(Attended { way, since, given_up: false, .. }) = self.attended else { return Ok(false) };
        let until = Instant::now() + WAIT_MAX;
        while self.attended.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            let Some(event) = self.ring.wait_within(left)? else { break };
            let completion = self.completed(event);
            self.ended.push_back(completion);
        }
        let is_durable = self.attended.is_none();
        if let Some(attended) = &mut self.attended {
            attended.given_up = true;
        }
        self.quiet.waited(way, since.elapsed(), is_durable);
        Ok(is_durable)
    }

    /// How a write goes that is waited for, by what is known by now.
    pub fn attended_way(&self) -> Way {
        self.quiet.better()
    }

    /// The time that a write of this way usually takes that is waited for, once there was one.
    pub fn attended_time(&self, way: Way) -> Option<Duration> {
        self.quiet.usual(way)
    }

    /// The way of the next write, if it is to be waited for: nothing else is in flight, and waiting pays.
    fn next_attended(&mut self, segment: SegmentSeq) -> Option<Way> {
        if !self.attends || !self.in_flight.is_empty() || !self.held.is_empty() || !self.quiet.may_wait() {
            return None;
        }
        let has_direct = self.segments.iter().any(|open| open.seq == segment && open.direct.is_some());
        Some(if has_direct { self.quiet.choose() } else { Way::Buffered })
    }

    fn push(&mut self, write: Write, attended: Option<Way>) {
        let Write { ticket, segment, offset, bytes, buffer } = write;
        match self.file_index(segment) {
            Ok(file) => {
                self.is_direct = attended == Some(Way::Direct);
                let file = if self.is_direct { file + SEGMENTS_MAX } else { file };
                let sync = self.mode == SyncMode::Fdatasync && !self.is_direct;
                self.in_flight.push((ticket, segment, offset));
                if let Some(way) = attended {
                    self.attended = Some(Attended { ticket, way, since: Instant::now(), given_up: false });
                }
                self.ring.push(Chain { ticket, file, offset, bytes, buffer, sync, wakes: attended.is_none() });
            }
            Err(fault) => self.ended.push_back(Completion::Flushed { ticket, buffer, result: Err(fault) }),
        }
    }

    fn enter(&mut self) -> Result<(), DiskFault> {
        let submitted = self.ring.submit();
        submitted.map_err(|error| DiskFault::new("io_uring_enter", "the write-ahead log's ring", &error))
    }

    /// A chain has ended: what was held back for it follows.
    fn completed(&mut self, event: RingEvent) -> Completion {
        let at = self.in_flight.iter().position(|(ticket, ..)| *ticket == event.ticket);
        let (_, segment, offset) = self.in_flight.swap_remove(at.expect("written before"));
        if self.attended.is_some_and(|attended| attended.ticket == event.ticket) {
            self.attended = None;
        }
        if self.in_flight.is_empty() && !self.held.is_empty() {
            while let Some(write) = self.held.pop_front() {
                self.push(write, None);
            }
            if let Err(fault) = self.enter() {
                self.ended.push_back(Completion::Failed(fault));
            }
        }
        let result = event.result.map_err(|(action, errno)| self.fault_of(segment, action, errno).at(offset));
        Completion::Flushed { ticket: event.ticket, buffer: event.buffer, result }
    }

    /// Place of a segment's file in the ring's table; opened here only if it was not prepared in this run.
    fn file_index(&mut self, seq: SegmentSeq) -> Result<u32, DiskFault> {
        if let Some(open) = self.segments.iter().find(|open| open.seq == seq) {
            return Ok(open.index);
        }
        let file = self.directory.open_segment(seq, access(self.mode))?;
        let direct = self.open_direct(seq);
        self.register(seq, file, direct)
    }

    fn register(&mut self, seq: SegmentSeq, file: File, direct: Option<File>) -> Result<u32, DiskFault> {
        if self.segments.len() == SEGMENTS_MAX as usize {
            // Writes go to the newest segments; what is in flight has its file by now, table or not.
            let oldest = self.segments.iter().map(|open| open.seq).min().expect("the table is full");
            self.segments.retain(|open| open.seq != oldest);
        }
        let free = (0..SEGMENTS_MAX).find(|index| self.segments.iter().all(|open| open.index != *index));
        let index = free.expect("there is room in the table");
        let direct = direct.filter(|_| self.has_direct == Some(true));
        let registered = self.ring.set_file(index, Some(file.as_raw_fd()));
        let registered =
            registered.and_then(|()| self.ring.set_file(index + SEGMENTS_MAX, direct.as_ref().map(File::as_raw_fd)));
        registered.map_err(|error| self.directory.fault("register", &seq.file_name(), &error))?;
        self.segments.push(OpenSegment { seq, index, _file: file, direct });
        Ok(index)
    }

    /// A segment's file for direct writes, where the file system has such. Some open a file so and then refuse to work on
    /// it: the first one is read from.
    fn open_direct(&mut self, seq: SegmentSeq) -> Option<File> {
        if self.mode != SyncMode::Fdatasync || self.has_direct == Some(false) {
            return None;
        }
        let file = self.directory.open_segment(seq, Access::Direct).ok();
        let has_direct = self.has_direct.unwrap_or_else(|| {
            let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
            file.as_ref().is_some_and(|file| file.read_exact_at(block.bytes_mut(), 0).is_ok())
        });
        self.has_direct = Some(has_direct);
        file.filter(|_| has_direct)
    }

    fn fault_of(&self, segment: SegmentSeq, action: &'static str, errno: i32) -> DiskFault {
        let file = self.directory.segment_path(segment).display().to_string();
        DiskFault { action, file, offset: None, errno }
    }
}

impl Segments for UringDisk {
    fn list(&mut self) -> Result<Vec<SegmentSeq>, DiskFault> {
        self.directory.list()
    }

    fn size(&mut self, seq: SegmentSeq) -> Result<u64, DiskFault> {
        self.directory.size(seq)
    }

    fn sync_and_uncache(&mut self, seq: SegmentSeq) -> Result<(), DiskFault> {
        self.directory.sync_and_uncache(seq)
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, out: &mut [u8]) -> Result<(), DiskFault> {
        self.directory.read(seq, offset, out)
    }

    fn zero(&mut self, seq: SegmentSeq, from: u64, to: u64) -> Result<(), DiskFault> {
        self.directory.zero(seq, from, to)
    }
}

impl Disk for UringDisk {
    fn prepare_now(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        self.directory.create(header, &mut || {})
    }

    fn prepare(&mut self, header: SegmentHeader) {
        self.preparer.prepare(header);
    }

    fn hurry(&mut self) {
        self.preparer.hurry();
    }

    fn retire(&mut self, seq: SegmentSeq) {
        self.segments.retain(|open| open.seq != seq);
        self.preparer.retire(seq);
    }

    fn take_buffer(&mut self, bytes_min: usize) -> AlignedBuf {
        match self.buffers.iter().position(|buffer| buffer.capacity() >= bytes_min) {
            Some(at) => self.buffers.swap_remove(at),
            None => AlignedBuf::zeroed(bytes_min),
        }
    }

    fn give_buffer(&mut self, buffer: AlignedBuf) {
        // Not those of oversized records: they would be kept for ever.
        let usual = buffer.capacity() == self.buffer_bytes && self.buffers.len() < self.buffers_max;
        if buffer.registered().is_some() || usual {
            self.buffers.push(buffer);
        }
    }

    fn write(&mut self, write: Write) {
        let attended = self.next_attended(write.segment);
        let waits = self.is_direct && !self.in_flight.is_empty();
        if waits || !self.held.is_empty() {
            assert!(attended.is_none(), "only what is alone is waited for");
            return self.held.push_back(write);
        }
        self.push(write, attended);
    }

    fn submit(&mut self) -> Result<(), DiskFault> {
        self.enter()
    }

    fn poll(&mut self) -> Option<Completion> {
        if let Some(completion) = self.ended.pop_front() {
            return Some(completion);
        }
        if let Some(event) = self.ring.poll() {
            return Some(self.completed(event));
        }
        match self.preparer.poll()? {
            Notice::Prepared { segment, result, direct } => {
                let result = result.and_then(|file| self.register(segment, file, direct)).map(|_| ());
                Some(Completion::Prepared { segment, result })
            }
            Notice::Failed(fault) => Some(Completion::Failed(fault)),
        }
    }
}

fn access(mode: SyncMode) -> Access {
    if mode == SyncMode::Direct { Access::Direct } else { Access::Buffered }
}
