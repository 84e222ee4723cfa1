//! What is refused: etcd's codes, texts and statuses.

use crate::json;

/// The codes that are used. Their numbers are the API's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Code {
    KeyNotFound = 100,
    TestFailed = 101,
    NotFile = 102,
    NotDir = 104,
    NodeExist = 105,
    RootReadOnly = 107,
    DirNotEmpty = 108,
    Unauthorized = 110,
    PrevValueRequired = 201,
    TtlNaN = 202,
    IndexNaN = 203,
    InvalidField = 209,
    InvalidForm = 210,
    RefreshValue = 211,
    RefreshTtlRequired = 212,
    RaftInternal = 300,
    LeaderElect = 301,
    EventIndexCleared = 401,
}

impl Code {
    /// All of them.
    pub const ALL: &'static [Code] = &[
        Code::KeyNotFound,
        Code::TestFailed,
        Code::NotFile,
        Code::NotDir,
        Code::NodeExist,
        Code::RootReadOnly,
        Code::DirNotEmpty,
        Code::Unauthorized,
        Code::PrevValueRequired,
        Code::TtlNaN,
        Code::IndexNaN,
        Code::InvalidField,
        Code::InvalidForm,
        Code::RefreshValue,
        Code::RefreshTtlRequired,
        Code::RaftInternal,
        Code::LeaderElect,
        Code::EventIndexCleared,
    ];

    /// The text of the code.
    pub fn message(self) -> &'static str {
        match self {
            Code::KeyNotFound => "Key not found",
            Code::TestFailed => "Compare failed",
            Code::NotFile => "Not a file",
            Code::NotDir => "Not a directory",
            Code::NodeExist => "Key already exists",
            Code::RootReadOnly => "Root is read only",
            Code::DirNotEmpty => "Directory not empty",
            Code::Unauthorized => "The request requires user authentication",
            Code::PrevValueRequired => "PrevValue is Required in POST form",
            Code::TtlNaN => "The given TTL in POST form is not a number",
            Code::IndexNaN => "The given index in POST form is not a number",
            Code::InvalidField => "Invalid field",
            Code::InvalidForm => "Invalid POST form",
            Code::RefreshValue => "Value provided on refresh",
            Code::RefreshTtlRequired => "A TTL must be provided on refresh",
            Code::RaftInternal => "Raft Internal Error",
            Code::LeaderElect => "During Leader Election",
            Code::EventIndexCleared => "The event in requested index is outdated and cleared",
        }
    }

    /// The status of an answer with it.
    pub fn http_status(self) -> u16 {
        match self {
            Code::KeyNotFound => 404,
            Code::NotFile | Code::DirNotEmpty => 403,
            Code::Unauthorized => 401,
            Code::TestFailed | Code::NodeExist => 412,
            Code::RaftInternal | Code::LeaderElect => 500,
            _ => 400,
        }
    }
}

/// A request is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} ({})", code.message(), String::from_utf8_lossy(cause))]
pub struct V2Error {
    /// Why.
    pub code: Code,
    /// What of the request it is: a path, with its namespace, or a text.
    pub cause: Vec<u8>,
    /// The index when it was refused; 0 if the request makes no sense.
    pub index: u64,
}

impl V2Error {
    /// An error of the tree.
    pub fn new(code: Code, cause: impl Into<Vec<u8>>, index: u64) -> V2Error {
        V2Error { code, cause: cause.into(), index }
    }

    /// An error of a request by itself.
    pub fn request(code: Code, cause: impl Into<Vec<u8>>) -> V2Error {
        V2Error::new(code, cause, 0)
    }

    /// The body of the answer, with its line end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out =
            format!("{{\"errorCode\":{},\"message\":\"{}\"", self.code as u16, self.code.message()).into_bytes();
        let cause = crate::path::shown(&self.cause);
        if !cause.is_empty() {
            out.extend_from_slice(b",\"cause\":");
            json::push_string(&mut out, cause);
        }
        out.extend_from_slice(format!(",\"index\":{}}}\n", self.index).as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_look_as_etcds() {
        let error = V2Error::new(Code::KeyNotFound, b"/1/foo".to_vec(), 12);
        assert_eq!(
            error.to_json(),
            b"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/foo\",\"index\":12}\n"
        );
        let error = V2Error::new(Code::NotFile, b"/1".to_vec(), 3);
        assert_eq!(error.to_json(), b"{\"errorCode\":102,\"message\":\"Not a file\",\"index\":3}\n");
        for code in Code::ALL {
            assert!(!code.message().is_empty() && code.http_status() >= 400);
        }
    }
}
