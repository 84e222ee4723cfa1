//! A slow disk for one process: the kernel's block I/O controller lets only so many of its writes through. Works on
//! control groups of version 1, where it throttles what the process itself waits for (synchronous writes and flushes);
//! what the kernel writes back later belongs to nobody and is not slowed down.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the controller is mounted.
const ROOT: &str = "/sys/fs/cgroup/blkio";

/// Throttles a process until it is dropped.
pub struct Throttle {
    group: PathBuf,
    pid: u32,
}

impl Throttle {
    /// Lets process `pid` do `writes` write operations a second on the disk that holds `folder`.
    pub fn new(pid: u32, folder: &Path, writes: u32) -> io::Result<Throttle> {
        let device = disk_of(folder)?;
        let group = Path::new(ROOT).join(format!("plinth-perf-{pid}"));
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("block I/O control group: {error}"));
        fs::create_dir(&group).map_err(explain)?;
        let throttle = Throttle { group, pid };
        fs::write(throttle.group.join("blkio.throttle.write_iops_device"), format!("{device} {writes}"))
            .map_err(explain)?;
        fs::write(throttle.group.join("cgroup.procs"), pid.to_string()).map_err(explain)?;
        Ok(throttle)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // The group can only be removed when nobody is in it.
        let _ = fs::write(Path::new(ROOT).join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.group);
    }
}

/// `major:minor` of the whole disk that holds a folder: throttles know no partitions.
fn disk_of(folder: &Path) -> io::Result<String> {
    let device = fs::metadata(folder)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))?;
    let disk = if node.join("partition").exists() { node.parent().unwrap_or(&node) } else { &node };
    Ok(fs::read_to_string(disk.join("dev"))?.trim().to_owned())
}
