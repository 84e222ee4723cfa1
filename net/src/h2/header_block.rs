//! Request heads: a decoded header block that keeps the rules of HTTP/2, and a memory of recent ones.
//!
//! A client that repeats itself sends the same few bytes for every request, once its fields are in the dynamic table.
//! `HeadCache` maps such a block straight to its decoded head, which is shared. The layer above leaves its own
//! understanding of the head in it (`digest`), so that this work is not repeated either.

use std::cell::OnceCell;
use std::rc::Rc;

use super::hpack::{Field, FieldClass};
use super::limits::{HEADS_REMEMBERED, REMEMBERED_BLOCK_BYTES_MAX};

/// The fields of a request, checked. `D` is what the layer above makes of them.
pub struct RequestHead<D> {
    fields: Vec<Rc<Field>>,
    method: usize,
    path: Option<usize>,
    content_length: Option<u64>,
    /// Filled in by the layer above when it first sees this head.
    pub digest: OnceCell<D>,
}

/// The request breaks a rule of RFC 9113 §8 and is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl<D> RequestHead<D> {
    /// Checks the fields of a request (§8.3.1).
    pub fn new(fields: Vec<Rc<Field>>) -> Result<RequestHead<D>, Malformed> {
        let mut pseudo = [None; 4];
        let mut content_length = None;
        let mut regular = false;
        for (place, field) in fields.iter().enumerate() {
            let slot = match field.class() {
                FieldClass::Method => 0,
                FieldClass::Scheme => 1,
                FieldClass::Path => 2,
                FieldClass::Authority => 3,
                FieldClass::Forbidden => return Err(Malformed("forbidden field")),
                FieldClass::Regular => {
                    regular = true;
                    continue;
                }
                FieldClass::ContentLength => {
                    regular = true;
                    let length = parse_length(field.value()).ok_or(Malformed("content-length is no number"))?;
                    if content_length.is_some_and(|earlier| earlier != length) {
                        return Err(Malformed("different content-lengths"));
                    }
                    content_length = Some(length);
                    continue;
                }
            };
            if regular {
                return Err(Malformed("pseudo-header behind a field"));
            }
            if pseudo[slot].replace(place).is_some() {
                return Err(Malformed("pseudo-header given twice"));
            }
        }
        let [method, scheme, path, authority] = pseudo;
        let method = method.ok_or(Malformed("no :method"))?;
        if fields[method].value() == b"CONNECT" {
            // §8.5: only an authority.
            if scheme.is_some() || path.is_some() || authority.is_none() {
                return Err(Malformed("CONNECT with the wrong pseudo-headers"));
            }
        } else {
            if scheme.is_none() {
                return Err(Malformed("no :scheme"));
            }
            if path.is_none_or(|path| fields[path].value().is_empty()) {
                return Err(Malformed("no :path"));
            }
            // Whoever looks at paths has the same in mind: one that begins otherwise matches no rule, and must reach nobody.
            if path.is_some_and(|path| !fields[path].value().starts_with(b"/") && fields[path].value() != b"*") {
                return Err(Malformed("a :path that does not begin with a slash"));
            }
        }
        Ok(RequestHead { fields, method, path, content_length, digest: OnceCell::new() })
    }

    /// `:method`
    pub fn method(&self) -> &[u8] {
        self.fields[self.method].value()
    }

    /// `:path`; empty for CONNECT.
    pub fn path(&self) -> &[u8] {
        self.path.map_or(&[], |path| self.fields[path].value())
    }

    /// `content-length`
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// All fields in their order.
    pub fn fields(&self) -> &[Rc<Field>] {
        &self.fields
    }

    /// Value of the first field with this name (lower case).
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name() == name).map(|field| field.value())
    }
}

/// Trailers may hold no pseudo-headers (§8.1).
pub fn check_trailers(fields: &[Rc<Field>]) -> Result<(), Malformed> {
    let fine = |field: &Rc<Field>| matches!(field.class(), FieldClass::Regular | FieldClass::ContentLength);
    if fields.iter().all(fine) { Ok(()) } else { Err(Malformed("forbidden field in trailers")) }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A block and its head.
struct Entry<D> {
    block: Box<[u8]>,
    head: Rc<RequestHead<D>>,
}

/// Heads of recent blocks. Valid for one version of the dynamic table only.
pub struct HeadCache<D> {
    version: u64,
    entries: Vec<Entry<D>>,
    /// The next entry to be replaced once all are taken.
    next: usize,
}

impl<D> HeadCache<D> {
    /// An empty one.
    pub fn new() -> Self {
        HeadCache { version: 0, entries: Vec::new(), next: 0 }
    }

    /// The head of this block, if it was decoded with the same table.
    pub fn get(&self, version: u64, block: &[u8]) -> Option<&Rc<RequestHead<D>>> {
        if version != self.version {
            return None;
        }
        self.entries.iter().find(|known| *known.block == *block).map(|known| &known.head)
    }

    /// Remembers a block that left the table as it was.
    pub fn put(&mut self, version: u64, block: &[u8], head: &Rc<RequestHead<D>>) {
        if block.len() > REMEMBERED_BLOCK_BYTES_MAX {
            return;
        }
        if version != self.version {
            self.version = version;
            self.entries.clear();
        }
        let entry = Entry { block: block.into(), head: Rc::clone(head) };
        if self.entries.len() < HEADS_REMEMBERED {
            self.entries.push(entry);
        } else {
            self.entries[self.next] = entry;
            self.next = (self.next + 1) % HEADS_REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Result<RequestHead<()>, Malformed> {
        let field = |(name, value): &(&str, &str)| Rc::new(Field::new(name.as_bytes(), value.as_bytes()));
        RequestHead::new(fields.iter().map(field).collect())
    }

    const POST: (&str, &str) = (":method", "POST");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const PATH: (&str, &str) = (":path", "/a/b");

    #[test]
    fn a_request() {
        let head = head(&[POST, SCHEME, PATH, ("content-length", "10"), ("token", "t")]).unwrap();
        assert_eq!(head.method(), b"POST");
        assert_eq!(head.path(), b"/a/b");
        assert_eq!(head.content_length(), Some(10));
        assert_eq!(head.get(b"token"), Some(b"t".as_slice()));
        assert_eq!(head.get(b"none"), None);
        assert_eq!(head.fields().len(), 5);
    }

    #[test]
    fn malformed_requests() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("no method", &[SCHEME, PATH]),
            ("no scheme", &[POST, PATH]),
            ("no path", &[POST, SCHEME]),
            ("empty path", &[POST, SCHEME, (":path", "")]),
            // GHSA-p77j-4mvh-x3m3
            ("a path without a slash", &[POST, SCHEME, (":path", "a/b")]),
            ("two methods", &[POST, POST, SCHEME, PATH]),
            ("pseudo-header last", &[POST, SCHEME, ("a", "b"), PATH]),
            ("unknown pseudo-header", &[POST, SCHEME, PATH, (":status", "200")]),
            ("connection field", &[POST, SCHEME, PATH, ("connection", "close")]),
            ("wrong te", &[POST, SCHEME, PATH, ("te", "gzip")]),
            ("length is no number", &[POST, SCHEME, PATH, ("content-length", "+1")]),
            ("empty length", &[POST, SCHEME, PATH, ("content-length", "")]),
            ("two lengths", &[POST, SCHEME, PATH, ("content-length", "1"), ("content-length", "2")]),
            ("connect with a path", &[(":method", "CONNECT"), (":authority", "h"), PATH]),
            ("connect without authority", &[(":method", "CONNECT")]),
        ];
        for (name, fields) in cases {
            assert!(head(fields).is_err(), "{name}");
        }
        assert!(head(&[(":method", "CONNECT"), (":authority", "h")]).is_ok());
    }

    #[test]
    fn trailers() {
        let field = |name: &str| Rc::new(Field::new(name.as_bytes(), b"1"));
        assert!(check_trailers(&[field("grpc-status")]).is_ok());
        assert!(check_trailers(&[field("a"), field(":path")]).is_err());
    }

    #[test]
    fn the_cache_forgets_when_the_table_changes_and_when_it_is_full() {
        let mut cache = HeadCache::new();
        let head = Rc::new(head(&[POST, SCHEME, PATH]).unwrap());
        cache.put(1, b"block", &head);
        assert!(cache.get(1, b"block").is_some());
        assert!(cache.get(1, b"other").is_none());
        assert!(cache.get(2, b"block").is_none());
        cache.put(2, b"more", &head);
        assert!(cache.get(2, b"block").is_none());
        for n in 0..HEADS_REMEMBERED as u8 {
            cache.put(2, &[n], &head);
        }
        assert!(cache.get(2, b"more").is_none(), "the oldest makes room");
        assert!(cache.get(2, &[HEADS_REMEMBERED as u8 - 1]).is_some());
        cache.put(2, &[0; REMEMBERED_BLOCK_BYTES_MAX + 1], &head);
        assert!(cache.get(2, &[0; REMEMBERED_BLOCK_BYTES_MAX + 1]).is_none());
    }
}
