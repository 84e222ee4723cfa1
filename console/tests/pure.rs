//! The page's functions of values, run by an interpreter of JavaScript: `tests/pure.js` holds the cases.

use plinth_console::PURE;
use rquickjs::{CatchResultExt, Context, Runtime};

#[test]
fn functions_of_values() {
    let runtime = Runtime::new().expect("an interpreter");
    let context = Context::full(&runtime).expect("a context");
    context.with(|context| {
        let script = format!("(() => {{ \"use strict\";\n{PURE}\n{}\n}})()", include_str!("pure.js"));
        let report: String = context.eval(script).catch(&context).unwrap_or_else(|error| panic!("{error}"));
        let (passed, failures) = report.split_once('\n').expect("a count and failures");
        assert!(failures.is_empty(), "{failures}");
        assert!(passed.parse::<usize>().is_ok_and(|passed| passed > 80), "{passed} cases");
    });
}

/// The whole script is read, though there is no browser to run it in.
#[test]
fn the_script_is_well_formed() {
    let page = std::str::from_utf8(plinth_console::PAGE).expect("text");
    let script = page.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>")).expect("a script").0;
    let runtime = Runtime::new().expect("an interpreter");
    let context = Context::full(&runtime).expect("a context");
    context.with(|context| {
        let checked = format!("new Function({});", serde_json::to_string(script).expect("text"));
        context.eval::<(), _>(checked).catch(&context).unwrap_or_else(|error| panic!("{error}"));
    });
}
