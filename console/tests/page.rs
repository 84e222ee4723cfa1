//! The page as a whole: small, with nothing from elsewhere, and just what its policy lets in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plinth_console::{PAGE, PAGE_GZIP, POLICY, TAG};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::Read as _;

/// Largest page as it is, and compressed.
const PLAIN_MAX: usize = 150 << 10;
const GZIP_MAX: usize = 45_000;

fn page() -> &'static str {
    std::str::from_utf8(PAGE).expect("text")
}

/// What stands between the first `<name>` and its end.
fn element(name: &str) -> &'static str {
    let (_, rest) = page().split_once(&format!("<{name}>")).expect("the element");
    rest.split_once(&format!("</{name}>")).expect("its end").0
}

/// The page without script and style.
fn markup() -> String {
    page().replace(element("script"), "").replace(element("style"), "")
}

#[test]
fn the_page_is_small() {
    assert!(PAGE.len() <= PLAIN_MAX, "{} bytes are more than {PLAIN_MAX}", PAGE.len());
    assert!(PAGE_GZIP.len() <= GZIP_MAX, "{} bytes compressed are more than {GZIP_MAX}", PAGE_GZIP.len());
    println!("{} bytes, {} compressed", PAGE.len(), PAGE_GZIP.len());
}

#[test]
fn compressed_it_is_the_same() {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(PAGE_GZIP).read_to_end(&mut plain).expect("gzip");
    assert!(plain == PAGE);
    let digest: String = Sha256::digest(PAGE).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(digest.starts_with(TAG) && TAG.len() == 24);
}

#[test]
fn the_policy_lets_in_this_script_and_style_alone() {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let directive =
        |name: &str| POLICY.split("; ").find_map(|part| part.strip_prefix(name)).expect("a directive").trim();
    assert_eq!(directive("script-src "), hash(element("script")));
    assert_eq!(directive("style-src "), hash(element("style")));
    assert_eq!(page().matches("<script").count(), 1);
    assert_eq!(page().matches("<style").count(), 1);
    for (name, value) in [
        ("default-src ", "'none'"),
        ("connect-src ", "'self'"),
        ("base-uri ", "'none'"),
        ("form-action ", "'none'"),
        ("frame-ancestors ", "'none'"),
        ("require-trusted-types-for ", "'script'"),
    ] {
        assert_eq!(directive(name), value);
    }
    assert!(!POLICY.contains("unsafe"));
}

#[test]
fn nothing_comes_from_elsewhere() {
    // Names of namespaces are no addresses.
    let known = ["http://www.w3.org/2000/svg"];
    let rest = known.iter().fold(page().to_owned(), |page, name| page.replace(name, ""));
    for foreign in ["http:", "https:", "//cdn", "@import", "url("] {
        assert!(!rest.contains(foreign), "{foreign}");
    }
}

#[test]
fn no_markup_is_made_of_texts() {
    let script = element("script");
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
        "srcdoc",
    ] {
        assert!(!script.contains(way), "{way}");
    }
    let markup = markup();
    let words = markup.split([' ', '<', '\n']);
    let inline: Vec<&str> = words.filter(|word| word.starts_with("style=") || word.starts_with("on")).collect();
    assert_eq!(inline, [""; 0], "handlers and styles in markup are refused by the policy");
    assert!(!script.contains("setAttribute(\"style") && !script.contains("javascript:"));
}

/// One scope: a second function of a name would quietly take the place of the first.
#[test]
fn every_name_stands_for_one_thing() {
    let mut seen = BTreeSet::new();
    // Indentation is gone from the page; what its own files define begins their lines.
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
    let mut files = vec![std::path::PathBuf::from(root)];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "js") {
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("a file").lines() {
            let starts = ["function* ", "async function* ", "async function ", "function ", "const ", "let ", "class "];
            let Some(rest) = starts.iter().find_map(|start| line.strip_prefix(start)) else { continue };
            let declared = rest.split(['=', '(', '{']).next().unwrap_or_default();
            for name in declared.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                assert!(seen.insert(name.to_owned()), "{name} is defined twice, again in {}", path.display());
            }
        }
    }
    assert!(seen.len() > 100, "the files were found");
}

#[test]
fn elements_that_the_script_looks_for_are_there() {
    let (markup, script) = (markup(), element("script"));
    for rest in script.split("getElementById(\"").skip(1) {
        let id = rest.split('"').next().expect("an id");
        let made = script.contains(&format!("id: \"{id}\"")) || script.contains(&format!("field(\"{id}\""));
        assert!(made || markup.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for rest in markup.split(" id=\"").skip(1) {
        let id = rest.split('"').next().expect("an id");
        assert!(
            script.contains(&format!("\"{id}\"")) || element("style").contains(&format!("#{id}")),
            "{id} is not used"
        );
    }
}

#[test]
fn who_cannot_see_is_told_too() {
    let markup = markup();
    assert!(markup.contains("<html lang=\"en\">") && markup.contains("<main") && markup.contains("<nav"));
    assert!(markup.contains("role=\"status\"") && markup.contains("aria-label"));
    for rule in ["animation", "transition", "@keyframes"] {
        assert!(!element("style").contains(rule), "nothing moves by itself: {rule}");
    }
}
