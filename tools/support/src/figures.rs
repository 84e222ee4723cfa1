//! Counters and gauges, and their page as Prometheus reads it.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that is counted or set.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Zero.
    pub const fn new() -> Cell {
        Cell(AtomicU64::new(0))
    }

    /// One more.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// One less, of a gauge that was counted up before.
    pub fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A page of figures.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// An empty one.
    pub fn new() -> Page {
        Page::default()
    }

    /// A family: what it is, and its values with their labels (`code="200"`; empty for none).
    pub fn family<N: Display>(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, N)]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = match *labels {
                "" => writeln!(self.0, "{name} {value}"),
                labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
            };
        }
    }

    /// Its text.
    pub fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let cell = Cell::new();
        cell.add(3);
        cell.take();
        let mut page = Page::new();
        page.family("a_total", "counter", "As.", &[("", cell.get())]);
        page.family("b", "gauge", "Bs.", &[("x=\"1\"", 0.5)]);
        let text =
            "# HELP a_total As.\n# TYPE a_total counter\na_total 2\n# HELP b Bs.\n# TYPE b gauge\nb{x=\"1\"} 0.5\n";
        assert_eq!(page.text(), text);
    }
}
