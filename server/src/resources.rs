//! What the process may take of the machine: raises the limits that it may raise itself.
//!
//! The limits that a process is born with are often the old ones that programs of long ago can live with (64 KiB of
//! locked memory, 1,024 files), and the ones it may set itself far higher. Go's programs do the same for files.

use plinth_net::rt;
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

/// What reactors and their rings may be like. On most kernels rings count as locked memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Entries of each ring.
    pub entries: usize,
    /// Reactors there is room for, at least 1.
    pub reactors_max: usize,
}

/// Locked memory from which on nothing is saved, in bytes.
const PLENTY_BYTES: u64 = 8 << 20;
/// Entries of a ring where memory is short: its two areas are a page each then.
const ENTRIES_MIN: usize = 16;
/// What a reactor's rings take then, in bytes.
const REACTOR_BYTES: u64 = 3 * 2 * 4096;
/// What the ring of the log takes, in bytes.
const LOG_BYTES: u64 = 2 * 4096;

impl Rings {
    /// Those that the limit allows.
    pub fn allowed() -> Rings {
        Rings::within(getrlimit(Resource::Memlock).current)
    }

    /// Those that fit into so many bytes. All processes of a user share them, and one that has just ended may still hold
    /// its rings, so a half of them is used.
    fn within(bytes: Option<u64>) -> Rings {
        match bytes {
            Some(bytes) if bytes < PLENTY_BYTES => {
                let fit = (bytes / 2).saturating_sub(LOG_BYTES) / REACTOR_BYTES;
                Rings { entries: ENTRIES_MIN, reactors_max: (fit as usize).max(1) }
            }
            _ => Rings { entries: rt::RING_ENTRIES, reactors_max: usize::MAX },
        }
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
    fn rings_fit_into_what_may_be_locked() {
        assert_eq!(Rings::within(None), Rings { entries: rt::RING_ENTRIES, reactors_max: usize::MAX });
        for (bytes, reactors_max) in [(0, 1), (64 << 10, 1), (128 << 10, 2), (512 << 10, 10)] {
            assert_eq!(Rings::within(Some(bytes)), Rings { entries: ENTRIES_MIN, reactors_max }, "{bytes} bytes");
        }
    }

    #[test]
    fn limits_are_as_high_as_they_may_be() {
        raise_limits();
        for resource in [Resource::Memlock, Resource::Nofile] {
            let limit = getrlimit(resource);
            assert_eq!(limit.current, limit.maximum);
        }
    }
}
