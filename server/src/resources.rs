//! What the process may take of the machine: raises the limits that it may raise itself.
//!
//! The limits that a process is born with are often the old ones that programs of long ago can live with (64 KiB of
//! locked memory, 1,024 files), and the ones it may set itself far higher. Go's programs do the same for files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises them as far as they go. Whoever cannot have more goes on with less, and is told where it matters.
pub fn raise_limits() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let Rlimit { current, maximum } = getrlimit(resource);
        if current != maximum {
            // Refused only by a policy of the machine; the limit stays what it was.
            let _ = setrlimit(resource, Rlimit { current: maximum, maximum });
        }
    }
}

/// Bytes of locked memory that the runtime asks for at each start of a reactor (glommio 0.9), needed or not.
const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Whether a reactor can be started with the memory that may be locked; what to do if not.
pub fn check_locked_memory() -> Result<(), String> {
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if bytes < LOCKED_BYTES_MIN => Err(format!(
            "{bytes} bytes may be locked in memory, and a reactor of io_uring wants {LOCKED_BYTES_MIN}; allow more \
             (ulimit -l 512, LimitMEMLOCK=512K in a systemd unit, --ulimit memlock=524288 for a container)"
        )),
        _ => Ok(()),
    }
}

/// Bytes that may be locked in memory, as text for the log.
pub fn locked_memory() -> String {
    getrlimit(Resource::Memlock).current.map_or_else(|| "unlimited".to_string(), |bytes| format!("{bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_as_high_as_they_may_be() {
        raise_limits();
        for resource in [Resource::Memlock, Resource::Nofile] {
            let limit = getrlimit(resource);
            assert_eq!(limit.current, limit.maximum);
        }
    }
}
