//! `/config/local/log`: the level of the log, changed while the server runs, as etcd had it until 3.4.

use plinth_net::http1::{Http1Request, Method, Response};

use super::Route;
use super::info::json_string;
use crate::config::LogLevel;

/// `PUT` with `{"Level":"DEBUG"}`.
pub(super) fn route(request: &Http1Request) -> Route {
    if request.method != Method::Put {
        return Route::Answer(Response::error(405, "Method Not Allowed").header("Allow", "PUT"));
    }
    let body: Option<serde_json::Value> = serde_json::from_slice(&request.body).ok();
    let named = body.as_ref().and_then(serde_json::Value::as_object).and_then(|fields| {
        let level = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("level"));
        level.map_or(Some(""), |(_, level)| level.as_str())
    });
    let Some(name) = named else { return Route::Answer(fault("Invalid json body")) };
    match parse(name) {
        Some(level) => Route::LogLevel(level),
        None => Route::Answer(fault(&format!("Invalid log level {name}"))),
    }
}

/// The answer once it is done.
pub fn level_changed() -> Response {
    Response::new(204)
}

/// The names of etcd's levels, old and new.
fn parse(name: &str) -> Option<LogLevel> {
    Some(match name.to_ascii_uppercase().as_str() {
        "TRACE" | "DEBUG" => LogLevel::Debug,
        "INFO" | "NOTICE" => LogLevel::Info,
        "WARN" | "WARNING" => LogLevel::Warn,
        "ERROR" => LogLevel::Error,
        "CRITICAL" | "DPANIC" | "PANIC" | "FATAL" => LogLevel::Fatal,
        _ => return None,
    })
}

fn fault(message: &str) -> Response {
    Response::with_body(400, "application/json", format!("{{\"message\":{}}}", json_string(message)))
}
