//! Asks for a password on the terminal, without showing what is typed. What is not a terminal is read as a line.

use crate::failure::Failure;
use crate::output::print::print;
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead, stdin};

/// Puts the terminal back as it was.
struct Quiet(Termios);

impl Quiet {
    fn new() -> Option<Quiet> {
        if !isatty(stdin()) {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &quiet).ok()?;
        Some(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that is gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// A line of standard input, behind a prompt.
pub fn password(prompt: &str) -> Result<String, Failure> {
    print(prompt.as_bytes())?;
    let mut line = String::new();
    let quiet = Quiet::new();
    stdin().lock().read_line(&mut line)?;
    drop(quiet);
    print(b"\n")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A new password, typed twice.
pub fn new_password(user: &str) -> Result<String, Failure> {
    let first = password(&format!("Password of {user}: "))?;
    if first.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    if first != password(&format!("Type password of {user} again for confirmation: "))? {
        return Err(Failure::arguments("given passwords are different"));
    }
    Ok(first)
}

/// The first word of standard input.
pub fn word() -> Result<String, Failure> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}
