//! Templates at random: whole expressions of each kind, over the functions that are documented.

use plinth_random::Random;

/// The environment that they are rendered from: keys are `/a`, `/b/x` and so on.
pub const VALUES: [(&str, &str); 8] = [
    ("A", "alpha"),
    ("B_X", "Bravo-x"),
    ("B_Y", "7"),
    ("B_DEEP_Z", "zulu"),
    ("N", "42"),
    ("UP_1", "10.0.0.1:80"),
    ("UP_2", "10.0.0.2:8080"),
    ("EMPTY", ""),
];

/// A template.
pub fn draw(random: &mut Random, is_fork: bool) -> String {
    let mut draw = Draw { random, is_fork };
    let statements = 1 + draw.random.below(4);
    (0..statements).map(|_| draw.statement(2)).collect()
}

struct Draw<'a> {
    random: &'a mut Random,
    is_fork: bool,
}

impl Draw<'_> {
    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        self.random.pick(from)
    }

    fn statement(&mut self, depth: u64) -> String {
        if depth == 0 {
            return format!("{{{{{}}}}}\n", self.any(1));
        }
        let below = depth - 1;
        match self.random.below(9) {
            0 => format!(
                "{{{{if {}}}}}{}{{{{else}}}}{}{{{{end}}}}",
                self.bool(2),
                self.statement(below),
                self.statement(below)
            ),
            1 => format!("{{{{range {}}}}}<{{{{.}}}}>{{{{else}}}}none{{{{end}}}}", self.list(2)),
            2 => format!("{{{{range $i, $e := {}}}}}{{{{$i}}}}={{{{$e}}}};{{{{end}}}}", self.list(2)),
            3 => format!(
                "{{{{range gets \"{}\"}}}}{{{{.Key}}}}={{{{.Value}}}} {{{{end}}}}",
                self.pick(&["/b/*", "/up/*", "/*", "/b/[x-z]", "/none/*"])
            ),
            4 => format!("{{{{with {}}}}}[{{{{.}}}}]{{{{end}}}}", self.text(2)),
            5 => format!("{{{{$v := {}}}}}{{{{$v}}}}{{{{- \" \" -}}}}\n {{{{len $v}}}}", self.text(2)),
            6 => format!(
                " {{{{- {} | {} -}}}} ",
                self.text(2),
                self.pick(&["toUpper", "printf \"%s!\"", "len", "base", "printf \"%q\"", "html"])
            ),
            _ => format!("{{{{{}}}}}\n", self.any(3)),
        }
    }

    fn any(&mut self, depth: u64) -> String {
        match self.random.below(4) {
            0 => self.number(depth),
            1 => self.bool(depth),
            2 => self.list(depth),
            _ => self.text(depth),
        }
    }

    fn word(&mut self) -> String {
        format!(
            "{:?}",
            self.pick(&[
                "",
                "a",
                "alpha",
                "Al-Pha",
                "x.y.z",
                "/one/two",
                "10.0.0.1:80",
                "a b",
                "x,y,,z",
                "ÄÖ",
                "camelCaseText"
            ])
        )
    }

    fn text(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.word();
        }
        let below = depth - 1;
        let own = if self.is_fork { 22 } else { 12 };
        let text = |draw: &mut Self| draw.text(below);
        match self.random.below(own) {
            0 | 1 => self.word(),
            2 => format!("(getv \"{}\")", self.pick(&["/a", "/b/x", "/b/y", "/n", "/empty", "/up/1"])),
            3 => format!("(getv \"{}\" {})", self.pick(&["/a", "/none"]), text(self)),
            4 => format!("({} {})", self.pick(&["toUpper", "toLower", "base", "dir", "base64Encode"]), text(self)),
            5 => format!("(trimSuffix {} {})", text(self), self.word()),
            6 => format!("(join {} {})", self.list(below), self.word()),
            7 => format!("(replace {} {} {} {})", text(self), self.word(), self.word(), self.pick(&["-1", "1", "2"])),
            8 => format!("(printf \"%s|%5s|%-5s|%q\" {} {} {} {})", text(self), text(self), text(self), text(self)),
            9 => format!(
                "(printf \"%d %5d %05d %x %v\" {} {} {} {} {})",
                self.number(below),
                self.number(below),
                self.number(below),
                self.number(below),
                self.bool(below)
            ),
            10 => format!("(get \"{}\").Value", self.pick(&["/a", "/b/x"])),
            11 => format!("(base64Decode (base64Encode {}))", text(self)),
            12 => format!("(trimPrefix {} {})", text(self), self.word()),
            13 => format!(
                "({} {})",
                self.pick(&["quote", "squote", "nospace", "snakecase", "kebabcase", "camelcase", "sha256sum"]),
                text(self)
            ),
            14 => format!("(repeat {} {})", self.random.below(4), text(self)),
            15 => format!("(default {} {})", text(self), text(self)),
            16 => format!("(toJson {})", self.any(below)),
            17 => format!("({} {} {})", self.pick(&["indent", "nindent"]), self.random.below(4), text(self)),
            18 => format!("(regexReplaceAll \"[aeiou]+\" {} \"<$0>\")", text(self)),
            19 => format!("(regexFind \"[a-z]+\" {})", text(self)),
            20 => format!("(ternary {} {} {})", text(self), text(self), self.bool(below)),
            _ => format!("(toPrettyJson (dict \"k\" {} \"l\" {}))", text(self), self.list(below)),
        }
    }

    fn number(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.pick(&["0", "1", "7", "-3", "42"]).to_owned();
        }
        let below = depth - 1;
        match self.random.below(6) {
            0 => self.number(0),
            1 => format!("({} {} {})", self.pick(&["add", "sub", "mul"]), self.number(below), self.number(below)),
            2 => format!("({} {} {})", self.pick(&["div", "mod"]), self.number(below), self.pick(&["2", "-3", "7"])),
            3 => format!("(len {})", self.text(below)),
            4 => format!("(len {})", self.list(below)),
            _ => format!("(atoi (getv \"{}\"))", self.pick(&["/n", "/b/y"])),
        }
    }

    fn bool(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.pick(&["true", "false"]).to_owned();
        }
        let below = depth - 1;
        match self.random.below(9) {
            0 => format!("(exists \"{}\")", self.pick(&["/a", "/b", "/none"])),
            1 => format!("(contains {} {})", self.text(below), self.word()),
            2 => format!("({} {} {})", self.pick(&["eq", "ne", "lt", "ge"]), self.text(below), self.text(below)),
            3 => format!(
                "({} {} {})",
                self.pick(&["eq", "ne", "lt", "gt", "le"]),
                self.number(below),
                self.number(below)
            ),
            4 => format!("({} {} {})", self.pick(&["and", "or"]), self.bool(below), self.bool(below)),
            5 => format!("(not {})", self.any(below)),
            6 => format!("(parseBool \"{}\")", self.pick(&["true", "0", "T"])),
            7 if self.is_fork => format!("(regexMatch \"^[a-c]\" {})", self.text(below)),
            8 if self.is_fork => format!("(empty {})", self.any(below)),
            _ => self.bool(0),
        }
    }

    fn list(&mut self, depth: u64) -> String {
        let below = depth.saturating_sub(1);
        match self.random.below(if depth == 0 { 4 } else { 6 }) {
            0 => format!("(split {} {})", self.word(), self.pick(&["\".\"", "\",\"", "\"\"", "\"a\""])),
            1 => format!("(getvs \"{}\")", self.pick(&["/b/*", "/*", "/up/?", "/none"])),
            2 => format!("(ls \"{}\")", self.pick(&["/b", "/a", "/", "/none", "/up"])),
            3 => format!("(lsdir \"{}\")", self.pick(&["/b", "/", "/up"])),
            4 => format!("(reverse {})", self.list(below)),
            _ => format!("(split {} {})", self.text(below), self.pick(&["\"-\"", "\":\"", "\" \""])),
        }
    }
}
