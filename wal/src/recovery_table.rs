//! What the end of the readable records means: one table, one row per case.
//!
//! Reading goes from record to record, each in its place and with the next number, until something is not. The facts
//! about that place pick exactly one row; combinations that cannot arise are declared in [`impossible`]. A test walks
//! all inputs.
//!
//! Why `proven` is not simply "a later record exists": with several flushes in flight the device may finish a later
//! one first, and within one flush its sectors arrive in any order. Such records say themselves (by `behind`) that the
//! damaged one was not yet durable. One that says it was makes the difference between an unfinished flush, dropped, and
//! a damaged log, refused.
//!
//! Deliberately absent: reading (`recovery`) and acting on the decision.

/// What is known about the place where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The last record read ends its segment.
    pub sealed: bool,
    /// The next segment's file exists.
    pub successor: bool,
    /// The number the next record must have is known. Only a first record that does not validate leaves it open.
    pub anchored: bool,
    /// The expected record's header is there and valid; its payload is not.
    pub partial: bool,
    /// Everything behind, to the end of the segment, is zero.
    pub blank: bool,
    /// The segment's file was another segment before.
    pub recycled: bool,
    /// Headers of later records of this log validate, in this segment or a later one.
    pub later: bool,
    /// One of them was written when the expected record was already durable.
    pub proven: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Read on in the next segment.
    Continue,
    /// The log ends here; nothing to do.
    End,
    /// The log ends here; erase what unfinished flushes left behind.
    EraseTail,
    /// Refuse: the next segment is missing.
    Missing,
    /// Refuse: the oldest segment does not begin with a record.
    Head,
    /// Refuse: a durable record is damaged.
    Corrupt,
}

/// One case.
#[derive(Debug)]
pub struct Row {
    /// Its name, as reports show it.
    pub name: &'static str,
    /// Required value of each fact in declaration order; `None` matches both.
    when: [Option<bool>; 8],
    pub decision: Decision,
}

const Y: Option<bool> = Some(true);
const N: Option<bool> = Some(false);
const X: Option<bool> = None;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    //                                             sealed succ. anch. part. blank recyc later proven
    // The seal is written only when the successor exists.
    Row { name: "sealed, log goes on",     when: [Y,     Y,    X,    X,    X,    X,    X,    X], decision: Decision::Continue },
    Row { name: "missing segment",         when: [Y,     N,    X,    X,    X,    X,    X,    X], decision: Decision::Missing },
    // A segment becomes the oldest only when it begins with a durable record.
    Row { name: "damaged head",            when: [N,     X,    N,    X,    X,    X,    X,    X], decision: Decision::Head },
    Row { name: "corruption",              when: [N,     X,    Y,    X,    X,    X,    X,    Y], decision: Decision::Corrupt },
    // Later flushes, or later sectors of the same one, arrived; this one did not. None was reported durable.
    Row { name: "torn tail, out of order", when: [N,     X,    Y,    X,    X,    X,    Y,    N], decision: Decision::EraseTail },
    Row { name: "torn record",             when: [N,     X,    Y,    Y,    N,    X,    N,    N], decision: Decision::EraseTail },
    Row { name: "clean end",               when: [N,     X,    Y,    N,    Y,    X,    N,    N], decision: Decision::End },
    // Records of the file's former life do not validate here; nor does the rest of a flush whose header was lost, which
    // is as harmless: nothing can make it valid.
    Row { name: "clean end, stale behind", when: [N,     X,    Y,    N,    N,    Y,    N,    N], decision: Decision::End },
    Row { name: "torn before its header",  when: [N,     X,    Y,    N,    N,    N,    N,    N], decision: Decision::EraseTail },
];

impl Facts {
    fn list(&self) -> [bool; 8] {
        let Facts { sealed, successor, anchored, partial, blank, recycled, later, proven } = *self;
        [sealed, successor, anchored, partial, blank, recycled, later, proven]
    }
}

/// Combinations that contradict themselves; an input like this is a bug of the reader.
pub fn impossible(facts: &Facts) -> bool {
    let Facts { sealed, anchored, partial, blank, later, proven, .. } = *facts;
    // What lies behind is not examined behind a seal, nor when the head is damaged.
    let unexamined = sealed || !anchored;
    (unexamined && (partial || blank || later || proven))
        || (sealed && !anchored)
        || (blank && partial)
        || (proven && !later)
}

/// The row for these facts.
///
/// # Panics
/// If the facts contradict each other.
pub fn decide(facts: &Facts) -> &'static Row {
    assert!(!impossible(facts), "contradicting facts about the end of the log: {facts:?}");
    matching(facts).next().expect("every possible input has a row")
}

fn matching(facts: &Facts) -> impl Iterator<Item = &'static Row> {
    let values = facts.list();
    ROWS.iter()
        .filter(move |row| row.when.iter().zip(values).all(|(want, value)| want.is_none_or(|want| want == value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all() -> impl Iterator<Item = Facts> {
        (0..256u32).map(|bits| {
            let bit = |n: u32| bits >> n & 1 == 1;
            Facts {
                sealed: bit(0),
                successor: bit(1),
                anchored: bit(2),
                partial: bit(3),
                blank: bit(4),
                recycled: bit(5),
                later: bit(6),
                proven: bit(7),
            }
        })
    }

    #[test]
    fn every_possible_input_has_exactly_one_row() {
        for facts in all().filter(|facts| !impossible(facts)) {
            let names: Vec<_> = matching(&facts).map(|row| row.name).collect();
            assert_eq!(names.len(), 1, "{facts:?}: {names:?}");
        }
    }

    #[test]
    fn every_row_is_reached() {
        let reached: BTreeSet<_> = all().filter(|f| !impossible(f)).map(|facts| decide(&facts).name).collect();
        assert_eq!(reached, ROWS.iter().map(|row| row.name).collect());
    }

    /// The law the table exists for, said a second way.
    #[test]
    fn refuses_exactly_when_something_durable_is_lost() {
        for facts in all().filter(|facts| !impossible(facts)) {
            let refuses = matches!(decide(&facts).decision, Decision::Missing | Decision::Head | Decision::Corrupt);
            let lost = if facts.sealed { !facts.successor } else { !facts.anchored || facts.proven };
            assert_eq!(refuses, lost, "{facts:?}");
        }
    }

    /// Whatever could validate later must be erased before anything is appended.
    #[test]
    fn never_keeps_remains_that_validate() {
        for facts in all().filter(|facts| !impossible(facts) && (facts.later || facts.partial)) {
            assert_ne!(decide(&facts).decision, Decision::End, "{facts:?}");
        }
    }

    #[test]
    #[should_panic(expected = "contradicting facts")]
    fn contradictions_are_a_bug() {
        decide(&Facts {
            sealed: false,
            successor: false,
            anchored: true,
            partial: false,
            blank: false,
            recycled: false,
            later: false,
            proven: true,
        });
    }
}
