//! Answers that say no more than that it was done: a sentence, or the header.

use super::json::Json;
use super::{Report, Text};
use plinth_api::proto::etcdserverpb::ResponseHeader;
use prost::Message;

/// A change of users or roles that was made.
pub struct Done {
    pub text: String,
    pub header: Option<ResponseHeader>,
}

impl Done {
    /// With a text for people.
    pub fn new(text: String, header: Option<ResponseHeader>) -> Done {
        Done { text, header }
    }
}

/// Every such answer has its header as the first field, and no other.
#[derive(Clone, PartialEq, Message)]
struct HeaderOnly {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

impl Report for Done {
    fn simple(&self, out: &mut Text) {
        out.line(&self.text);
    }

    fn fields(&self, out: &mut Text) -> bool {
        out.header(self.header.as_ref());
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::object().nonzero("header", self.header.as_ref())
    }

    fn message(&self) -> Option<Vec<u8>> {
        Some(HeaderOnly { header: self.header }.encode_to_vec())
    }
}
