//! The fixed Huffman code of HPACK (RFC 7541 §5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer codes follow
//! shorter ones. So the lengths alone say everything, and the tables are computed from them while compiling. Short
//! codes (all of usual text) are decoded by one look-up of `FAST_BITS` bits, longer ones by their length class.
//!
//! Invariants: padding is at most 7 bits and all ones (a prefix of the end-of-string code); that code itself is refused.

/// Bits of the look-up that decodes short codes.
const FAST_BITS: u32 = 9;
/// Longest code.
const LENGTH_MAX: usize = 30;
/// Number of symbols without the end-of-string symbol, which never appears.
const SYMBOLS: usize = 256;

/// Code length of each byte. The end-of-string symbol has 30 ones.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];

const TABLES: Tables = Tables::new();

struct Tables {
    /// Code of each byte, in its low bits.
    codes: [u32; SYMBOLS],
    /// Bytes in the order of their codes.
    sorted: [u8; SYMBOLS],
    /// First code of each length.
    first_code: [u32; LENGTH_MAX + 1],
    /// How many codes have this length.
    count: [u16; LENGTH_MAX + 1],
    /// Where the codes of this length begin in `sorted`.
    offset: [u16; LENGTH_MAX + 1],
    /// By the next `FAST_BITS` bits: symbol in the high byte, length in the low one; 0 where the code is longer.
    fast: [u16; 1 << FAST_BITS],
}

impl Tables {
    const fn new() -> Tables {
        let mut t = Tables {
            codes: [0; SYMBOLS],
            sorted: [0; SYMBOLS],
            first_code: [0; LENGTH_MAX + 1],
            count: [0; LENGTH_MAX + 1],
            offset: [0; LENGTH_MAX + 1],
            fast: [0; 1 << FAST_BITS],
        };
        let mut code = 0u32;
        let mut placed = 0usize;
        let mut length = 1usize;
        while length <= LENGTH_MAX {
            code <<= 1;
            t.first_code[length] = code;
            t.offset[length] = placed as u16;
            let mut symbol = 0usize;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    t.codes[symbol] = code;
                    t.sorted[placed] = symbol as u8;
                    t.count[length] += 1;
                    if length <= FAST_BITS as usize {
                        let shift = FAST_BITS as usize - length;
                        let mut low = 0usize;
                        while low < 1 << shift {
                            t.fast[((code as usize) << shift) | low] = ((symbol as u16) << 8) | length as u16;
                            low += 1;
                        }
                    }
                    code += 1;
                    placed += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        assert!(placed == SYMBOLS);
        // Only the end-of-string code, thirty ones, is left over: the code is complete.
        assert!(code == (1 << LENGTH_MAX) - 1);
        t
    }
}

/// The bytes are not the Huffman code of anything.
#[derive(Debug, PartialEq, Eq)]
pub struct HuffmanError;

/// Appends what `coded` stands for to `out`.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), HuffmanError> {
    out.reserve(coded.len() * 8 / 5);
    // The next bits, left-aligned; `bits` of them are there.
    let mut window = 0u64;
    let mut bits = 0u32;
    let mut input = coded.iter();
    loop {
        while bits <= 56 {
            let Some(&byte) = input.next() else { break };
            window |= u64::from(byte) << (56 - bits);
            bits += 8;
        }
        if bits == 0 {
            return Ok(());
        }
        let entry = TABLES.fast[(window >> (64 - FAST_BITS)) as usize];
        let (symbol, length) =
            if entry != 0 { ((entry >> 8) as u8, u32::from(entry & 0xff)) } else { long_code(window) };
        if length == 0 || length > bits {
            return if is_padding(window, bits) { Ok(()) } else { Err(HuffmanError) };
        }
        out.push(symbol);
        window <<= length;
        bits -= length;
    }
}

/// Symbol and length of a code longer than `FAST_BITS`; length 0 if the window begins with the end-of-string code.
#[cold]
fn long_code(window: u64) -> (u8, u32) {
    for length in FAST_BITS as usize + 1..=LENGTH_MAX {
        let code = (window >> (64 - length)) as u32;
        let place = code.wrapping_sub(TABLES.first_code[length]);
        if code >= TABLES.first_code[length] && place < u32::from(TABLES.count[length]) {
            return (TABLES.sorted[TABLES.offset[length] as usize + place as usize], length as u32);
        }
    }
    (0, 0)
}

/// Fewer than eight bits, all ones.
fn is_padding(window: u64, bits: u32) -> bool {
    bits < 8 && window >> (64 - bits) == (1 << bits) - 1
}

/// Appends the code of `plain` to `out`.
#[cfg(test)]
pub fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let mut window = 0u64;
    let mut bits = 0u32;
    for &byte in plain {
        let length = u32::from(LENGTHS[byte as usize]);
        window = (window << length) | u64::from(TABLES.codes[byte as usize]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push(((window << (8 - bits)) as u8) | (0xff >> bits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HuffmanError> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541 appendix C.4 and C.6.
        let cases: [(&str, &[u8]); 4] = [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("custom-key", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
            ("302", &[0x64, 0x02]),
        ];
        for (plain, coded) in cases {
            assert_eq!(decoded(coded).unwrap(), plain.as_bytes(), "{plain}");
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, coded, "{plain}");
        }
    }

    #[test]
    fn every_byte_survives_alone_and_between_others() {
        for byte in 0..=255u8 {
            for plain in [vec![byte], vec![b'a', byte, b'z'], vec![byte; 9]] {
                let mut coded = Vec::new();
                encode(&plain, &mut coded);
                assert_eq!(decoded(&coded).unwrap(), plain, "byte {byte}");
            }
        }
    }

    #[test]
    fn wrong_padding_is_refused() {
        let cases: [(&str, &[u8]); 4] = [
            ("eight bits of padding", &[0x64, 0x02, 0xff]),
            ("padding of zeros", &[0x1f, 0x00]),
            ("end-of-string code", &[0xff, 0xff, 0xff, 0xff]),
            ("end-of-string code behind text", &[0x64, 0x02, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (name, coded) in cases {
            // 0x1f is "a" (00011) and three ones; "0x00" adds a symbol of five zeros and three zeros of padding.
            assert_eq!(decoded(coded), Err(HuffmanError), "{name}");
        }
    }
}
