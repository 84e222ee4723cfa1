//! Puts, reads and deletions of single keys or prefixes. The message is encoded once, with marks where the
//! numbers of keys go; each request is a copy with the marks overwritten.

use super::{Job, Kind, Methods, STAMP_BYTES, Source, Spec, key, random_of_slot, stamp_now, value};
use crate::grpc::{self, Keep, Method};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use plinth_random::Random;
use std::rc::Rc;

/// Numbers that stand for "the key" and "the end of the range" in a message that becomes a template. Ten digits
/// as real numbers have, and not a number any run uses.
const KEY_MARK: u64 = 9_876_543_210;
const END_MARK: u64 = 9_876_543_211;
/// What a stamp overwrites.
const STAMP_MARK: [u8; STAMP_BYTES] = *b"<stamp!>";

/// An encoded message whose numbers can be exchanged.
struct Template {
    bytes: Vec<u8>,
    key_at: usize,
    end_at: Option<usize>,
    stamp_at: Option<usize>,
}

impl Template {
    fn new(message: &impl prost::Message) -> Template {
        let bytes = grpc::frame(message).to_vec();
        let find = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
        let key_at = find(KEY_MARK.to_string().as_bytes()).expect("a template names a key");
        let end_at = find(END_MARK.to_string().as_bytes());
        let stamp_at = find(&STAMP_MARK);
        Template { bytes, key_at, end_at, stamp_at }
    }

    fn with(&mut self, key: u64, end: u64) -> Bytes {
        put_digits(&mut self.bytes, self.key_at, key);
        if let Some(at) = self.end_at {
            put_digits(&mut self.bytes, at, end);
        }
        if let Some(at) = self.stamp_at {
            self.bytes[at..at + STAMP_BYTES].copy_from_slice(&stamp_now().to_le_bytes());
        }
        Bytes::copy_from_slice(&self.bytes)
    }
}

fn put_digits(bytes: &mut [u8], at: usize, number: u64) {
    let mut rest = number;
    for digit in bytes[at..at + 10].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    debug_assert_eq!(rest, 0);
}

/// Which numbers a source takes.
enum Order {
    /// Random ones below a bound.
    Random(Random, u64),
    /// Every `step`-th below a bound, beginning with `next`: the slots together take each exactly once.
    Each { next: u64, step: u64, bound: u64 },
}

impl Order {
    fn random(spec: &Spec, slot: usize, bound: u64) -> Order {
        Order::Random(random_of_slot(spec, slot), bound)
    }

    fn each(spec: &Spec, slot: usize) -> Order {
        Order::Each { next: slot as u64, step: spec.slots() as u64, bound: spec.keys }
    }

    fn next(&mut self) -> Option<u64> {
        match self {
            Order::Random(random, bound) => Some(random.below(*bound)),
            Order::Each { next, step, bound } => {
                let number = *next;
                *next += *step;
                (number < *bound).then_some(number)
            }
        }
    }
}

/// Puts of values of a fixed size.
pub struct Puts {
    method: Rc<Method>,
    template: Template,
    order: Order,
}

impl Puts {
    /// To random keys. For workloads with watchers the value begins with a stamp.
    pub fn random(spec: &Spec, methods: &Methods, slot: usize) -> Puts {
        Puts::new(spec, methods, Order::random(spec, slot, spec.keys))
    }

    /// To each key once.
    pub fn sequential(spec: &Spec, methods: &Methods, slot: usize) -> Puts {
        Puts::new(spec, methods, Order::each(spec, slot))
    }

    fn new(spec: &Spec, methods: &Methods, order: Order) -> Puts {
        let mut value = value(spec.value_bytes);
        if spec.watchers > 0 && value.len() >= STAMP_BYTES {
            value[..STAMP_BYTES].copy_from_slice(&STAMP_MARK);
        }
        let message = PutRequest { key: key(KEY_MARK).into(), value: value.into(), ..Default::default() };
        Puts { method: methods.put.clone(), template: Template::new(&message), order }
    }
}

impl Source for Puts {
    fn next(&mut self) -> Option<Job> {
        let framed = self.template.with(self.order.next()?, 0);
        Some(Job { method: self.method.clone(), framed, keep: Keep::Nothing, class: 0 })
    }
}

/// Reads of one key or of one prefix.
pub struct Ranges {
    method: Rc<Method>,
    template: Template,
    order: Order,
    keys_per_read: u64,
}

impl Ranges {
    /// Of random single keys.
    pub fn single(spec: &Spec, methods: &Methods, slot: usize, serializable: bool) -> Ranges {
        let message = RangeRequest { key: key(KEY_MARK).into(), serializable, ..Default::default() };
        let order = Order::random(spec, slot, spec.keys);
        Ranges { method: methods.range.clone(), template: Template::new(&message), order, keys_per_read: 1 }
    }

    /// Of random runs of `prefix_keys` neighbouring keys, as a read of a prefix is to the server.
    pub fn prefixes(spec: &Spec, methods: &Methods, slot: usize) -> Ranges {
        let range_end = key(END_MARK).into();
        let message = RangeRequest { key: key(KEY_MARK).into(), range_end, ..Default::default() };
        let order = Order::random(spec, slot, (spec.keys / spec.prefix_keys).max(1));
        let keys_per_read = spec.prefix_keys;
        Ranges { method: methods.range.clone(), template: Template::new(&message), order, keys_per_read }
    }
}

impl Source for Ranges {
    fn next(&mut self) -> Option<Job> {
        let first = self.order.next()? * self.keys_per_read;
        let framed = self.template.with(first, first + self.keys_per_read);
        Some(Job { method: self.method.clone(), framed, keep: Keep::Nothing, class: 0 })
    }
}

/// A put, a read, a put, and so on.
pub struct PutsAndRanges {
    puts: Puts,
    ranges: Ranges,
    reads_next: bool,
}

impl PutsAndRanges {
    /// The share of one slot. Half of the slots begin with a read.
    pub fn new(spec: &Spec, methods: &Methods, slot: usize) -> PutsAndRanges {
        let (puts, ranges) = (Puts::random(spec, methods, slot), Ranges::single(spec, methods, slot, false));
        PutsAndRanges { puts, ranges, reads_next: slot % 2 == 1 }
    }
}

impl Source for PutsAndRanges {
    fn next(&mut self) -> Option<Job> {
        let reads = self.reads_next;
        self.reads_next = !reads;
        if reads { self.ranges.next().map(|job| Job { class: 1, ..job }) } else { self.puts.next() }
    }
}

/// Deletions, each key once.
pub struct Deletes {
    method: Rc<Method>,
    template: Template,
    order: Order,
}

impl Deletes {
    /// The share of one slot.
    pub fn new(spec: &Spec, methods: &Methods, slot: usize) -> Deletes {
        debug_assert_eq!(spec.kind, Kind::Delete);
        let message = DeleteRangeRequest { key: key(KEY_MARK).into(), ..Default::default() };
        let template = Template::new(&message);
        Deletes { method: methods.delete_range.clone(), template, order: Order::each(spec, slot) }
    }
}

impl Source for Deletes {
    fn next(&mut self) -> Option<Job> {
        let framed = self.template.with(self.order.next()?, 0);
        Some(Job { method: self.method.clone(), framed, keep: Keep::Nothing, class: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn methods() -> Methods {
        Methods::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into())
    }

    #[test]
    fn templates_carry_the_numbers() {
        let spec = Spec { keys: 1_000, prefix_keys: 100, ..Spec::usual(Kind::RangePrefix) };
        let mut source = Ranges::prefixes(&spec, &methods(), 3);
        for _ in 0..50 {
            let job = source.next().expect("endless");
            let request = RangeRequest::decode(job.framed.slice(5..)).expect("decodes");
            let first: u64 = std::str::from_utf8(&request.key[6..]).expect("digits").parse().expect("number");
            assert_eq!(first % 100, 0);
            assert_eq!(request.range_end, key(first + 100));
        }
    }

    #[test]
    fn slots_together_take_each_key_once() {
        let spec = Spec { keys: 1_003, connections: 3, streams: 7, ..Spec::usual(Kind::Delete) };
        let mut seen = std::collections::BTreeSet::new();
        for slot in 0..spec.slots() {
            let mut source = Deletes::new(&spec, &methods(), slot);
            while let Some(job) = source.next() {
                let request = DeleteRangeRequest::decode(job.framed.slice(5..)).expect("decodes");
                assert!(seen.insert(request.key), "twice");
            }
        }
        assert_eq!(seen.len(), 1_003);
    }

    #[test]
    fn puts_below_watchers_are_stamped() {
        let spec = Spec::usual(Kind::WatchFanout);
        let before = stamp_now();
        let job = Puts::random(&spec, &methods(), 0).next().expect("endless");
        let request = PutRequest::decode(job.framed.slice(5..)).expect("decodes");
        let stamp = u64::from_le_bytes(request.value[..8].try_into().expect("eight bytes"));
        assert!((before..=stamp_now()).contains(&stamp));
        assert_eq!(request.value.len(), spec.value_bytes);
    }
}
