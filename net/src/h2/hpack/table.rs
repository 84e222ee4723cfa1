//! The static table (RFC 7541 appendix A) and the dynamic table (§2.3.2 and §4) of a decoder.
//!
//! Invariants: the size of the dynamic table, as the RFC counts it, never exceeds its limit; the limit never exceeds
//! the bound we announced. `version` changes with every change of what an index means.

use std::collections::VecDeque;
use std::rc::Rc;

use super::field::Field;

/// Entries of the static table.
pub const STATIC_LEN: usize = 61;

const STATIC: [(&str, &str); STATIC_LEN] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

thread_local! {
    /// Shared by all decoders of a reactor.
    static STATIC_FIELDS: Rc<[Rc<Field>]> =
        STATIC.iter().map(|(name, value)| Rc::new(Field::new(name.as_bytes(), value.as_bytes()))).collect();
}

/// What the indices of a header block refer to.
pub struct Table {
    fixed: Rc<[Rc<Field>]>,
    /// Newest first.
    dynamic: VecDeque<Rc<Field>>,
    size: usize,
    limit: usize,
    version: u64,
}

impl Table {
    /// An empty dynamic table of at most `limit` bytes.
    pub fn new(limit: usize) -> Table {
        Table { fixed: STATIC_FIELDS.with(Rc::clone), dynamic: VecDeque::new(), size: 0, limit, version: 0 }
    }

    /// The field with this index, counted from 1.
    pub fn get(&self, index: usize) -> Option<&Rc<Field>> {
        match index {
            0 => None,
            1..=STATIC_LEN => Some(&self.fixed[index - 1]),
            _ => self.dynamic.get(index - STATIC_LEN - 1),
        }
    }

    /// Inserts a field, evicting old ones. A field larger than the table empties it (§4.4).
    pub fn insert(&mut self, field: Rc<Field>) {
        self.version += 1;
        let size = field.size();
        self.evict(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.size += size;
            self.dynamic.push_front(field);
        }
        assert!(self.size <= self.limit);
    }

    /// Changes the limit.
    pub fn set_limit(&mut self, limit: usize) {
        self.version += 1;
        self.limit = limit;
        self.evict(limit);
    }

    /// Differs whenever an index may mean something else.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let oldest = self.dynamic.pop_back().expect("a table with a size has entries");
            self.size -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Rc<Field> {
        Rc::new(Field::new(name.as_bytes(), value.as_bytes()))
    }

    #[test]
    fn static_table_ends() {
        let table = Table::new(4096);
        assert_eq!(table.get(1).unwrap().name(), b":authority");
        assert_eq!(table.get(16).unwrap().value(), b"gzip, deflate");
        assert_eq!(table.get(61).unwrap().name(), b"www-authenticate");
        assert!(table.get(0).is_none());
        assert!(table.get(62).is_none());
    }

    #[test]
    fn newest_has_the_lowest_index_and_oldest_is_evicted() {
        let mut table = Table::new(3 * 34);
        for name in ["a", "b", "c"] {
            table.insert(field(name, "1"));
        }
        assert_eq!(table.get(62).unwrap().name(), b"c");
        assert_eq!(table.get(64).unwrap().name(), b"a");
        table.insert(field("d", "1"));
        assert_eq!(table.get(62).unwrap().name(), b"d");
        assert_eq!(table.get(64).unwrap().name(), b"b");
        assert!(table.get(65).is_none());
    }

    #[test]
    fn a_field_larger_than_the_table_empties_it() {
        let mut table = Table::new(64);
        table.insert(field("a", "1"));
        table.insert(field("name", &"v".repeat(64)));
        assert!(table.get(62).is_none());
    }

    #[test]
    fn lowering_the_limit_evicts() {
        let mut table = Table::new(4096);
        table.insert(field("a", "1"));
        table.insert(field("b", "1"));
        let before = table.version();
        table.set_limit(40);
        assert_eq!(table.get(62).unwrap().name(), b"b");
        assert!(table.get(63).is_none());
        assert_ne!(table.version(), before);
    }
}
