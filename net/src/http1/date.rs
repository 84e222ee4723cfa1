//! The `Date` header. The clock is the caller's: a reactor formats once a second and reuses the text.

use std::time::{Duration, UNIX_EPOCH};

/// A date as HTTP writes it (`Sun, 06 Nov 1994 08:49:37 GMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

/// The last second of the year 9999, the last one that four digits can write.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

impl HttpDate {
    /// The date `unix_seconds` after the start of 1970, UTC. Times behind the year 9999 stay there.
    pub fn from_unix_seconds(unix_seconds: u64) -> Self {
        let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(UNIX_SECONDS_MAX));
        let text = httpdate::fmt_http_date(time);
        HttpDate(text.as_bytes().try_into().expect("every part has a fixed width"))
    }

    /// The 29 characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
