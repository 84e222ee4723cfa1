//! Parameters of a request, as Go's `ParseForm` reads them: those of the body before those of the query.

use plinth_net::http1::{Http1Request, Method};
use plinth_v2::{Code, V2Error};

/// The parameters, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// Those of a request.
    ///
    /// # Errors
    /// With the first one that cannot be read.
    pub fn of(request: &Http1Request) -> Result<Form, V2Error> {
        let (mut form, mut fault) = (Form::default(), None);
        let kind = request.headers.get_str("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if matches!(request.method, Method::Post | Method::Put) && kind == "application/x-www-form-urlencoded" {
            form.read(&request.body, &mut fault);
        }
        form.read(request.query().as_bytes(), &mut fault);
        match fault {
            None => Ok(form),
            Some(fault) => Err(V2Error::request(Code::InvalidForm, fault)),
        }
    }

    fn read(&mut self, query: &[u8], fault: &mut Option<String>) {
        for part in query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            if part.contains(&b';') {
                fault.get_or_insert_with(|| "invalid semicolon separator in query".to_string());
                continue;
            }
            let at = part.iter().position(|byte| *byte == b'=');
            let (name, value) = at.map_or((part, &b""[..]), |at| (&part[..at], &part[at + 1..]));
            match unescape(name, true).and_then(|name| Ok((name, unescape(value, true)?))) {
                Ok(pair) => self.0.push(pair),
                Err(bad) => drop(fault.get_or_insert(bad)),
            }
        }
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| &**value)
    }

    /// The first value of this name, or nothing at all.
    pub fn text(&self, name: &str) -> &[u8] {
        self.get(name).unwrap_or_default()
    }

    /// A number; 0 if it is not there.
    ///
    /// # Errors
    /// If it is none.
    pub fn number(&self, name: &str, code: Code) -> Result<u64, V2Error> {
        let Some(text) = self.get(name) else { return Ok(0) };
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(text).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        number.ok_or_else(|| invalid(code, name))
    }

    /// Yes or no, if it is there.
    ///
    /// # Errors
    /// If it is neither.
    pub fn choice(&self, name: &str) -> Result<Option<bool>, V2Error> {
        match self.get(name) {
            None => Ok(None),
            Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(Some(true)),
            Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Ok(Some(false)),
            Some(_) => Err(invalid(Code::InvalidField, name)),
        }
    }

    /// As [`Form::choice`]; no if it is not there.
    ///
    /// # Errors
    /// If it is neither.
    pub fn flag(&self, name: &str) -> Result<bool, V2Error> {
        Ok(self.choice(name)?.unwrap_or(false))
    }
}

fn invalid(code: Code, name: &str) -> V2Error {
    // These two were written down without quotes.
    let cause = match name {
        "prevExist" | "refresh" => format!("invalid value for {name}"),
        _ => format!("invalid value for \"{name}\""),
    };
    V2Error::request(code, cause)
}

/// Without percent escapes. The error names the first one that is none, as Go does.
pub fn unescape(text: &[u8], plus_is_blank: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        out.push(match first {
            b'+' if plus_is_blank => b' ',
            b'%' => {
                let digits = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
                let Some(byte) =
                    digits.and_then(|two| u8::from_str_radix(two, 16).ok().filter(|_| !two.starts_with('+')))
                else {
                    let shown = String::from_utf8_lossy(&behind[..behind.len().min(2)]).into_owned();
                    return Err(format!("invalid URL escape {:?}", format!("%{shown}")));
                };
                rest = &behind[2..];
                byte
            }
            other => *other,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(query: &str) -> Result<Form, String> {
        let (mut form, mut fault) = (Form::default(), None);
        form.read(query.as_bytes(), &mut fault);
        fault.map_or(Ok(form), Err)
    }

    #[test]
    fn parameters_are_read_as_go_reads_them() {
        let read = form("a=1&a=2&b&c=x+y%2B&d=%ff").expect("a form");
        assert_eq!((read.text("a"), read.get("b"), read.get("e")), (&b"1"[..], Some(&b""[..]), None));
        assert_eq!((read.text("c"), read.text("d")), (&b"x y+"[..], &b"\xff"[..]));
        for (query, fault) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%4", "invalid URL escape \"%4\""),
            ("a=%", "invalid URL escape \"%\""),
            ("a=%+1", "invalid URL escape \"%+1\""),
            ("a;b", "invalid semicolon separator in query"),
        ] {
            assert_eq!(form(query), Err(fault.to_string()));
        }
    }

    #[test]
    fn numbers_and_choices() {
        let read = form("n=7&big=99999999999999999999&plus=%2B1&no=f&bad=yes&none=").expect("a form");
        assert_eq!(read.number("n", Code::IndexNaN), Ok(7));
        assert_eq!(read.number("missing", Code::IndexNaN), Ok(0));
        for name in ["big", "plus", "none", "bad"] {
            let error = read.number(name, Code::IndexNaN).expect_err("no number");
            assert_eq!(error.cause, format!("invalid value for \"{name}\"").as_bytes());
        }
        assert_eq!((read.choice("no"), read.flag("missing")), (Ok(Some(false)), Ok(false)));
        assert!(read.flag("bad").is_err() && read.flag("none").is_err());
    }
}
