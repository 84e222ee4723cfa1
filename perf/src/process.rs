//! What processes and the machine have used so far, read from `/proc`: processor time, memory, bytes written.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::time::Duration;

/// A reading of a process's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User plus system time of all threads, those that ended included.
    pub cpu: Duration,
    /// Bytes sent to the block layer (`write_bytes` of `/proc/PID/io`).
    pub write_bytes: u64,
    /// Read and write system calls (`syscr` + `syscw`); io_uring operations are not among them.
    pub syscalls: u64,
    /// Times that the threads there are now gave up the processor, or lost it.
    pub switches: u64,
    pub memory: Memory,
    /// Page faults that had to wait for the disk.
    pub major_faults: u64,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it (`VmRSS`).
    pub resident: u64,
    /// The highest it has been (`VmHWM`).
    pub peak: u64,
    /// The part that is the process's own (`RssAnon`); the rest is mapped files, which the kernel can drop.
    pub anonymous: u64,
}

/// Reads the counters of process `pid`.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    // Another user's process shows no `io`; the other figures are still worth having.
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let times = parse_stat(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let kib = |name| labelled(&status, name).unwrap_or(0) * 1024;
    Ok(Usage {
        cpu: Duration::from_secs_f64(times.ticks as f64 / ticks_per_second as f64),
        write_bytes: labelled(&io, "write_bytes:").unwrap_or(0),
        syscalls: labelled(&io, "syscr:").unwrap_or(0) + labelled(&io, "syscw:").unwrap_or(0),
        switches: switches(pid),
        memory: Memory { resident: kib("VmRSS:"), peak: kib("VmHWM:"), anonymous: kib("RssAnon:") },
        major_faults: times.major_faults,
    })
}

/// The context switches of all threads of a process, io_uring's workers among them. What threads did that have ended is
/// not told by anybody.
fn switches(pid: u32) -> u64 {
    let of_thread = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let count = |name| labelled(&status, name).unwrap_or(0);
        count("voluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:")
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.flatten().map(of_thread).sum()
}

/// Reads the counters of several processes and adds them up: what a cluster uses.
pub fn usage_of(pids: &[u32]) -> io::Result<Usage> {
    pids.iter().try_fold(Usage::default(), |sum, &pid| Ok(sum.plus(usage(pid)?)))
}

impl Usage {
    fn plus(self, other: Usage) -> Usage {
        Usage {
            cpu: self.cpu + other.cpu,
            write_bytes: self.write_bytes + other.write_bytes,
            syscalls: self.syscalls + other.syscalls,
            switches: self.switches + other.switches,
            memory: self.memory.plus(other.memory),
            major_faults: self.major_faults + other.major_faults,
        }
    }
}

impl Memory {
    fn plus(self, other: Memory) -> Memory {
        Memory {
            resident: self.resident + other.resident,
            peak: self.peak + other.peak,
            anonymous: self.anonymous + other.anonymous,
        }
    }
}

/// Processor time of the whole machine since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Spent on anything, by anybody.
    pub busy: Duration,
    /// Wanted, but given to other guests by the hypervisor.
    pub stolen: Duration,
}

/// Reads the machine's counters.
pub fn load() -> io::Result<Load> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_load(&stat).ok_or_else(|| io::Error::other("/proc/stat has an unknown form"))
}

fn parse_load(stat: &str) -> Option<Load> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().map(str::parse::<u64>);
    let ticks: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
    // proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen] = *ticks.first_chunk()?;
    let seconds = |ticks: u64| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    Some(Load { busy: seconds(user + nice + system + interrupts + soft_interrupts), stolen: seconds(stolen) })
}

struct Times {
    ticks: u64,
    major_faults: u64,
}

/// Fields are counted behind the last `)`, because the command's name may hold blanks and parentheses.
fn parse_stat(stat: &str) -> Option<Times> {
    let behind = &stat[stat.rfind(')')? + 1..];
    let field = |index: usize| behind.split_ascii_whitespace().nth(index)?.parse::<u64>().ok();
    // proc(5): majflt is field 12, utime 14, stime 15; `behind` begins with field 3.
    Some(Times { ticks: field(11)? + field(12)?, major_faults: field(9)? })
}

fn labelled(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_a_name_with_parentheses() {
        let line = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 19 20 21";
        let times = parse_stat(line).expect("parses");
        assert_eq!((times.ticks, times.major_faults), (333, 9));
    }

    #[test]
    fn the_machine_is_at_least_as_busy_as_this_process() {
        let parsed = parse_load("cpu  100 20 3 9999 8888 4 5 600 70 8\ncpu0 1 2").expect("parses");
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!((parsed.busy.as_secs_f64() * ticks, parsed.stolen.as_secs_f64() * ticks), (132.0, 600.0));
        assert!(load().expect("readable").busy >= usage(std::process::id()).expect("readable").cpu);
    }

    #[test]
    fn own_usage_grows() {
        let before = usage(std::process::id()).expect("own process is readable");
        let start = std::time::Instant::now();
        let mut sum = 0u64;
        while start.elapsed() < Duration::from_millis(100) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let after = usage(std::process::id()).expect("own process is readable");
        assert!(sum != 1 && after.cpu > before.cpu, "{before:?} {after:?}");
        std::thread::sleep(Duration::from_millis(1));
        assert!(usage(std::process::id()).expect("own process is readable").switches > before.switches);
        assert!(after.memory.resident > 0 && after.memory.peak >= after.memory.anonymous);
    }
}
