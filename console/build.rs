//! Joins the files below `page/` into one page, takes the hashes by which browsers know its script and style, and
//! compresses it. No other tool takes part: what is served is what is written there, without comments and indentation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Functions of values alone, which tests run without a browser.
const PURE: &[&str] = &["bytes", "numbers", "route", "wire", "detect", "diff", "rights", "calls"];
/// What draws and asks, from the ground up.
const SHELL: &[&str] = &["dom", "server", "live", "charts", "value", "confirm"];
/// One view a file.
const VIEWS: &[&str] = &["overview", "space", "traffic", "tree", "keys", "pair", "leases", "cluster", "users", "raw"];

fn main() {
    println!("cargo::rerun-if-changed=page");
    println!("cargo::rerun-if-changed=kubernetes/kinds.txt");
    let kinds = read("kubernetes/kinds.txt");
    assert!(!kinds.contains(['`', '\\', '$']), "the table stands in a template string");
    let pure = format!("const KINDS = `{kinds}`;\n") + &join("pure", PURE);
    let script = [
        "(() => {\n\"use strict\";\n",
        &pure,
        &join("shell", SHELL),
        &join("views", VIEWS),
        &file("main.js"),
        "})();\n",
    ]
    .concat();
    let style = dense(&squeezed(&read("page/style.css")));
    let page = read("page/index.html").replace("/*style*/", &style).replace("/*script*/", &script);
    let policy = [
        "default-src 'none'",
        &format!("script-src {}", hash(&script)),
        &format!("style-src {}", hash(&style)),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ];
    write("console.html.gz", &compressed(page.as_bytes()));
    let tag: String = Sha256::digest(page.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    write("console.html", page.as_bytes());
    write("pure.js", pure.as_bytes());
    let constants = format!(
        "/// The policy that browsers are to keep to.\npub const POLICY: &str = {:?};\n/// The page's hash.\npub const TAG: &str = {tag:?};\n",
        policy.join("; ")
    );
    write("constants.rs", constants.as_bytes());
}

fn join(folder: &str, names: &[&str]) -> String {
    names.iter().map(|name| file(&format!("{folder}/{name}.js"))).collect()
}

fn file(path: &str) -> String {
    squeezed(&read(&format!("page/{path}")))
}

/// Without indentation, empty lines, lines that are comments, and ends of lines behind what goes on: a fifth of the size.
/// Template strings of several lines would change; the one that there is, of calls, has none of these.
fn squeezed(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let goes_on = |line: &str| line.ends_with([',', '{', '(', '[', ';']);
    lines.flat_map(|line| [line, if goes_on(line) { "" } else { "\n" }]).collect()
}

/// A style sheet without blanks that say nothing. There are no texts in it but names of fonts.
fn dense(style: &str) -> String {
    [("; ", ";"), (": ", ":"), (" {", "{"), ("{ ", "{"), (" }", "}"), (";}", "}"), (", ", ",")]
        .into_iter()
        .fold(style.to_owned(), |style, (wide, tight)| style.replace(wide, tight))
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn write(name: &str, bytes: &[u8]) {
    let folder = std::env::var_os("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&folder).join(name), bytes).expect("the build's own folder");
}
