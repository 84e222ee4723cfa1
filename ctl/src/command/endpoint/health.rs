//! `endpoint health`: a linearizable read through each endpoint, and whether an alarm is raised.

use crate::command::alarm;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json::Json;
use crate::output::table::Table;
use crate::output::{Format, Report, Text};
use plinth_api::go::format_duration;
use plinth_api::methods::{ALARM, RANGE};
use plinth_api::proto::etcdserverpb::{AlarmType, RangeRequest};
use std::time::Instant;
use tokio::task::JoinSet;

/// How an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Health {
    endpoint: String,
    took: String,
    error: String,
}

/// Asks all endpoints at once.
pub async fn run(context: &Context, endpoints: Vec<String>) -> Result<(), Failure> {
    let mut asked = JoinSet::new();
    for (place, endpoint) in endpoints.into_iter().enumerate() {
        let context = context.clone();
        asked.spawn(async move { (place, ask(&context, endpoint).await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    let answers: Vec<Health> = answers.into_iter().map(|(_, health)| health).collect();
    if context.format == Format::Simple {
        for Health { endpoint, error, .. } in answers.iter().filter(|health| !health.error.is_empty()) {
            eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
        }
    }
    let all_well = answers.iter().all(|health| health.error.is_empty());
    context.print(&List(answers))?;
    if all_well { Ok(()) } else { Err(Failure::new(Exit::Error, "unhealthy cluster")) }
}

async fn ask(context: &Context, endpoint: String) -> Health {
    let cluster = context.only(&endpoint);
    let start = Instant::now();
    let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    let mut error = match context.limited(cluster.call(&RANGE, request)).await {
        Ok(_) => String::new(),
        // The proposal went through to be denied.
        Err(failure) if failure.text == "etcdserver: permission denied" => String::new(),
        Err(failure) => failure.text,
    };
    let took = format_duration(start.elapsed());
    if error.is_empty() {
        error = match context.limited(cluster.call(&ALARM, alarm::all())).await {
            Ok(answer) if answer.alarms.is_empty() => String::new(),
            Ok(answer) => {
                let name = |alarm: AlarmType| if alarm == AlarmType::None { "UNKNOWN" } else { alarm.as_str_name() };
                let names = answer.alarms.iter().map(|raised| format!("{} ", name(raised.alarm())));
                format!("Active Alarm(s): {}", names.collect::<String>())
            }
            Err(_) => "Unable to fetch the alarm list".to_owned(),
        };
    }
    Health { endpoint, took, error }
}

struct List(Vec<Health>);

impl Report for List {
    fn simple(&self, out: &mut Text) {
        for Health { endpoint, took, .. } in self.0.iter().filter(|health| health.error.is_empty()) {
            out.line(format_args!("{endpoint} is healthy: successfully committed proposal: took = {took}"));
        }
    }

    fn fields(&self, out: &mut Text) -> bool {
        for Health { endpoint, took, error } in &self.0 {
            out.quoted("Endpoint", endpoint.as_bytes());
            out.field("Health", error.is_empty());
            out.field("Took", took);
            out.field("Error", error);
            out.line("");
        }
        true
    }

    fn json(&self, _hex: bool) -> Json {
        Json::list_or_null(&self.0, |Health { endpoint, took, error }| {
            Json::object()
                .with("endpoint", endpoint.as_str())
                .with("health", error.is_empty())
                .with("took", took.as_str())
                .nonzero("error", error.as_str())
        })
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new(&["endpoint", "health", "took", "error"]);
        for Health { endpoint, took, error } in &self.0 {
            table.row(vec![endpoint.clone(), error.is_empty().to_string(), took.clone(), error.clone()]);
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rendered;

    #[test]
    fn formats() {
        let health = |endpoint: &str, error: &str| Health {
            endpoint: endpoint.to_owned(),
            took: "1.5ms".to_owned(),
            error: error.to_owned(),
        };
        let list = List(vec![health("a:1", ""), health("b:2", "gone")]);
        let line = "a:1 is healthy: successfully committed proposal: took = 1.5ms\n";
        assert_eq!(rendered(&list, Format::Simple), line);
        let json = "[{\"endpoint\":\"a:1\",\"health\":true,\"took\":\"1.5ms\"},\
                    {\"endpoint\":\"b:2\",\"health\":false,\"took\":\"1.5ms\",\"error\":\"gone\"}]\n";
        assert_eq!(rendered(&list, Format::Json), json);
        let fields = "\"Endpoint\" : \"a:1\"\n\"Health\" : true\n\"Took\" : 1.5ms\n\"Error\" : \n\n";
        assert!(rendered(&list, Format::Fields).starts_with(fields));
    }
}
