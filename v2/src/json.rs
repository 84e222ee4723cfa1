//! What Go's `encoding/json` writes, where others may write something else: strings and times.

/// Appends a string: escapes for HTML, line separators of Unicode, and bytes that are not UTF-8.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{8}' => out.extend_from_slice(b"\\b"),
                '\u{c}' => out.extend_from_slice(b"\\f"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.extend_from_slice(format!("\\u{:04x}", character as u32).as_bytes());
                }
                character => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // Go replaces each byte on its own.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

const NANOS: i64 = 1_000_000_000;

/// A moment in nanoseconds since 1970 as RFC 3339 has it, in UTC, with as many digits as it needs.
pub fn time(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text =
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if fraction != 0 {
        text += format!(".{fraction:09}").trim_end_matches('0');
    }
    text.push('Z');
    text
}

/// The date of a day since 1970, by counting from the 1st of March of the year 0, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads a moment as [`time`] writes it, or with another zone; nothing if it is none, or too far away.
pub fn parse_time(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (date, clock) = text.split_once('T')?;
    let [year, month, day] = [number(0..4)?, number(5..7)?, number(8..10)?];
    let [hour, minute, second] = [number(11..13)?, number(14..16)?, number(17..19)?];
    let is_date = date.len() == 10 && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = clock.get(8..)?;
    let (fraction, zone) = rest.split_at(rest.find(['Z', '+', '-'])?);
    let digits = fraction.strip_prefix('.').unwrap_or("");
    let nanos = format!("{digits:0<9}").get(..9)?.parse::<i64>().ok()?;
    let offset = match zone.split_at(1) {
        ("Z", "") => 0,
        (sign, rest) => {
            let (hours, minutes) = rest.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "-" { -seconds } else { seconds }
        }
    };
    // As in `civil`, from the 1st of March on.
    let (shifted, month_of_year) = (year - i64::from(month <= 2), (month + 9) % 12);
    let day_of_year = (153 * month_of_year + 2) / 5 + day - 1;
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_as_go_writes_them() {
        for (text, expected) in [
            (&b"plain"[..], "\"plain\""),
            (b"a\"b\\c\n\t\x01<&>", r#""a\"b\\c\n\t\u0001\u003c\u0026\u003e""#),
            ("é\u{2028}".as_bytes(), "\"é\\u2028\""),
            (b"\xff\xe2\x82x", r#""\ufffd\ufffd\ufffdx""#),
        ] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    #[test]
    fn times_as_go_writes_them() {
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696 * NANOS, "2000-02-29T12:34:56Z"),
            (1_796_121_732 * NANOS + 120_000_000, "2026-12-01T10:42:12.12Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (4_107_542_400 * NANOS, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(nanos), expected);
            assert_eq!(parse_time(expected), Some(nanos));
        }
        assert_eq!(parse_time("2026-12-01T12:42:12.12+02:00"), parse_time("2026-12-01T10:42:12.12Z"));
        for wrong in ["", "2026-12-01", "2026-13-01T00:00:00Z", "2026-12-01T00:00:00", "0001-01-01T00:00:00Z", "é"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }
}
