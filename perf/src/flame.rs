//! Flame graphs out of what `perf script` prints: stacks are put together into a tree and drawn, root below; a table of
//! the functions by their own share goes to the terminal.

use crate::cli::FlameArgs;
use crate::report::Table;
use crate::scenario::Failure;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

const WIDTH: f64 = 1_400.0;
const ROW: f64 = 17.0;
const TOP: f64 = 40.0;
/// Narrower boxes are left out.
const NARROWEST: f64 = 0.3;
/// Pixels per letter of the font used.
const LETTER: f64 = 6.6;

/// A function called by its parent, with the samples in which it was.
#[derive(Default)]
struct Frame {
    samples: u64,
    /// Those in which it called nothing else.
    own: u64,
    calls: BTreeMap<String, Frame>,
}

impl Frame {
    fn add(&mut self, stack: &[String]) {
        self.samples += 1;
        match stack.split_first() {
            Some((first, rest)) => self.calls.entry(first.clone()).or_default().add(rest),
            None => self.own += 1,
        }
    }

    fn depth(&self) -> usize {
        self.calls.values().map(Frame::depth).max().unwrap_or(0) + 1
    }

    fn own_by_name<'a>(&'a self, sums: &mut BTreeMap<&'a str, u64>) {
        for (name, frame) in &self.calls {
            *sums.entry(name).or_insert(0) += frame.own;
            frame.own_by_name(sums);
        }
    }
}

/// `plinth-perf flame`.
pub fn flame(arguments: &FlameArgs) -> Result<(), Failure> {
    let root = parse(&String::from_utf8_lossy(&fs::read(&arguments.script)?));
    if root.samples == 0 {
        return Err("no samples in it".into());
    }
    let mut sums = BTreeMap::new();
    root.own_by_name(&mut sums);
    let mut sums: Vec<(&str, u64)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
    let share = |own: u64| format!("{:.2} %", own as f64 * 100.0 / root.samples as f64);
    let mut table = Table::new(&["thread and part", "own share"]);
    for (name, own) in parts(&root) {
        table.row(vec![name, share(own)]);
    }
    println!("{}", table.render());
    let mut table = Table::new(&["function", "own share"]);
    for (name, own) in sums.iter().take(arguments.top) {
        table.row(vec![short(name).to_owned(), share(*own)]);
    }
    println!("{}", table.render());
    if let Some(folder) = arguments.svg.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&arguments.svg, draw(&root))?;
    eprintln!("wrote {}", arguments.svg.display());
    Ok(())
}

/// Own shares by kind of thread and by crate, kernel or library, the largest first.
fn parts(root: &Frame) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (thread, frame) in &root.calls {
        let mut of_thread = BTreeMap::new();
        frame.own_by_name(&mut of_thread);
        for (name, own) in of_thread {
            // Threads of a kind differ by numbers at their ends.
            let thread = thread.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
            *sums.entry(format!("{thread} {}", part(name))).or_insert(0) += own;
        }
    }
    let mut sums: Vec<(String, u64)> = sums.into_iter().filter(|(_, own)| own * 500 >= root.samples).collect();
    sums.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
    sums
}

/// The crate of a Rust path, also of one like `<a::B as c::D>::e`.
fn part(name: &str) -> &str {
    let name = name.trim_start_matches(['<', '&']);
    let name = name.strip_prefix("dyn ").unwrap_or(name);
    match name.split_once("::") {
        Some((first, _)) => first,
        None => "others",
    }
}

/// Stacks begin with a line that has no indent (`name pid time: …`), hold a line per function, innermost first
/// (`address symbol+offset (object)`), and end with an empty line.
fn parse(script: &str) -> Frame {
    let mut root = Frame::default();
    let mut stack: Vec<String> = Vec::new();
    let mut thread: Option<String> = None;
    for line in script.lines().chain([""]) {
        if line.trim().is_empty() {
            if let Some(thread) = thread.take() {
                stack.push(thread);
                stack.reverse();
                root.add(&stack);
            }
            stack.clear();
        } else if line.starts_with(char::is_whitespace) {
            stack.push(function(line));
        } else if !line.starts_with('#') {
            thread = Some(line.split_ascii_whitespace().next().unwrap_or_default().to_owned());
        }
    }
    root
}

fn function(line: &str) -> String {
    let line = line.trim();
    let behind = line.split_once(' ').map_or(line, |(_address, rest)| rest);
    let (symbol, object) = behind.rsplit_once(" (").unwrap_or((behind, ""));
    let symbol = symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name);
    let object = object.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
    match object {
        _ if symbol == "[unknown]" => format!("{object}::unknown"),
        "[kernel.kallsyms]" => format!("kernel::{symbol}"),
        _ if object.contains(".so") || object.starts_with('[') => format!("{object}::{symbol}"),
        _ => symbol.to_owned(),
    }
}

/// A Rust path without the hash at its end.
fn short(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

fn draw(root: &Frame) -> String {
    let height = TOP + ROW * root.depth() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"22\" font-size=\"15\">{} samples; hover for names and shares</text>\n",
        root.samples
    );
    draw_calls(&mut svg, root, root.samples, 0.0, height - ROW - 5.0);
    svg.push_str("</svg>\n");
    svg
}

fn draw_calls(svg: &mut String, frame: &Frame, all: u64, left: f64, y: f64) {
    let mut x = left;
    for (name, call) in &frame.calls {
        let width = call.samples as f64 / all as f64 * WIDTH;
        if width >= NARROWEST {
            let (name, share) = (escape(short(name)), call.samples as f64 * 100.0 / all as f64);
            let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
            let label: String = if letters < 3 { String::new() } else { clip(short(&name), letters) };
            // Writing to a string does not fail.
            let _ = writeln!(
                svg,
                "<g><title>{name}: {share:.2} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                 height=\"{ROW}\" fill=\"{}\" stroke=\"#fff\" stroke-width=\"0.5\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{label}</text></g>",
                colour(&name),
                x + 3.0,
                y + 12.5
            );
            draw_calls(svg, call, all, x, y - ROW);
        }
        x += width;
    }
}

/// The end of a path says most. Entities of escaped text are never cut in two.
fn clip(name: &str, letters: usize) -> String {
    let letters_all: Vec<char> = name.chars().collect();
    if letters_all.len() <= letters || name.contains('&') {
        return if letters_all.len() <= letters { name.to_owned() } else { String::new() };
    }
    letters_all[letters_all.len() - letters..].iter().collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Warm colours by the first part of the name, so that a crate keeps its own.
fn colour(name: &str) -> String {
    let part = name.split("::").next().unwrap_or(name);
    let hash = part.bytes().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    format!("hsl({},{}%,{}%)", hash % 65, 55 + hash / 65 % 25, 62 + hash / 1_625 % 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
reactor-0   12 100.000001:     1001001 cpu-clock:ppp: \n\
\t    55d0 plinth::b::h0123456789abcdef+0x10 (/bin/plinth)\n\
\t    55d1 plinth::a+0x20 (/bin/plinth)\n\
\n\
reactor-0   12 100.000002:     1001001 cpu-clock:ppp: \n\
\t    55d1 plinth::a+0x24 (/bin/plinth)\n\
\n\
log   13 100.000003:     1001001 cpu-clock:ppp: \n\
\tffff [unknown] ([kernel.kallsyms])\n";

    #[test]
    fn stacks_become_a_tree() {
        let root = parse(SCRIPT);
        assert_eq!((root.samples, root.depth()), (3, 4));
        let a = &root.calls["reactor-0"].calls["plinth::a"];
        assert_eq!((a.samples, a.own, a.calls["plinth::b::h0123456789abcdef"].own), (2, 1, 1));
        assert_eq!(root.calls["log"].calls["[kernel.kallsyms]::unknown"].own, 1);
        let svg = draw(&root);
        assert!(svg.contains("plinth::b: 33.33 %") && !svg.contains("0123456789abcdef"), "{svg}");
    }

    #[test]
    fn shares_are_those_of_crates() {
        let root = parse(SCRIPT);
        let expected = [("reactor plinth".to_owned(), 2), ("log [kernel.kallsyms]".to_owned(), 1)];
        assert_eq!(parts(&root), expected);
        assert_eq!(part("<a::B as c::D>::e"), "a");
        assert_eq!(part("<dyn a::B>::e"), "a");
        assert_eq!(part("main"), "others");
        let line = "\tffff __memcpy+0x1 (/usr/lib/libc.so.6)";
        assert_eq!(function(line), "libc.so.6::__memcpy");
    }

    #[test]
    fn names_are_escaped_and_clipped() {
        assert_eq!(escape("<A as B>::c"), "&lt;A as B&gt;::c");
        assert_eq!(clip("one::two", 5), "::two");
        assert_eq!(clip("&lt;A", 3), "");
    }
}
