//! An encoded response that may become large, made without ever moving much of it.
//!
//! The length of a nested message is known only after its content, and stands before it. Little content is moved up for
//! it; for much, what goes in front is kept aside with its place, and put there when the response is complete: by then
//! it is a row of pieces, which are split without a copy.

use bytes::Bytes;

/// A piece is full at this size; what is appended in one go may go beyond.
pub const PIECE_BYTES: usize = 1 << 20;
/// Content up to this length is moved up.
const MOVED_MAX: usize = 16 << 10;

/// A response without its header.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// What was appended last.
    tail: Vec<u8>,
    long: Option<Box<Long>>,
}

/// What only a long response has.
#[derive(Clone, Debug, Default)]
struct Long {
    full: Vec<Bytes>,
    /// Bytes of the full pieces.
    full_bytes: usize,
    /// What goes in front of what, by place among the pieces; later ones go before earlier ones at the same place.
    heads: Vec<(usize, Vec<u8>)>,
}

/// A place in a response: what was appended before it stays before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Mark(usize);

impl Body {
    /// The end of what was appended so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.full_bytes() + self.tail.len())
    }

    /// Where to append.
    #[inline]
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// To be called now and then while much is appended.
    #[inline]
    pub(crate) fn spill(&mut self) {
        if self.tail.len() >= PIECE_BYTES {
            self.end_piece();
        }
    }

    #[cold]
    fn end_piece(&mut self) {
        assert!(!self.tail.is_empty(), "a piece has bytes, or its end is that of the one before");
        let piece = std::mem::replace(&mut self.tail, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 16));
        let long = self.long.get_or_insert_default();
        long.full_bytes += piece.len();
        long.full.push(piece.into());
    }

    /// Makes a field of everything after `mark`.
    pub(crate) fn wrap(&mut self, mark: Mark, tag: u8) {
        let content = self.mark().0 - mark.0 + self.heads_after(mark).map(|(_, head)| head.len()).sum::<usize>();
        let (mut head, mut len, mut left) = ([tag; 11], 1, content as u64);
        while left >= 0x80 {
            (head[len], len, left) = (left as u8 | 0x80, len + 1, left >> 7);
        }
        head[len] = left as u8;
        self.put_before(mark, &head[..=len]);
    }

    /// Puts `head` in front of everything after `mark`.
    pub(crate) fn put_before(&mut self, mark: Mark, head: &[u8]) {
        assert!(mark <= self.mark(), "a mark lies in what was appended");
        let is_little = self.mark().0 - mark.0 <= MOVED_MAX && self.heads_after(mark).next().is_none();
        match mark.0.checked_sub(self.full_bytes()) {
            Some(start) if is_little => {
                self.tail.extend_from_slice(head);
                self.tail[start..].rotate_right(head.len());
            }
            _ if head.is_empty() => {}
            _ => self.long.get_or_insert_default().heads.push((mark.0, head.to_vec())),
        }
    }

    /// What was put aside at `mark` or after it. Marks nest, so these are the last ones.
    fn heads_after(&self, mark: Mark) -> impl Iterator<Item = &(usize, Vec<u8>)> {
        let heads = self.long.as_ref().map_or(&[][..], |long| &long.heads);
        heads.iter().rev().take_while(move |(at, _)| *at >= mark.0)
    }

    fn full_bytes(&self) -> usize {
        self.long.as_ref().map_or(0, |long| long.full_bytes)
    }

    /// Bytes of the response.
    pub fn len(&self) -> usize {
        self.mark().0 + self.heads_after(Mark(0)).map(|(_, head)| head.len()).sum::<usize>()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The response in one piece, if it is: most are.
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.long.is_none().then_some(&self.tail)
    }

    /// The response as pieces, in order. None is empty.
    pub fn into_pieces(self) -> Vec<Bytes> {
        let Some(mut long) = self.long else {
            return if self.tail.is_empty() { Vec::new() } else { vec![self.tail.into()] };
        };
        if !self.tail.is_empty() {
            long.full.push(self.tail.into());
        }
        // Stable, so that of those at one place the last comes first after the reversal.
        long.heads.reverse();
        long.heads.sort_by_key(|(at, _)| *at);
        let bytes = long.full.iter().map(Bytes::len).sum::<usize>();
        assert!(long.heads.iter().all(|(at, _)| *at <= bytes), "what goes in front stands before something");
        let (mut pieces, mut end) = (Vec::with_capacity(long.full.len() + long.heads.len()), 0);
        let mut heads = long.heads.into_iter().peekable();
        for mut piece in long.full {
            while let Some((at, head)) = heads.next_if(|(at, _)| *at < end + piece.len()) {
                let before = piece.split_to(at - end);
                end = at;
                pieces.extend([before, head.into()].into_iter().filter(|piece| !piece.is_empty()));
            }
            end += piece.len();
            pieces.push(piece);
        }
        pieces.extend(heads.map(|(_, head)| Bytes::from(head)));
        pieces
    }

    /// The response in one piece; for small ones and for tests.
    pub fn into_vec(self) -> Vec<u8> {
        match self.long {
            None => self.tail,
            Some(_) => self.into_pieces().concat(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(tail: Vec<u8>) -> Body {
        Body { tail, long: None }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        self.clone().into_vec() == other.clone().into_vec()
    }
}

impl Eq for Body {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message: some bytes, and messages in it.
    #[derive(Clone, Debug)]
    enum Part {
        Bytes(u8, usize),
        Message(Vec<Part>),
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let bytes = (any::<u8>(), prop_oneof![0..20usize, 10_000..40_000usize, 1_000_000..1_200_000usize])
            .prop_map(|(byte, len)| Part::Bytes(byte, len));
        let part = bytes.prop_recursive(4, 24, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Part::Message));
        prop::collection::vec(part, 0..4)
    }

    fn append(parts: &[Part], body: &mut Body) {
        for part in parts {
            match part {
                Part::Bytes(byte, len) => {
                    body.tail().extend(std::iter::repeat_n(*byte, *len));
                    body.spill();
                }
                Part::Message(parts) => {
                    let mark = body.mark();
                    append(parts, body);
                    body.put_before(mark, b"head");
                    body.wrap(mark, 0x0a);
                    body.wrap(mark, 0x12);
                }
            }
        }
    }

    fn expected(parts: &[Part]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::Bytes(byte, len) => out.extend(std::iter::repeat_n(*byte, *len)),
                Part::Message(parts) => {
                    let content = [b"head", &expected(parts)[..]].concat();
                    let mut inner = Vec::new();
                    crate::kv_codec::put_message_field(&mut inner, 0x0a, &content);
                    crate::kv_codec::put_message_field(&mut out, 0x12, &inner);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn pieces_are_the_message(parts in parts()) {
            let mut body = Body::default();
            append(&parts, &mut body);
            let expected = expected(&parts);
            prop_assert_eq!(body.len(), expected.len());
            let pieces = body.clone().into_pieces();
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert!(pieces.concat() == expected);
            prop_assert!(body.into_vec() == expected);
        }
    }
}
