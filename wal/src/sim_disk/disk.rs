//! The running system on a medium: writes in flight, and the jobs of the helper.

use std::collections::VecDeque;

use super::Rng;
use super::medium::{Files, Halt, SimMedium};
use crate::disk::{Completion, Disk, RepairStore, Segments, Write};
use crate::error::DiskFault;
use crate::format::SegmentHeader;
use crate::limits::{BLOCK_BYTES, SPARES_MAX};
use crate::sys::AlignedBuf;
use crate::types::SegmentSeq;

const TEMPORARY: &str = "prepare.tmp";

/// When effects happen.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// All of them, in order, at each poll.
    InOrder,
    /// Some of them, in an order drawn from a generator, at each poll.
    Shuffled(Rng),
    /// When [`SimDisk::run`] is called.
    Manual,
}

/// A write on its way: to the cache, then, by its sync, to the medium.
struct Flight {
    write: Write,
    written: bool,
}

/// One effect of the helper.
#[derive(Clone, Debug)]
enum Effect {
    Create { name: String, bytes: u64 },
    Write { name: String, bytes: Vec<u8> },
    Sync { name: String },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncNames,
}

/// A job of the helper: effects in order, and the segment to report when they are done.
struct Job {
    effects: VecDeque<Effect>,
    prepares: Option<SegmentSeq>,
}

/// A job as asked for; what it takes is known when its turn comes.
enum Request {
    Prepare(SegmentHeader),
    Retire(SegmentSeq),
}

/// See the module.
pub struct SimDisk {
    medium: SimMedium,
    schedule: Schedule,
    queued: Vec<Write>,
    flights: Vec<Flight>,
    requests: VecDeque<Request>,
    job: Option<Job>,
    /// A job failed for good.
    halted: bool,
    completions: VecDeque<Completion>,
    buffers: Vec<AlignedBuf>,
}

impl SimDisk {
    /// Starts on a medium, removing what an earlier run left half made.
    pub fn new(medium: &SimMedium, schedule: Schedule) -> Self {
        // A crash in here is found again by whoever goes on.
        let _ = medium.with(Files::sync_names);
        let names = medium.names();
        // As the real one: a new log may have the identity of an older one.
        let new_log = names.iter().all(|name| SegmentSeq::from_file_name(name).is_none());
        for name in names {
            if name.ends_with(".tmp") || (new_log && name.ends_with(".spare")) {
                let _ = medium.with(|files| files.remove(&name).and_then(|()| files.sync_names()));
            }
        }
        Self {
            medium: medium.clone(),
            schedule,
            queued: Vec::new(),
            flights: Vec::new(),
            requests: VecDeque::new(),
            job: None,
            halted: false,
            completions: VecDeque::new(),
            buffers: Vec::new(),
        }
    }

    /// Effects that could happen next: one per write in flight, and one of the helper's.
    pub fn ready(&mut self) -> usize {
        self.next_job();
        self.flights.len() + usize::from(self.job.is_some())
    }

    /// Lets one of the ready effects happen.
    pub fn run(&mut self, choice: usize) {
        assert!(choice < self.ready(), "only ready effects happen");
        if choice < self.flights.len() { self.run_flight(choice) } else { self.run_job() }
    }

    fn run_flight(&mut self, choice: usize) {
        let Flight { write, written } = &mut self.flights[choice];
        let name = write.segment.file_name();
        let result = if *written {
            self.medium.with(|files| files.sync(&name))
        } else {
            let bytes = &write.buffer.bytes()[..write.bytes];
            self.medium.with(|files| files.write(&name, write.offset, bytes))
        };
        let result = match result {
            Err(Halt::Dead) => return,
            Ok(()) if !*written => {
                *written = true;
                return;
            }
            Ok(()) => Ok(()),
            Err(Halt::Fault(fault)) => Err(fault.at(write.offset)),
        };
        let Write { ticket, buffer, .. } = self.flights.remove(choice).write;
        self.completions.push_back(Completion::Flushed { ticket, buffer, result });
    }

    fn run_job(&mut self) {
        let job = self.job.as_mut().expect("ready");
        let effect = job.effects.front().expect("a finished job is taken away").clone();
        match self.medium.with(|files| effect.happen(files)) {
            Err(Halt::Dead) => {}
            Err(Halt::Fault(fault)) => {
                let prepares = job.prepares;
                self.job = None;
                // As the helper thread: nothing more is done, or the files would vanish out of order.
                self.halted = !fault.is_out_of_space();
                self.completions.push_back(match prepares {
                    Some(segment) => Completion::Prepared { segment, result: Err(fault) },
                    None => Completion::Failed(fault),
                });
            }
            Ok(()) => {
                job.effects.pop_front();
                if job.effects.is_empty() {
                    let done = self.job.take().and_then(|job| job.prepares);
                    self.completions.extend(done.map(|segment| Completion::Prepared { segment, result: Ok(()) }));
                }
            }
        }
    }

    fn next_job(&mut self) {
        if self.job.is_none()
            && !self.halted
            && let Some(request) = self.requests.pop_front()
        {
            self.job = Some(match request {
                Request::Prepare(header) => self.preparation(header),
                Request::Retire(seq) => self.retirement(seq),
            });
        }
    }

    fn spares(&self) -> Vec<String> {
        self.medium.names().into_iter().filter(|name| name.ends_with(".spare")).collect()
    }

    fn preparation(&self, header: SegmentHeader) -> Job {
        let seq = header.seq;
        let to = seq.file_name();
        let size = |name: &String| self.medium.read(name).map_or(0, |bytes| bytes.len() as u64);
        let spare = self.spares().into_iter().find(|name| size(name) == header.segment_bytes);
        let effects = match spare {
            Some(name) => vec![
                Effect::Write { name: name.clone(), bytes: first_block(SegmentHeader { recycled: true, ..header }) },
                Effect::Sync { name: name.clone() },
                Effect::Rename { from: name, to },
                Effect::SyncNames,
            ],
            None => creation(header),
        };
        Job { effects: effects.into(), prepares: Some(seq) }
    }

    fn retirement(&self, seq: SegmentSeq) -> Job {
        let name = seq.file_name();
        let away = if self.spares().len() >= SPARES_MAX {
            Effect::Remove { name }
        } else {
            Effect::Rename { from: name, to: format!("{:016x}.spare", seq.get()) }
        };
        Job { effects: [away, Effect::SyncNames].into(), prepares: None }
    }

    /// A blocking call: the machine going down in it looks like an error that leads nowhere.
    fn blocking(&self, effect: impl FnOnce(&mut Files) -> Result<(), Halt>) -> Result<(), DiskFault> {
        self.medium.with(effect).map_err(|halt| match halt {
            Halt::Fault(fault) => fault,
            Halt::Dead => DiskFault { action: "run", file: "the machine is down".into(), offset: None, errno: 0 },
        })
    }

    fn copy_name(&self, name: &str) -> String {
        let names = self.medium.names();
        (1..).map(|n| format!("{name}.{n}.damaged")).find(|name| !names.contains(name)).expect("names do not run out")
    }
}

/// The first block of a new segment.
fn first_block(header: SegmentHeader) -> Vec<u8> {
    let mut block = header.encode().to_vec();
    block.resize(BLOCK_BYTES, 0);
    block
}

/// What it takes to make a segment from nothing.
fn creation(header: SegmentHeader) -> Vec<Effect> {
    let name = TEMPORARY.to_string();
    let mut bytes = first_block(header);
    bytes.resize(header.segment_bytes as usize, 0);
    vec![
        Effect::Create { name: name.clone(), bytes: header.segment_bytes },
        Effect::Write { name: name.clone(), bytes },
        Effect::Sync { name: name.clone() },
        Effect::Rename { from: name, to: header.seq.file_name() },
        Effect::SyncNames,
    ]
}

impl Effect {
    fn happen(&self, files: &mut Files) -> Result<(), Halt> {
        match self {
            Effect::Create { name, bytes } => files.create(name, *bytes),
            Effect::Write { name, bytes } => files.write(name, 0, bytes),
            Effect::Sync { name } => files.sync(name),
            Effect::Rename { from, to } => files.rename(from, to),
            Effect::Remove { name } => files.remove(name),
            Effect::SyncNames => files.sync_names(),
        }
    }
}

impl Segments for SimDisk {
    fn list(&mut self) -> Result<Vec<SegmentSeq>, DiskFault> {
        self.blocking(Files::sync_names)?;
        Ok(self.medium.with(|files| files.listed().filter_map(SegmentSeq::from_file_name).collect()))
    }

    fn size(&mut self, seq: SegmentSeq) -> Result<u64, DiskFault> {
        Ok(self.medium.with(|files| files.bytes(&seq.file_name()).len() as u64))
    }

    fn sync_and_uncache(&mut self, seq: SegmentSeq) -> Result<(), DiskFault> {
        self.blocking(|files| files.sync(&seq.file_name()))?;
        self.medium.with(|files| files.forget(&seq.file_name()));
        Ok(())
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, out: &mut [u8]) -> Result<(), DiskFault> {
        self.medium.with(|files| {
            let bytes = files.bytes(&seq.file_name());
            out.copy_from_slice(&bytes[offset as usize..offset as usize + out.len()]);
        });
        Ok(())
    }

    fn zero(&mut self, seq: SegmentSeq, from: u64, to: u64) -> Result<(), DiskFault> {
        let name = seq.file_name();
        self.blocking(|files| files.write(&name, from, &vec![0; (to - from) as usize]))?;
        self.blocking(|files| files.sync(&name))
    }
}

impl RepairStore for SimDisk {
    fn set_aside(&mut self, seq: SegmentSeq) -> Result<String, DiskFault> {
        let name = seq.file_name();
        let aside = self.copy_name(&name);
        self.blocking(|files| files.rename(&name, &aside))?;
        self.blocking(Files::sync_names)?;
        Ok(aside)
    }

    fn copy_aside(&mut self, seq: SegmentSeq) -> Result<String, DiskFault> {
        let name = seq.file_name();
        let aside = self.copy_name(&name);
        let bytes = self.medium.read(&name).expect("listed");
        self.blocking(|files| files.create(&aside, bytes.len() as u64))?;
        self.blocking(|files| files.write(&aside, 0, &bytes))?;
        self.blocking(|files| files.sync(&aside))?;
        self.blocking(Files::sync_names)?;
        Ok(aside)
    }

    fn make(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        self.prepare_now(header)
    }
}

impl Disk for SimDisk {
    fn prepare_now(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        for effect in creation(header) {
            self.blocking(|files| effect.happen(files))?;
        }
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader) {
        self.requests.push_back(Request::Prepare(header));
    }

    fn retire(&mut self, seq: SegmentSeq) {
        self.requests.push_back(Request::Retire(seq));
    }

    fn take_buffer(&mut self, bytes_min: usize) -> AlignedBuf {
        match self.buffers.iter().position(|buffer| buffer.capacity() >= bytes_min) {
            Some(at) => self.buffers.swap_remove(at),
            None => {
                let mut buffer = AlignedBuf::zeroed(bytes_min);
                // Content is arbitrary: whoever relies on zeros is found out.
                buffer.bytes_mut().fill(0xa5);
                buffer
            }
        }
    }

    fn give_buffer(&mut self, buffer: AlignedBuf) {
        if self.buffers.len() < 4 {
            self.buffers.push(buffer);
        }
    }

    fn write(&mut self, write: Write) {
        assert!(write.offset.is_multiple_of(BLOCK_BYTES as u64), "writes start at a block");
        assert!(write.bytes.is_multiple_of(BLOCK_BYTES) && write.bytes > 0, "writes are whole blocks");
        self.medium.with(|files| {
            let name = write.segment.file_name();
            assert!(files.exists(&name), "{name} was prepared");
            let end = write.offset + write.bytes as u64;
            assert!(end <= files.bytes(&name).len() as u64, "writes stay inside the segment");
        });
        self.queued.push(write);
    }

    fn submit(&mut self) -> Result<(), DiskFault> {
        self.flights.extend(self.queued.drain(..).map(|write| Flight { write, written: false }));
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        if self.completions.is_empty() && !self.medium.is_dead() {
            match self.schedule.clone() {
                Schedule::Manual => {}
                Schedule::InOrder => {
                    while self.ready() > 0 && !self.medium.is_dead() {
                        self.run(0);
                    }
                }
                Schedule::Shuffled(mut rng) => {
                    for _ in 0..rng.below(5) {
                        let ready = self.ready();
                        if ready > 0 && !self.medium.is_dead() {
                            self.run(rng.below(ready as u64) as usize);
                        }
                    }
                    self.schedule = Schedule::Shuffled(rng);
                }
            }
        }
        if self.medium.is_dead() { None } else { self.completions.pop_front() }
    }
}
