//! `/health`: one question with one answer, the oldest of the probes.
//!
//! Three things are looked at in this order, and the first that is wrong is the answer: alarms, leader, a read. The
//! caller looks up alarms and leader, asks [`HealthRequest::before_read`], and reads only if that has no answer yet.

use plinth_net::http1::Response;

use super::query;

/// An alarm as far as health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveAlarm {
    /// The database has reached its quota.
    NoSpace,
    /// Data are damaged.
    Corrupt,
    /// One this version does not know.
    Unknown,
}

impl ActiveAlarm {
    /// The name in `?exclude=` and in the reason.
    pub fn name(self) -> &'static str {
        match self {
            ActiveAlarm::NoSpace => "NOSPACE",
            ActiveAlarm::Corrupt => "CORRUPT",
            ActiveAlarm::Unknown => "UNKNOWN",
        }
    }
}

/// A request to `/health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRequest {
    /// Alarms to overlook.
    excluded: Vec<String>,
    /// Whether a local read is enough; then a leader is not needed either.
    pub serializable: bool,
}

impl HealthRequest {
    pub(super) fn new(query: &str) -> Self {
        let pairs = query::pairs(query);
        let serializable =
            pairs.iter().find(|(name, _)| name == "serializable").is_some_and(|(_, value)| value == "true");
        let excluded = pairs.into_iter().filter(|(name, value)| name == "exclude" && !value.is_empty());
        HealthRequest { excluded: excluded.map(|(_, value)| value).collect(), serializable }
    }

    /// The answer if alarms or a missing leader decide it; otherwise a read has to (linearizable unless
    /// [`HealthRequest::serializable`]), with the keys only of at most one key and the rights of root.
    pub fn before_read(&self, alarms: &[ActiveAlarm], has_leader: bool) -> Option<Response> {
        let excluded = |alarm: &&ActiveAlarm| self.excluded.iter().any(|name| name == alarm.name());
        if let Some(alarm) = alarms.iter().find(|alarm| !excluded(alarm)) {
            return Some(unhealthy(&format!("ALARM {}", alarm.name())));
        }
        (!has_leader && !self.serializable).then(|| unhealthy("RAFT NO LEADER"))
    }

    /// The answer once the read was tried; an error comes with its text.
    pub fn after_read(&self, read: Result<(), String>) -> Response {
        match read {
            Ok(()) => Response::with_body(200, "text/plain; charset=utf-8", r#"{"health":"true","reason":""}"#),
            Err(error) => unhealthy(&format!("RANGE ERROR:{error}")),
        }
    }
}

fn unhealthy(reason: &str) -> Response {
    Response::error(503, &format!(r#"{{"health":"false","reason":{}}}"#, super::info::json_string(reason)))
}
