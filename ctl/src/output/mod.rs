//! Output formats. What a command found implements [`Report`]; the user's choice decides which of its forms is shown.

pub mod done;
pub mod json;
pub mod print;
pub mod table;

use crate::failure::{Exit, Failure};
use crate::quote;
use json::Json;
use plinth_api::proto::etcdserverpb::ResponseHeader;
use plinth_api::proto::mvccpb::KeyValue;
use std::fmt::Display;
use table::Table;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    /// A line for each field.
    Fields,
    Json,
    /// The message's bytes.
    Protobuf,
    Table,
}

impl Format {
    /// The format of this name.
    pub fn parse(name: &str) -> Result<Format, Failure> {
        match name {
            "simple" => Ok(Format::Simple),
            "fields" => Ok(Format::Fields),
            "json" => Ok(Format::Json),
            "protobuf" => Ok(Format::Protobuf),
            "table" => Ok(Format::Table),
            _ => Err(Failure::new(Exit::BadFeature, "unsupported output format")),
        }
    }
}

/// Something to print.
pub trait Report {
    /// Text for people.
    fn simple(&self, out: &mut Text);

    /// A line for each field; false where this form does not exist.
    fn fields(&self, _out: &mut Text) -> bool {
        false
    }

    /// JSON; ids of members as hexadecimal text if `hex`.
    fn json(&self, hex: bool) -> Json;

    /// Bytes of the message, if it is one.
    fn message(&self) -> Option<Vec<u8>> {
        None
    }

    /// A table, where there is one.
    fn table(&self) -> Option<Table> {
        None
    }
}

/// The report as bytes for standard output.
pub fn render(report: &dyn Report, format: Format, hex: bool) -> Result<Vec<u8>, Failure> {
    let mut text = Text { bytes: Vec::new(), hex };
    let missing = |name: &str| Failure::new(Exit::BadFeature, format!("{name} not supported as output format"));
    match format {
        Format::Simple => report.simple(&mut text),
        Format::Fields => {
            if !report.fields(&mut text) {
                return Err(missing("fields"));
            }
        }
        Format::Json => text.line(report.json(hex).render()),
        Format::Protobuf => return report.message().ok_or_else(|| missing("protobuf")),
        Format::Table => return report.table().map(|t| t.render().into_bytes()).ok_or_else(|| missing("table")),
    }
    Ok(text.bytes)
}

/// Lines being collected.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub bytes: Vec<u8>,
    /// Byte strings and ids in hexadecimal.
    pub hex: bool,
}

impl Text {
    /// A line.
    pub fn line(&mut self, text: impl Display) {
        self.bytes.extend_from_slice(text.to_string().as_bytes());
        self.bytes.push(b'\n');
    }

    /// A line of a key's or value's bytes.
    pub fn bytes_line(&mut self, bytes: &[u8]) {
        if self.hex {
            self.line(quote::hex_escaped(bytes));
        } else {
            self.bytes.extend_from_slice(bytes);
            self.bytes.push(b'\n');
        }
    }

    /// Key and value, a line each.
    pub fn pair(&mut self, kv: &KeyValue) {
        self.bytes_line(&kv.key);
        self.bytes_line(&kv.value);
    }

    /// `"Name" : value`
    pub fn field(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("\"{name}\" : {value}"));
    }

    /// `"Name" : "quoted"`
    pub fn quoted(&mut self, name: &str, value: &[u8]) {
        self.field(name, quote::quoted(value));
    }

    /// `"Name" : id`
    pub fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    /// The fields of a header.
    pub fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.cloned().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    /// `"Name" : id` of a lease, which is padded.
    pub fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, format_args!("{id:016x}")) } else { self.field(name, id) }
    }

    /// The fields of a pair, their names beginning with `prefix`.
    pub fn kv(&mut self, prefix: &str, kv: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }
}

/// For tests: simple, fields and JSON of a report.
#[cfg(test)]
pub fn rendered(report: &dyn Report, format: Format) -> String {
    String::from_utf8(render(report, format, false).expect("this format exists")).expect("UTF-8")
}
