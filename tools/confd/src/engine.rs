//! Templates: Go's language by gotmpl, and what confd adds to it.

use crate::functions;
use crate::keys::Keys;
use crate::paths::clean;
use gotmpl::{FuncMap, Template, TemplateError, Value};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Templates that may be within each other.
const INCLUDES_MAX: usize = 10;

/// What a rendering works with.
#[derive(Debug)]
struct Work {
    folder: PathBuf,
    keys: Arc<Keys>,
    texts_are_numbers: bool,
    /// The files that are being rendered, each within the one before.
    open: Mutex<Vec<PathBuf>>,
}

/// Renders a template of `folder`, which is where it may include others from.
///
/// # Errors
/// In words for the user; no value of the store is in them but what the template itself makes an error of.
pub fn render(folder: &Path, source: &Path, keys: &Arc<Keys>, texts_are_numbers: bool) -> Result<String, String> {
    if !source.exists() {
        return Err(format!("Missing template: {}", source.display()));
    }
    let (folder, keys) = (folder.to_owned(), Arc::clone(keys));
    let work = Arc::new(Work { folder, keys, texts_are_numbers, open: Mutex::default() });
    file(&work, source, &Value::Nil)
        .map_err(|error| format!("Unable to process template {}, {error}", source.display()))
}

/// Executes a command's text, which may name files: `{{.src}}`.
///
/// # Errors
/// In words for the user.
pub fn command(text: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let data = functions::map(values.iter().map(|(name, value)| (*name, functions::string(value))));
    let template = Template::new("command").parse(text).map_err(|error| error.to_string())?;
    template.execute_to_string(&data).map_err(|error| error.to_string())
}

fn file(work: &Arc<Work>, source: &Path, data: &Value) -> Result<String, TemplateError> {
    let open = || work.open.lock().unwrap_or_else(PoisonError::into_inner);
    if open().iter().any(|other| other == source) {
        let text = format!("include cycle detected: {} is already being processed", source.display());
        return Err(functions::wrong(text));
    }
    if open().len() > INCLUDES_MAX {
        return Err(functions::wrong(format!("maximum include depth ({INCLUDES_MAX}) exceeded")));
    }
    let text =
        std::fs::read_to_string(source).map_err(|error| functions::wrong(format!("{}: {error}", source.display())))?;
    open().push(source.to_owned());
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let template = Template::new(&name).funcs(all(work)).parse(&text);
    let rendered = template.and_then(|template| template.execute_to_string(data));
    open().pop();
    rendered
}

/// Every function.
fn all(work: &Arc<Work>) -> FuncMap {
    let mut map = FuncMap::new();
    functions::keys::register(&mut map, &work.keys);
    functions::text::register(&mut map);
    functions::numbers::register(&mut map, work.texts_are_numbers);
    functions::lists::register(&mut map);
    functions::json::register(&mut map);
    functions::machine::register(&mut map);
    functions::clock::register(&mut map);
    let work = Arc::clone(work);
    functions::add(&mut map, "include", (1, 2), move |values| {
        let name = functions::text(&values[0])?;
        let path = clean(name);
        if path.starts_with("..") || path.starts_with('/') {
            return Err(functions::wrong(format!("include path {name:?} is outside template directory")));
        }
        let data = values.get(1).cloned().unwrap_or(Value::Nil);
        file(&work, &work.folder.join(path), &data).map(functions::string)
    });
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, pairs: &[(&str, &str)], texts_are_numbers: bool) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("t.tmpl");
        std::fs::write(&source, text).expect("written");
        std::fs::write(folder.path().join("part"), "<{{.}} {{getv \"/a\"}}>").expect("written");
        std::fs::write(folder.path().join("again"), "{{include \"again\"}}").expect("written");
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        render(folder.path(), &source, &Arc::new(Keys::new(pairs, "")), texts_are_numbers)
    }

    /// Templates, and what upstream's confd, the fork, and for the last the variant for metad make of them; but for the
    /// differences that the documentation names.
    #[test]
    fn functions_give_what_the_originals_give() {
        let pairs = [
            ("/a", "1"),
            ("/b/x", "20"),
            ("/b/y", "3"),
            ("/b/deep/z", "q"),
            ("/j", r#"{"n":1000000,"l":["x",{"k":"v"}],"t":true}"#),
        ];
        for (text, wanted) in [
            (r#"{{getv "/a"}} {{getv "/none" "d"}} {{exists "/a"}} {{exists "/b"}}"#, "1 d true false"),
            (r#"{{with get "/a"}}{{.Key}}={{.Value}}{{end}}"#, "/a=1"),
            (r#"{{range gets "/b/*"}}{{.Key}}={{.Value}};{{end}}{{range gets "/none/*"}}x{{end}}"#, "/b/x=20;/b/y=3;"),
            (r#"{{getvs "/b/*"}} {{ls "/b"}} {{lsdir "/b"}} {{ls "/a"}}"#, "[20 3] [deep x y] [deep] [a]"),
            (
                r#"{{base "/x/y"}} {{dir "/x/y"}} {{join (split "a:b" ":") "-"}} {{replace "aaa" "a" "b" 2}}"#,
                "y /x a-b bba",
            ),
            (r#"{{toUpper "aß"}} {{toLower "AB"}} {{contains "abc" "b"}} {{trimSuffix "a.b" ".b"}}"#, "Aß ab true a"),
            (
                r#"{{$j := json (getv "/j")}}{{$j.n}} {{printf "%.0f" $j.n}} {{$j.l}} {{$j.t}} {{$j.none}}"#,
                "1000000 1000000 [x map[k:v]] true <no value>",
            ),
            (r#"{{range jsonArray "[1,\"b\"]"}}{{.}},{{end}}"#, "1,b,"),
            (
                r#"{{(map "k" 1 "l" "m").l}} {{add 1 2}} {{sub 5 7}} {{div 7 2}} {{mod 7 3}} {{mul 2 3}}"#,
                "m 3 -2 3 1 6",
            ),
            (
                r#"{{range seq 1 3}}{{.}}{{end}} {{atoi "42"}} {{parseBool "T"}} {{base64Encode "hi"}} {{base64Decode "aGk="}}"#,
                "123 42 true aGk= hi",
            ),
            (r#"{{reverse (split "a,b,c" ",")}} {{sortByLength (split "ccc,a,bb" ",")}}"#, "[c b a] [a bb ccc]"),
            (
                r#"{{range sortKVByLength (gets "/b/*")}}{{.Key}} {{end}}{{range reverse (gets "/b/*")}}{{.Key}}{{end}}"#,
                "/b/x /b/y /b/y/b/x",
            ),
            (
                r#"{{fileExists "/"}} {{getenv "PLINTH_NONE" "d"}} {{lookupIP "127.0.0.1"}} {{lookupIPV6 "127.0.0.1"}}"#,
                "true d [127.0.0.1] []",
            ),
            (r#"{{"" | default "x"}} {{ternary 1 2 true}} {{coalesce "" 0 "c"}} {{empty (list)}}"#, "x 1 c true"),
            (r#"{{toJson (dict "b" 1.5 "a" (list 1 "<"))}} {{(fromJson "[2]")}}"#, r#"{"a":[1,"\u003c"],"b":1.5} [2]"#),
            (
                "{{toPrettyJson (dict \"a\" 1)}}{{nindent 2 \"x\\ny\"}}{{indent 1 \"z\"}}",
                "{\n  \"a\": 1\n}\n  x\n  y z",
            ),
            (
                r#"{{quote "a\"b"}} {{squote "it's"}} {{regexMatch "^a+$" "aa"}} {{regexFind "b." "abc"}} {{regexReplaceAll "(b)" "abc" "<$1>"}}"#,
                r#""a\"b" 'it''s' true bc a<b>c"#,
            ),
            (
                r#"{{trimPrefix "ab" "a"}} {{repeat 3 "x"}} {{nospace " a b "}} {{snakecase "HTTPServerName"}} {{camelcase "a_b-c d"}} {{kebabcase "aB"}}"#,
                "b xxx ab http_server_name aBCD a-b",
            ),
            (
                r#"{{hasKey (dict "a" 1) "a"}} {{keys (dict "b" 1 "a" 2)}} {{values (dict "b" 1 "a" 2)}} {{append (list 1) 2}} {{pluck "a" (dict "a" 1) (dict "b" 2)}}"#,
                "true [a b] [2 1] [1 2] [1]",
            ),
            (r#"{{sha256sum "a"}}"#, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
            (
                r#"{{filter "^2" (getvs "/b/*")}} {{range filter "^3" (gets "/b/*")}}{{.Key}}{{end}} {{max 1 2}} {{toYaml (dict "a" 1)}}"#,
                "[20] /b/y 2 a: 1\n",
            ),
            (r#"{{include "part" "d"}}{{datetime.Format "x"}}{{len datetime | lt 20}}"#, "<d 1>xtrue"),
            ("{{range $i, $e := ls \"/b\"}}{{if $i}},{{end}}{{$e}}{{else}}none{{end}}{{- \"\" }}  ", "deep,x,y  "),
        ] {
            assert_eq!(rendered(text, &pairs, false).as_deref(), Ok(wanted), "{text}");
        }
        for (text, wanted) in [
            (r#"{{eq "3" 3}} {{eq "3" 3.0}} {{lt "9" 10}} {{ne "a" "b"}} {{ge "b" "a"}}"#, "true true true true true"),
            (r#"{{add "3" 2}} {{div "3.0" 2}} {{sub "5" "2"}} {{min "3" 2.5}}"#, "5 1.5 3 2.5"),
        ] {
            assert_eq!(rendered(text, &pairs, true).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_an_error_in_words() {
        for (text, wanted) in [
            (r#"{{getv "/none"}}"#, "key does not exist: /none"),
            (r#"{{get "/none"}}"#, "key does not exist: /none"),
            ("{{nonsense}}", "nonsense"),
            ("{{if}}", "template"),
            ("{{div 1 0}}", "division by zero"),
            (r#"{{getv 1}}"#, "expected string"),
            (r#"{{gets "["}}"#, "syntax error in pattern"),
            (r#"{{include "../x"}}"#, "outside template directory"),
            (r#"{{include "again"}}"#, "include cycle detected"),
            (r#"{{json "[1]"}}"#, "cannot unmarshal"),
            ("{{seq 1 99999999}}", "a sequence has"),
            (r#"{{atoi "x"}}"#, "invalid syntax"),
            ("{{repeat 99999999 \"abc\"}}", "too long"),
        ] {
            let error = rendered(text, &[("/a", "1")], false).expect_err(text);
            assert!(error.contains(wanted) && error.starts_with("Unable to process template "), "{text}: {error}");
        }
        let missing = render(Path::new("/"), Path::new("/none"), &Arc::default(), false);
        assert_eq!(missing, Err("Missing template: /none".to_owned()));
    }

    #[test]
    fn commands_name_their_files() {
        assert_eq!(command("check {{.src}} {{.dest}}", &[("src", "/a"), ("dest", "/b")]), Ok("check /a /b".to_owned()));
        assert!(command("{{", &[]).is_err());
    }
}
