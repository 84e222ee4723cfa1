//! Named places at which a fault can be had on purpose, for test suites that drive etcd so. Names, terms and the two ways
//! to set them are those of gofail; `docs/failpoints.md` says where each is.
//!
//! A build without the feature `failpoints` has nothing of this: `fail_point!` is then empty.
//!
//! What a term does, it does to the thread that passes: a `sleep` on a reactor keeps everything of that reactor waiting,
//! heartbeats too.

#[cfg(feature = "failpoints")]
mod http;
#[cfg(feature = "failpoints")]
mod registry;
#[cfg(feature = "failpoints")]
mod terms;

#[cfg(feature = "failpoints")]
pub use registry::{NAMES, hit, start};

/// Passes the named place: always, or only where that means something. With a function behind it: what is returned when
/// the term is a `return`, from its text.
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        $crate::fail_point!(if true, $name)
    };
    (if $passes:expr, $name:literal) => {
        #[cfg(feature = "failpoints")]
        {
            if $passes {
                let _ = $crate::failpoints::hit($name);
            }
        }
    };
    ($name:literal, $act:expr) => {
        #[cfg(feature = "failpoints")]
        {
            if let Some(text) = $crate::failpoints::hit($name) {
                return $act(text);
            }
        }
    };
}

/// Reads the environment. Without the feature there is nothing to read.
///
/// # Errors
/// A term that cannot be read, or an address that cannot be listened on.
#[cfg(not(feature = "failpoints"))]
pub fn start() -> Result<(), String> {
    Ok(())
}
