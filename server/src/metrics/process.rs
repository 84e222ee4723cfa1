//! Figures of the process that the kernel keeps, read from `/proc` when they are asked for.
//!
//! Everything is optional: a figure that cannot be read (another kernel, a hardened `/proc`) is left out rather than
//! shown as zero. Reading takes some tens of microseconds and grows with the number of open files.

use std::fs;

/// Ticks a second in which Linux shows times to programs; fixed for all architectures we run on.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// A reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessStats {
    /// User and system time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Start of the process, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// Virtual memory.
    pub virtual_bytes: Option<f64>,
    /// Limit of virtual memory; unlimited is 2^64.
    pub virtual_bytes_max: Option<f64>,
    /// Memory in RAM.
    pub resident_bytes: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// Limit of open file descriptors.
    pub max_fds: Option<f64>,
    /// Page faults that had to wait for the disk.
    pub major_faults: Option<f64>,
    /// Bytes received by IP on this machine or in this container.
    pub network_received_bytes: Option<f64>,
    pub network_sent_bytes: Option<f64>,
}

impl ProcessStats {
    /// Reads the figures of this process.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut stats = ProcessStats::parse(
            &text("/proc/self/stat"),
            &text("/proc/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/self/net/netstat"),
        );
        // One of them is the descriptor of the folder itself.
        stats.open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
        stats
    }

    fn parse(stat: &str, system_stat: &str, status: &str, limits: &str, netstat: &str) -> Self {
        // The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok(); // numbered as in proc(5)
        let boot = system_stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kb| kb * 1024.0)
        };
        let limit = |name: &str| {
            let soft = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
            if soft == "unlimited" { Some(u64::MAX as f64) } else { soft.parse().ok() }
        };
        ProcessStats {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / CLOCK_TICKS_PER_SECOND),
            start_time_seconds: boot.zip(field(22)).map(|(boot, start)| boot + start / CLOCK_TICKS_PER_SECOND),
            virtual_bytes: kilobytes("VmSize"),
            virtual_bytes_max: limit("Max address space"),
            resident_bytes: kilobytes("VmRSS"),
            open_fds: None,
            max_fds: limit("Max open files"),
            major_faults: field(12),
            network_received_bytes: ip_counter(netstat, "InOctets"),
            network_sent_bytes: ip_counter(netstat, "OutOctets"),
        }
    }
}

/// A value of the `IpExt` pair of lines: names, then numbers.
fn ip_counter(netstat: &str, name: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let position = lines.next()?.split_whitespace().position(|found| found == name)?;
    lines.next()?.split_whitespace().nth(position)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_linux_writes() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 42 0 150 50 0 0 20 0 9 0 1000 5 6 7";
        let stats = ProcessStats::parse(
            stat,
            "cpu 1\nbtime 1700000000\n",
            "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\n",
            "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\nMax address space  unlimited unlimited bytes\n",
            "TcpExt: A\nTcpExt: 1\nIpExt: InNo InOctets OutOctets\nIpExt: 1 22 33\n",
        );
        assert_eq!(stats.cpu_seconds, Some(2.0));
        assert_eq!(stats.start_time_seconds, Some(1_700_000_010.0));
        assert_eq!((stats.virtual_bytes, stats.resident_bytes), (Some(2_097_152.0), Some(1_048_576.0)));
        assert_eq!((stats.max_fds, stats.virtual_bytes_max), (Some(1024.0), Some(u64::MAX as f64)));
        assert_eq!(stats.major_faults, Some(42.0));
        assert_eq!((stats.network_received_bytes, stats.network_sent_bytes), (Some(22.0), Some(33.0)));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(ProcessStats::parse("", "", "", "", ""), ProcessStats::default());
        assert_eq!(
            ProcessStats::parse("x)", "btime", "VmRSS: x", "Max open files", "IpExt: "),
            ProcessStats::default()
        );
    }

    #[test]
    fn this_process_is_plausible() {
        let stats = ProcessStats::read();
        assert!(stats.resident_bytes.is_some_and(|bytes| bytes > 100_000.0), "{stats:?}");
        assert!(stats.open_fds.is_some_and(|fds| fds >= 3.0), "{stats:?}");
        assert!(stats.start_time_seconds.is_some_and(|seconds| seconds > 1.6e9), "{stats:?}");
    }
}
