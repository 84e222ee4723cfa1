//! The language of gofail: what happens at a place, how often, and how likely.
//!
//! ```text
//! chain  = term { "->" term }
//! term   = { chance "%" | count "*" } action [ "(" argument ")" ]
//! action = "off" | "return" | "sleep" | "panic" | "print"
//! ```
//!
//! Of a chain, the first term that still counts is meant; it is passed over when its chance is against it.

use std::time::Duration;

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    Off,
    /// The place goes on with this.
    Return(String),
    /// It takes so long.
    Sleep(Duration),
    /// The process ends.
    Panic(String),
    /// A line on stderr.
    Print(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// In percent.
    chance: f64,
    /// How often it still counts; `None` always.
    count: Option<u64>,
    action: Action,
}

/// What was asked of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    text: String,
    chain: Vec<Term>,
}

impl Terms {
    /// Reads a chain.
    ///
    /// # Errors
    /// The text of what is wrong.
    pub fn parse(text: &str) -> Result<Terms, String> {
        let fault = || format!("failpoint: could not parse {text:?}");
        let mut chain = Vec::new();
        let mut rest = text.trim();
        loop {
            let (term, behind) = Term::parse(rest).ok_or_else(fault)?;
            chain.push(term);
            match behind.trim_start() {
                "" => return Ok(Terms { text: text.trim().to_string(), chain }),
                behind => rest = behind.strip_prefix("->").ok_or_else(fault)?.trim_start(),
            }
        }
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place is passed: what happens. `draw` gives numbers below 100.
    pub fn pass(&mut self, mut draw: impl FnMut() -> f64) -> Option<Action> {
        let term = self.chain.iter_mut().find(|term| term.count != Some(0))?;
        if term.chance < 100.0 && draw() >= term.chance {
            return None;
        }
        if let Some(count) = &mut term.count {
            *count -= 1;
        }
        Some(term.action.clone())
    }
}

impl Term {
    fn parse(mut text: &str) -> Option<(Term, &str)> {
        let (mut chance, mut count) = (100.0, None);
        loop {
            let end = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
            let number = &text[..end];
            match (number.is_empty(), text.as_bytes()[end]) {
                (false, b'%') => chance = number.parse().ok()?,
                (false, b'*') => count = Some(number.parse().ok()?),
                (true, _) => break,
                (false, _) => return None,
            }
            text = &text[end + 1..];
        }
        let end = text.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (argument, rest) = match rest.strip_prefix('(') {
            Some(inner) => argument(inner)?,
            None => (None, rest),
        };
        let words = || argument.clone().unwrap_or_default();
        let action = match name {
            "off" => Action::Off,
            "return" => Action::Return(words()),
            "panic" => Action::Panic(words()),
            "print" => Action::Print(words()),
            "sleep" => Action::Sleep(duration(&argument?)?),
            _ => return None,
        };
        Some((Term { chance, count, action }, rest))
    }
}

/// What is in parentheses, and what follows them: a string, or anything without a parenthesis.
fn argument(inner: &str) -> Option<(Option<String>, &str)> {
    if let Some(quoted) = inner.strip_prefix('"') {
        let mut text = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Some((Some(text), quoted[at + 1..].strip_prefix(')')?)),
                '\\' => text.push(characters.next()?.1),
                other => text.push(other),
            }
        }
        return None;
    }
    let (text, rest) = inner.split_once(')')?;
    Some(((!text.is_empty()).then(|| text.to_string()), rest))
}

/// Milliseconds, or a number with a unit.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(millis) = text.parse() {
        return Some(Duration::from_millis(millis));
    }
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    let seconds = match &text[end..] {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str, draws: &[f64]) -> Vec<Option<Action>> {
        let mut terms = Terms::parse(text).expect(text);
        draws.iter().map(|draw| terms.pass(|| *draw)).collect()
    }

    #[test]
    fn terms_as_gofail_reads_them() {
        let one = |text: &str| passes(text, &[0.0]).remove(0);
        assert_eq!(one("off"), Some(Action::Off));
        assert_eq!(one("panic"), Some(Action::Panic(String::new())));
        assert_eq!(one("return"), Some(Action::Return(String::new())));
        assert_eq!(one(r#"return("a \"b\" -> c")"#), Some(Action::Return(r#"a "b" -> c"#.into())));
        assert_eq!(one("return()"), Some(Action::Return(String::new())));
        assert_eq!(one("return(7)"), Some(Action::Return("7".into())));
        assert_eq!(one("sleep(100)"), Some(Action::Sleep(Duration::from_millis(100))));
        assert_eq!(one(r#"sleep("1.5s")"#), Some(Action::Sleep(Duration::from_millis(1500))));
        assert_eq!(one(" print(\"x\") "), Some(Action::Print("x".into())));
        for bad in
            ["", "explode", "5", "5*", "sleep", "sleep(soon)", "return(\"x)", "off->", "off off", "x%off", "-1*off"]
        {
            assert!(Terms::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_chances_and_chains() {
        let (off, done) = (Some(Action::Off), Some(Action::Return("x".into())));
        assert_eq!(passes("2*off->return(x)", &[0.0; 4]), [off.clone(), off.clone(), done.clone(), done.clone()]);
        assert_eq!(passes("1*return(x)", &[0.0; 3]), [done.clone(), None, None]);
        assert_eq!(passes("50%return(x)", &[49.9, 50.0, 99.0]), [done.clone(), None, None]);
        assert_eq!(passes("50%1*return(x)", &[60.0, 10.0, 10.0]), [None, done.clone(), None]);
        assert_eq!(passes("1*50%return(x) -> off", &[10.0, 10.0]), [done, off]);
    }
}
