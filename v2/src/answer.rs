//! The outcome of a command, as the store hands it on.
//!
//! ```text
//!  0  u16 status of HTTP   2  u64 index   10  JSON with its line end          (little-endian)
//! ```

use crate::error::V2Error;
use crate::event::Event;

const HEAD: usize = 10;

/// An answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The index of the tree.
    pub index: u64,
    /// The body.
    pub json: Vec<u8>,
}

impl Answer {
    /// What was done or read; `index` is the tree's after that.
    pub fn of(result: &Result<Event, V2Error>, index: u64, brief: bool) -> Answer {
        match result {
            Ok(event) => {
                let mut json = Vec::new();
                event.write_json(&mut json, brief && event.action.writes());
                Answer { status: if event.is_created() { 201 } else { 200 }, index, json }
            }
            Err(error) => Answer::refused(error),
        }
    }

    /// What is answered to a request that is refused.
    pub fn refused(error: &V2Error) -> Answer {
        Answer { status: error.code.http_status(), index: error.index, json: error.to_json() }
    }

    /// Appends the bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.reserve(HEAD + self.json.len());
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.json);
    }

    /// Reads what [`Answer::encode_into`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Answer> {
        let (status, rest) = bytes.split_first_chunk::<2>()?;
        let (index, json) = rest.split_first_chunk::<8>()?;
        Some(Answer { status: u16::from_le_bytes(*status), index: u64::from_le_bytes(*index), json: json.to_vec() })
    }
}
