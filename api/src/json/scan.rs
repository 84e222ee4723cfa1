//! Finds JSON values in bytes that arrive piece by piece, and tells what is none: a state machine with the rules, the
//! bounds and the error texts of Go's `encoding/json`.
//!
//! Invariant: a byte is looked at once, however small the pieces; what is open is bounded by [`NESTING_MAX`].

use std::fmt;
use std::ops::Range;

/// Arrays and objects inside each other.
const NESTING_MAX: usize = 10_000;

/// Why the bytes are no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// A byte that may not be where it is, and where that is.
    Unexpected(u8, &'static str),
    /// A byte in a word other than the one that the word needs.
    Misspelled {
        /// What was found.
        found: u8,
        /// `true`, `false` or `null`.
        word: &'static str,
        /// What would have gone on with it.
        expected: u8,
    },
    /// The input ends within a value.
    Truncated,
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Unexpected(byte, place) => write!(f, "invalid character {} {place}", quoted(*byte)),
            ScanError::Misspelled { found, word, expected } => {
                write!(f, "invalid character {} in literal {word} (expecting {})", quoted(*found), quoted(*expected))
            }
            ScanError::Truncated => f.write_str("unexpected EOF"),
        }
    }
}

/// A byte as Go shows it, which takes it for a character of its number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_string(),
        b'"' => r#"'"'"#.to_string(),
        b'\\' => r"'\\'".to_string(),
        7 => r"'\a'".to_string(),
        8 => r"'\b'".to_string(),
        9 => r"'\t'".to_string(),
        10 => r"'\n'".to_string(),
        11 => r"'\v'".to_string(),
        12 => r"'\f'".to_string(),
        13 => r"'\r'".to_string(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        // Neither is printable: controls of the second half, the blank that does not break, the hyphen that may.
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// No complete value yet.
    NeedMore,
    /// A value is here. The next step begins behind it: drop the bytes up to its end.
    Value(Range<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Array,
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    FirstElement,
    FirstKey,
    Key,
    BehindKey,
    BehindValue,
    Text {
        is_key: bool,
    },
    Escape {
        is_key: bool,
    },
    Hex {
        is_key: bool,
        digits: u8,
    },
    Word {
        word: &'static str,
        at: u8,
    },
    Minus,
    Zero,
    Digits,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// A value of its own is complete.
    Done,
}

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    open: Vec<Open>,
    /// Bytes of the input that were looked at.
    at: usize,
    /// Where the value began.
    start: Option<usize>,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner { state: State::Value, open: Vec::new(), at: 0, start: None }
    }
}

const BEFORE_VALUE: &str = "looking for beginning of value";
const BEFORE_KEY: &str = "looking for beginning of object key string";

impl Scanner {
    /// Looks on. `input` begins with the bytes that earlier steps were given since the last value.
    pub fn scan(&mut self, input: &[u8]) -> Result<Step, ScanError> {
        while let Some(&byte) = input.get(self.at) {
            if let State::Text { .. } = self.state {
                self.at += input[self.at..].iter().position(|byte| is_special(*byte)).unwrap_or(input.len() - self.at);
                if self.at == input.len() {
                    break;
                }
                self.in_text(input[self.at])?;
            } else if self.is_number_done(byte) {
                // This byte belongs to what follows.
                if self.end_value() {
                    return Ok(self.finish());
                }
                continue;
            } else if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') || self.is_within_word() {
                self.start.get_or_insert(self.at);
                self.take(byte)?;
            }
            self.at += 1;
            if self.state == State::Done {
                return Ok(self.finish());
            }
        }
        Ok(Step::NeedMore)
    }

    /// No more bytes will come: the last value, if there is one.
    pub fn end(&mut self) -> Result<Option<Range<usize>>, ScanError> {
        if self.start.is_none() {
            return Ok(None);
        }
        if self.open.is_empty() && self.is_number_done(b' ') && self.end_value() {
            let Step::Value(range) = self.finish() else { unreachable!("it is a value") };
            return Ok(Some(range));
        }
        Err(ScanError::Truncated)
    }

    fn finish(&mut self) -> Step {
        let start = self.start.expect("a value has a beginning");
        let range = start..self.at;
        *self = Scanner { open: std::mem::take(&mut self.open), ..Scanner::default() };
        Step::Value(range)
    }

    /// Inside a word, a number or an escape blanks are as wrong as any other byte.
    fn is_within_word(&self) -> bool {
        !matches!(
            self.state,
            State::Value | State::FirstElement | State::FirstKey | State::Key | State::BehindKey | State::BehindValue
        )
    }

    fn is_number_done(&self, next: u8) -> bool {
        match self.state {
            State::Zero => !matches!(next, b'.' | b'e' | b'E'),
            State::Digits => !matches!(next, b'.' | b'e' | b'E' | b'0'..=b'9'),
            State::Fraction => !matches!(next, b'e' | b'E' | b'0'..=b'9'),
            State::ExponentDigits => !next.is_ascii_digit(),
            _ => false,
        }
    }

    /// A value is complete. Whether it stands for itself.
    fn end_value(&mut self) -> bool {
        self.state = if self.open.is_empty() { State::Done } else { State::BehindValue };
        self.open.is_empty()
    }

    fn begin(&mut self, open: Open, byte: u8) -> Result<(), ScanError> {
        if self.open.len() >= NESTING_MAX {
            return Err(ScanError::Unexpected(byte, "exceeded max depth"));
        }
        self.open.push(open);
        self.state = if open == Open::Array { State::FirstElement } else { State::FirstKey };
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
        self.end_value();
    }

    fn in_text(&mut self, byte: u8) -> Result<(), ScanError> {
        let State::Text { is_key } = self.state else { unreachable!("the caller looked") };
        match byte {
            b'"' if is_key => self.state = State::BehindKey,
            b'"' => {
                self.end_value();
            }
            b'\\' => self.state = State::Escape { is_key },
            _ => return Err(ScanError::Unexpected(byte, "in string literal")),
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8) -> Result<(), ScanError> {
        self.state = match byte {
            b'{' => return self.begin(Open::Object, byte),
            b'[' => return self.begin(Open::Array, byte),
            b'"' => State::Text { is_key: false },
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word { word: "true", at: 1 },
            b'f' => State::Word { word: "false", at: 1 },
            b'n' => State::Word { word: "null", at: 1 },
            _ => return Err(ScanError::Unexpected(byte, BEFORE_VALUE)),
        };
        Ok(())
    }

    fn behind_value(&mut self, byte: u8) -> Result<(), ScanError> {
        match (self.open.last(), byte) {
            (Some(Open::Array), b',') => self.state = State::Value,
            (Some(Open::Object), b',') => self.state = State::Key,
            (Some(Open::Array), b']') | (Some(Open::Object), b'}') => self.close(),
            (Some(Open::Array), _) => return Err(ScanError::Unexpected(byte, "after array element")),
            _ => return Err(ScanError::Unexpected(byte, "after object key:value pair")),
        }
        Ok(())
    }

    fn in_word(&mut self, word: &'static str, at: u8, byte: u8) -> Result<(), ScanError> {
        let expected = word.as_bytes()[usize::from(at)];
        if byte != expected {
            return Err(ScanError::Misspelled { found: byte, word, expected });
        }
        if usize::from(at) + 1 == word.len() {
            self.end_value();
        } else {
            self.state = State::Word { word, at: at + 1 };
        }
        Ok(())
    }

    fn take(&mut self, byte: u8) -> Result<(), ScanError> {
        let wrong = |place| Err(ScanError::Unexpected(byte, place));
        self.state = match (self.state, byte) {
            (State::FirstElement, b']') | (State::FirstKey, b'}') => {
                self.close();
                return Ok(());
            }
            (State::Value | State::FirstElement, _) => return self.begin_value(byte),
            (State::FirstKey | State::Key, b'"') => State::Text { is_key: true },
            (State::FirstKey | State::Key, _) => return wrong(BEFORE_KEY),
            (State::BehindKey, b':') => State::Value,
            (State::BehindKey, _) => return wrong("after object key"),
            (State::BehindValue, _) => return self.behind_value(byte),
            (State::Escape { is_key }, b'u') => State::Hex { is_key, digits: 0 },
            (State::Escape { is_key }, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                State::Text { is_key }
            }
            (State::Escape { .. }, _) => return wrong("in string escape code"),
            (State::Hex { .. }, _) if !byte.is_ascii_hexdigit() => {
                return wrong(r"in \u hexadecimal character escape");
            }
            (State::Hex { is_key, digits: 3 }, _) => State::Text { is_key },
            (State::Hex { is_key, digits }, _) => State::Hex { is_key, digits: digits + 1 },
            (State::Word { word, at }, _) => return self.in_word(word, at, byte),
            (State::Minus, b'0') => State::Zero,
            (State::Minus, b'1'..=b'9') | (State::Digits, b'0'..=b'9') => State::Digits,
            (State::Minus, _) => return wrong("in numeric literal"),
            (State::Zero | State::Digits, b'.') => State::Dot,
            (State::Dot | State::Fraction, b'0'..=b'9') => State::Fraction,
            (State::Dot, _) => return wrong("after decimal point in numeric literal"),
            (State::Zero | State::Digits | State::Fraction, b'e' | b'E') => State::Exponent,
            (State::Exponent, b'+' | b'-') => State::ExponentSign,
            (State::Exponent | State::ExponentSign | State::ExponentDigits, b'0'..=b'9') => State::ExponentDigits,
            (State::Exponent | State::ExponentSign, _) => return wrong("in exponent of numeric literal"),
            (State::Zero | State::Digits | State::Fraction | State::ExponentDigits, _) => {
                unreachable!("the number is done")
            }
            (State::Text { .. } | State::Done, _) => unreachable!("handled by the caller"),
        };
        Ok(())
    }
}

/// What ends a stretch of plain text.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}
