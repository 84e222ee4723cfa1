//! The log's own io_uring: chains of write, sync and wake-up.
//!
//! ```text
//!   write ──hardlink──> fdatasync ──hardlink──> send one byte to the wake socket        (synced by a call)
//!   write ──hardlink──> send                                                            (file opened O_DSYNC)
//!   either without the send                                                             (somebody waits: `wait_within`)
//! ```
//!
//! Hard links run the rest of a chain after a failure too, so the reactor is always woken, to learn of it. A chain is
//! complete when its write and its sync have both reported: both do so before the send begins, so whoever is woken
//! finds them. The send reports only failure, and that is ignored: a full socket wakes as well. The end
//! of a chain without a send is found by whoever looks.
//!
//! Invariants: a buffer in flight is owned by its slot, and the ring is dropped only when no chain is in flight; a
//! slot is reused only when both results are in. Deliberately absent: what is written where (`uring_disk`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};

use plinth_wal::AlignedBuf;
use plinth_wal::limits::FLUSHES_IN_FLIGHT_MAX;

const ENTRIES: u32 = 64;
const _: () = assert!(FLUSHES_IN_FLIGHT_MAX * 3 <= ENTRIES as usize);

/// Entries of the ring's file table.
pub(crate) const FILES_MAX: u32 = 64;

static WAKE: [u8; 1] = [1];

const OP_WRITE: u64 = 0;
const OP_SYNC: u64 = 1;
const OP_WAKE: u64 = 2;

/// One write to a registered file, made durable.
#[derive(Debug)]
pub(crate) struct Chain {
    pub ticket: u64,
    /// Index in the file table.
    pub file: u32,
    pub offset: u64,
    pub bytes: usize,
    pub buffer: AlignedBuf,
    /// Whether a sync follows the write.
    pub sync: bool,
    /// Whether the end of it wakes the reactor; else somebody waits for it.
    pub wakes: bool,
}

/// A chain that ended.
#[derive(Debug)]
pub(crate) struct RingEvent {
    pub ticket: u64,
    pub buffer: AlignedBuf,
    /// What failed first: "write" or "fdatasync", with its error number (0: fewer bytes than asked).
    pub result: Result<(), (&'static str, i32)>,
}

struct Slot {
    chain: Chain,
    write: Option<i32>,
    sync: Option<i32>,
}

/// See the module.
pub(crate) struct Ring {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    in_flight: usize,
    wake: RawFd,
    /// Success of a send need not be reported (kernel 5.17).
    skip_success: bool,
    /// Waiting may have an end (kernel 5.11).
    can_wait_within: bool,
}

/// Tries every system call of io_uring once: what is allowed is found out before anything depends on it.
pub(crate) fn probe() -> io::Result<()> {
    let mut ring = IoUring::new(2)?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    // Operations were added in this order: a kernel that has the last one used anywhere has them all.
    if !known.is_supported(opcode::Recv::CODE) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    // SAFETY: an operation that names no memory.
    let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    pushed.expect("the queue is empty");
    ring.submit_and_wait(1).map(|_| ())
}

impl Ring {
    /// Sets up a ring whose chains wake the peer of `wake`. The caller keeps `wake` open as long as the ring.
    pub fn new(wake: &impl AsRawFd) -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES)?;
        let skip_success = ring.params().is_feature_skip_cqe_on_success();
        let can_wait_within = ring.params().is_feature_ext_arg();
        ring.submitter().register_files(&[-1; FILES_MAX as usize])?;
        let slots = (0..FLUSHES_IN_FLIGHT_MAX).map(|_| None).collect();
        Ok(Self { ring, slots, in_flight: 0, wake: wake.as_raw_fd(), skip_success, can_wait_within })
    }

    /// Pins `count` buffers for good and returns them. Where locked memory is short they come back unpinned: they work
    /// as well, a little slower.
    pub fn register_buffers(&mut self, count: usize, bytes: usize) -> Vec<AlignedBuf> {
        let mut buffers: Vec<AlignedBuf> = (0..count).map(|_| AlignedBuf::zeroed(bytes)).collect();
        let vectors: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|b| libc::iovec { iov_base: b.bytes_mut().as_mut_ptr().cast(), iov_len: b.capacity() })
            .collect();
        // SAFETY: the vectors describe live allocations. The kernel pins their pages, not their addresses, so a buffer
        // freed early costs memory and is never written by the kernel.
        let registered = unsafe { self.ring.submitter().register_buffers(&vectors) };
        if registered.is_ok() {
            for (index, buffer) in buffers.iter_mut().enumerate() {
                buffer.set_registered(u16::try_from(index).expect("few buffers"));
            }
        }
        buffers
    }

    /// Puts a file at `index` of the table, or clears the place.
    pub fn set_file(&mut self, index: u32, file: Option<RawFd>) -> io::Result<()> {
        self.ring.submitter().register_files_update(index, &[file.unwrap_or(-1)]).map(|_| ())
    }

    /// Queues a chain; `submit` sends it off.
    ///
    /// # Panics
    /// If more chains are in flight than [`FLUSHES_IN_FLIGHT_MAX`].
    pub fn push(&mut self, chain: Chain) {
        assert!(chain.bytes <= chain.buffer.capacity(), "the kernel reads inside the buffer");
        let index = self.slots.iter().position(Option::is_none).expect("chains in flight are bounded");
        let sync = (!chain.sync).then_some(0);
        let chain = &self.slots[index].insert(Slot { chain, write: None, sync }).chain;
        let data = |op: u64| (index as u64) << 8 | op;

        let start = chain.buffer.bytes().as_ptr();
        let length = u32::try_from(chain.bytes).expect("segments stay below 4 GiB");
        let file = Fixed(chain.file);
        let write = match chain.buffer.registered() {
            Some(buffer) => opcode::WriteFixed::new(file, start, length, buffer).offset(chain.offset).build(),
            None => opcode::Write::new(file, start, length).offset(chain.offset).build(),
        };
        // Everything but the last entry of a chain is linked to the next one.
        let (hard, none) = (squeue::Flags::IO_HARDLINK, squeue::Flags::empty());
        let link = |is_last: bool| if is_last { none } else { hard };
        // A buffered write followed by a sync would block anyway: let it go to a worker at once.
        let worker = if chain.sync { squeue::Flags::ASYNC } else { none };
        let write = write.flags(link(!chain.sync && !chain.wakes) | worker).user_data(data(OP_WRITE));
        let sync = opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build();
        let sync = sync.flags(link(!chain.wakes)).user_data(data(OP_SYNC));
        let wake = opcode::Send::new(Fd(self.wake), WAKE.as_ptr(), 1)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .user_data(data(OP_WAKE));
        let wake = if self.skip_success { wake.flags(squeue::Flags::SKIP_SUCCESS) } else { wake };
        let wake = chain.wakes.then_some(wake);

        let sync = chain.sync.then_some(sync);
        for entry in [Some(write), sync, wake].into_iter().flatten() {
            // SAFETY: the memory the entry names outlives the operation: the buffer is owned by its slot until its
            // results are in, the byte to send is static, and dropping the ring waits for what is in flight.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            pushed.expect("the queue holds the largest number of chains");
        }
        self.in_flight += 1;
    }

    /// Whether [`Ring::wait_within`] can be used.
    pub fn can_wait_within(&self) -> bool {
        self.can_wait_within
    }

    /// Sleeps until the next chain ends, or the time is over.
    pub fn wait_within(&mut self, limit: Duration) -> io::Result<Option<RingEvent>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(event) = self.poll() {
                return Ok(Some(event));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.in_flight == 0 {
                return Ok(None);
            }
            let left = Timespec::from(left);
            match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left)) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ETIME) => {}
                    // Short of memory for a moment: it cannot be waited here.
                    Some(libc::EAGAIN | libc::EBUSY) => return Ok(self.poll()),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sends queued chains off without waiting for them.
    pub fn submit(&mut self) -> io::Result<()> {
        let mut attempts = 0;
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => attempts = 0,
                Err(error) => {
                    let passing = matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY));
                    attempts += 1;
                    if !passing || attempts > 100 {
                        return Err(error);
                    }
                    std::thread::yield_now();
                }
            }
        }
        Ok(())
    }

    /// The next chain that ended.
    pub fn poll(&mut self) -> Option<RingEvent> {
        while let Some(entry) = self.ring.completion().next() {
            let (index, op) = ((entry.user_data() >> 8) as usize, entry.user_data() & 0xff);
            if op == OP_WAKE {
                continue;
            }
            let slot = self.slots[index].as_mut().expect("results come from chains in flight");
            match op {
                OP_WRITE => slot.write = Some(entry.result()),
                _ => slot.sync = Some(entry.result()),
            }
            if let (Some(write), Some(sync)) = (slot.write, slot.sync) {
                let Slot { chain, .. } = self.slots[index].take().expect("just seen");
                self.in_flight -= 1;
                let result = if write < 0 {
                    Err(("write", -write))
                } else if write as usize != chain.bytes {
                    Err(("write", 0))
                } else if sync < 0 {
                    Err(("fdatasync", -sync))
                } else {
                    Ok(())
                };
                return Some(RingEvent { ticket: chain.ticket, buffer: chain.buffer, result });
            }
        }
        None
    }

    /// Waits until the next chain ends; `None` if none is in flight.
    pub fn wait(&mut self) -> io::Result<Option<RingEvent>> {
        loop {
            if let Some(event) = self.poll() {
                return Ok(Some(event));
            }
            if self.in_flight == 0 {
                return Ok(None);
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
                _ => {}
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still read the buffers of chains in flight.
        while let Ok(Some(_)) = self.wait() {}
        if self.in_flight > 0 {
            // Waiting failed: better to lose the memory than to let it be reused under the kernel's eyes.
            for slot in self.slots.drain(..) {
                std::mem::forget(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_wal::limits::BLOCK_BYTES;
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// Runs one chain on a file and returns its result; the wake-up must have come.
    fn run(file: &File, sync: bool) -> Result<(), (&'static str, i32)> {
        let (mut wake, sender) = UnixStream::pair().expect("a pair");
        let mut ring = Ring::new(&sender).expect("a ring");
        ring.set_file(3, Some(file.as_raw_fd())).expect("a place in the table");
        let buffer = AlignedBuf::zeroed(BLOCK_BYTES);
        ring.push(Chain { ticket: 77, file: 3, offset: 0, bytes: BLOCK_BYTES, buffer, sync, wakes: true });
        ring.submit().expect("submitted");
        // Blocks until the chain's last link.
        let mut byte = [0];
        wake.read_exact(&mut byte).expect("woken");
        assert_eq!(byte, WAKE);
        let event = ring.poll().expect("whoever is woken finds the result");
        assert_eq!((event.ticket, event.buffer.capacity()), (77, BLOCK_BYTES));
        assert!(ring.poll().is_none());
        event.result
    }

    #[test]
    fn success_wakes_and_reports() {
        let file = tempfile::tempfile().expect("a file");
        for sync in [false, true] {
            assert_eq!(run(&file, sync), Ok(()));
        }
        assert_eq!(file.metadata().expect("metadata").len(), BLOCK_BYTES as u64);
    }

    #[test]
    fn a_failed_write_and_a_failed_sync_wake_and_report() {
        let read_only = File::open("/dev/zero").expect("open");
        for sync in [false, true] {
            assert_eq!(run(&read_only, sync), Err(("write", libc::EBADF)));
        }
        let unsyncable = File::options().write(true).open("/dev/null").expect("open");
        assert_eq!(run(&unsyncable, true), Err(("fdatasync", libc::EINVAL)));
        let full = File::options().write(true).open("/dev/full").expect("open");
        assert_eq!(run(&full, true), Err(("write", libc::ENOSPC)));
    }

    #[test]
    fn who_waits_is_not_woken() {
        let file = tempfile::tempfile().expect("a file");
        let (mut wake, sender) = UnixStream::pair().expect("a pair");
        wake.set_nonblocking(true).expect("set");
        let mut ring = Ring::new(&sender).expect("a ring");
        ring.set_file(0, Some(file.as_raw_fd())).expect("a place in the table");
        let chain = |ticket, sync| {
            let buffer = AlignedBuf::zeroed(BLOCK_BYTES);
            Chain { ticket, file: 0, offset: 0, bytes: BLOCK_BYTES, buffer, sync, wakes: false }
        };
        for sync in [false, true] {
            ring.push(chain(5, sync));
            ring.submit().expect("submitted");
            let event = ring.wait_within(Duration::from_secs(60)).expect("waits").expect("it ends");
            assert_eq!((event.ticket, event.result), (5, Ok(())));
            assert_eq!(wake.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        }
        assert!(ring.wait_within(Duration::from_secs(60)).expect("waits").is_none(), "nothing is in flight");
        ring.push(chain(6, true));
        ring.submit().expect("submitted");
        let early = ring.wait_within(Duration::ZERO).expect("waits");
        let event = early.or_else(|| ring.wait_within(Duration::from_secs(60)).expect("waits"));
        assert_eq!(event.map(|event| event.ticket), Some(6), "who gives up finds it later");
    }

    #[test]
    fn dropping_a_ring_waits_for_what_is_in_flight() {
        let file = tempfile::tempfile().expect("a file");
        let (_wake, sender) = UnixStream::pair().expect("a pair");
        let mut ring = Ring::new(&sender).expect("a ring");
        ring.set_file(0, Some(file.as_raw_fd())).expect("a place in the table");
        for ticket in 0..FLUSHES_IN_FLIGHT_MAX as u64 {
            let mut buffer = AlignedBuf::zeroed(BLOCK_BYTES);
            buffer.bytes_mut().fill(ticket as u8 + 1);
            let offset = ticket * BLOCK_BYTES as u64;
            ring.push(Chain { ticket, file: 0, offset, bytes: BLOCK_BYTES, buffer, sync: true, wakes: true });
        }
        ring.submit().expect("submitted");
        drop(ring);
        let mut bytes = Vec::new();
        let mut reader = file.try_clone().expect("clone");
        reader.read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes.len(), FLUSHES_IN_FLIGHT_MAX * BLOCK_BYTES);
        assert!(bytes.chunks(BLOCK_BYTES).enumerate().all(|(at, block)| block.iter().all(|b| *b == at as u8 + 1)));
    }
}
