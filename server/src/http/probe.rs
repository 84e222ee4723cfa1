//! `/livez` and `/readyz`: named checks, all at once or one by one.

use plinth_net::http1::Response;

use super::query;
use crate::metrics::{Check, Probe};

/// The result of one check; an error comes with its text.
pub type CheckOutcome = Result<(), String>;

/// A request to `/livez`, `/readyz` or one of their checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// The endpoint.
    pub probe: Probe,
    /// What to run, each of them even if an earlier one fails.
    pub checks: Vec<Check>,
    /// Names the client wanted left out although there are no such checks: worth a warning in the log.
    pub unknown_excluded: Vec<String>,
    verbose: bool,
}

impl ProbeRequest {
    /// The checks of an endpoint.
    pub fn checks_of(probe: Probe) -> &'static [Check] {
        match probe {
            Probe::Livez => &[Check::SerializableRead],
            Probe::Readyz => {
                &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner]
            }
        }
    }

    pub(super) fn all(probe: Probe, query: &str) -> Self {
        let pairs = query::pairs(query);
        let excluded: Vec<&str> = pairs
            .iter()
            .filter(|(name, value)| name == "exclude" && !value.is_empty())
            .map(|(_, value)| value.as_str())
            .collect();
        let known = Self::checks_of(probe);
        let is_known = |name: &&str| known.iter().any(|check| check.as_str() == *name);
        ProbeRequest {
            probe,
            checks: known.iter().filter(|check| !excluded.contains(&check.as_str())).copied().collect(),
            unknown_excluded: excluded.iter().filter(|name| !is_known(name)).map(|name| name.to_string()).collect(),
            verbose: pairs.iter().any(|(name, _)| name == "verbose"),
        }
    }

    pub(super) fn one(probe: Probe, check: Check, query: &str) -> Self {
        let verbose = query::pairs(query).iter().any(|(name, _)| name == "verbose");
        ProbeRequest { probe, checks: vec![check], unknown_excluded: Vec::new(), verbose }
    }

    /// The answer, from the outcome of every check in [`ProbeRequest::checks`]. `notes` are lines that say more, and decide
    /// nothing.
    pub fn respond(&self, outcomes: &[(Check, CheckOutcome)], notes: &str) -> Response {
        assert!(outcomes.iter().map(|(check, _)| check).eq(&self.checks), "every check has its outcome");
        let mut lines: String = outcomes
            .iter()
            .map(|(check, outcome)| match outcome {
                Ok(()) => format!("[+]{} ok\n", check.as_str()),
                Err(error) => format!("[-]{} failed: {error}\n", check.as_str()),
            })
            .collect();
        lines.push_str(notes);
        if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
            return Response::error(503, &lines);
        }
        let detail = if self.verbose { lines } else { String::new() };
        Response::with_body(200, "text/plain; charset=utf-8", format!("{detail}ok\n"))
            .header("X-Content-Type-Options", "nosniff")
    }
}
