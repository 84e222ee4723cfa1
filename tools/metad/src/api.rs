//! The two APIs: what clients read of themselves and the data, and what managers write.

use crate::config::Config;
use crate::limit::Limit;
use crate::mapping;
use crate::render::{Format, done, failure, lines, success};
use crate::rules::{self, Rule};
use crate::state::{Area, State};
use crate::store::{Store, below};
use crate::tree::normal;
use crate::who::{Demand, Identity};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use plinth_companion::figures::{Cell, Page};
use plinth_companion::listen::{Answer, Peer, answer, body};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Changes that follow the first one so soon are answered together with it.
const JOIN_TIME: Duration = Duration::from_millis(100);

/// Counts of what was asked.
#[derive(Debug, Default)]
pub struct Figures {
    requests: Cell,
    answered: [Cell; 3],
    refused: Cell,
    limited: Cell,
    waiting: Cell,
    microseconds: Cell,
}

/// What both APIs work with.
#[derive(Debug)]
pub struct Api {
    store: Arc<Store>,
    identity: Identity,
    demand: Option<Demand>,
    limit: Limit,
    only_self: bool,
    figures: Figures,
}

/// What a request asks for beside its path.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Query {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        let query = request.uri().query().unwrap_or_default();
        Query(query.split('&').filter(|text| !text.is_empty()).map(pair).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.get(name).split(',').map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
    }
}

/// A refusal.
type Refusal = (StatusCode, String);

fn internal(text: String) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn not_found() -> Refusal {
    (StatusCode::NOT_FOUND, "Not found".to_owned())
}

fn path_of(request: &Request<Incoming>) -> String {
    normal(&percent_decode_str(request.uri().path()).decode_utf8_lossy())
}

impl Api {
    /// Serves from `store`, as the settings say.
    pub fn new(store: Arc<Store>, config: Config) -> Api {
        let Config { identity, demand, limit, only_self, .. } = config;
        Api { store, identity, demand, limit, only_self, figures: Figures::default() }
    }

    /// A request of the data API.
    pub async fn data(self: Arc<Api>, request: Request<Incoming>, peer: Peer) -> Answer {
        let start = Instant::now();
        let (format, client) = (Format::wanted(request.headers()), self.identity.of(&peer, request.headers()));
        let (method, line) = (request.method().clone(), request.uri().path().to_owned());
        let name = client.clone().unwrap_or_else(|_| peer.address.to_string());
        let result = match client {
            Err(text) => Err((StatusCode::FORBIDDEN, text)),
            Ok(_) if !self.limit.allows(&name, start) => {
                self.figures.limited.add(1);
                Err((StatusCode::TOO_MANY_REQUESTS, "Too many requests".to_owned()))
            }
            Ok(client) => match self.demanded(&request) {
                Ok(()) => self.read(&client, &request, format).await,
                Err(refusal) => Err(refusal),
            },
        };
        self.finish(start, &name, &method, &line, format, result)
    }

    /// A request of the management API.
    pub async fn manage(self: Arc<Api>, request: Request<Incoming>, peer: Peer) -> Answer {
        let start = Instant::now();
        let format = Format::wanted(request.headers());
        match request.uri().path() {
            "/health" => return answer(StatusCode::OK, "application/json", r#"{"status":"up"}"#),
            "/metrics" => return answer(StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
            _ => {}
        }
        let (method, line) = (request.method().clone(), request.uri().path().to_owned());
        let result = match self.demanded(&request) {
            Ok(()) => self.managed(request, format).await,
            Err(refusal) => Err(refusal),
        };
        let result = result.map(|answer| (self.store.state().version, answer));
        self.finish(start, &peer.address.to_string(), &method, &line, format, result)
    }

    /// Counts and logs a request, and adds what goes beside every answer.
    fn finish(
        &self,
        start: Instant,
        client: &str,
        method: &Method,
        line: &str,
        format: Format,
        result: Result<(i64, Answer), Refusal>,
    ) -> Answer {
        self.figures.requests.add(1);
        let number = self.figures.requests.get();
        let (version, mut answer) = result.unwrap_or_else(|(status, message)| {
            let version = if status == StatusCode::NOT_FOUND { self.store.state().version } else { 0 };
            plinth_companion::debug!("REQ-{number}: {message}");
            (version, failure(format, status, &message))
        });
        let (status, took) = (answer.status(), start.elapsed());
        let class = usize::from(status.as_u16() / 100).clamp(2, 5);
        self.figures.answered[[0, 0, 0, 0, 1, 2][class]].add(1);
        self.figures.microseconds.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        answer.headers_mut().insert("x-metad-requestid", value(&format!("REQ-{number}")));
        answer.headers_mut().insert("x-metad-version", value(&version.to_string()));
        let (client, line) = (client.escape_debug(), line.escape_debug());
        let took = took.as_millis();
        match status.is_success() {
            true => {
                plinth_companion::info!("REQ-{number} {version} {method} {client} {line} {} {took} ms", status.as_u16())
            }
            false => {
                plinth_companion::warn!("REQ-{number} {version} {method} {client} {line} {} {took} ms", status.as_u16())
            }
        }
        answer
    }

    fn demanded(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        match &self.demand {
            Some(demand) if !demand.is_met(request.headers()) => {
                self.figures.refused.add(1);
                Err((StatusCode::FORBIDDEN, demand.refusal()))
            }
            _ => Ok(()),
        }
    }

    async fn read(&self, client: &str, request: &Request<Incoming>, format: Format) -> Result<(i64, Answer), Refusal> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "Method not allowed".to_owned()));
        }
        let path = path_of(request);
        let own = path.strip_prefix("/self").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if path == "/favicon.ico" || self.only_self && own.is_none() {
            return Err(not_found());
        }
        let query = Query::of(request);
        if query.get("wait").eq_ignore_ascii_case("true") {
            self.wait(client, &path, own, query.get("prev_version").parse().unwrap_or(0)).await;
        }
        let (version, found) = {
            let state = self.store.state();
            let found = match own {
                Some(rest) => state.self_value(client, rest),
                None => state.root_value(client, &path),
            };
            (state.version, found)
        };
        let is_pretty = !matches!(query.get("pretty"), "" | "false");
        found.map(|value| (version, success(format, is_pretty, &value, lines))).ok_or_else(not_found)
    }

    /// Returns at once if the client has another version than this one, else when something it may see has changed.
    async fn wait(&self, client: &str, path: &str, own: Option<&str>, prev_version: i64) {
        let waiter = {
            // Registered under the lock that every change takes, so that none falls between.
            let state = self.store.state();
            if prev_version > 0 && prev_version != state.version {
                return;
            }
            let topics = match own {
                Some(rest) => state.self_topics(client, rest),
                None => {
                    let mut topics = state.root_topics(client, path);
                    if path.is_empty() {
                        topics.extend(state.self_topics(client, ""));
                    }
                    topics
                }
            };
            self.store.waiters.register(topics)
        };
        let _counted = Counted::new(&self.figures.waiting);
        waiter.changed().await;
        tokio::time::sleep(JOIN_TIME).await;
    }

    async fn managed(&self, request: Request<Incoming>, format: Format) -> Result<Answer, Refusal> {
        let path = path_of(&request);
        let query = Query::of(&request);
        let at = |base: &str| path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(path) = at("/v1/data") {
            return self.area(Area::Data, path.to_owned(), request, &query, format).await;
        }
        if let Some(path) = at("/v1/mapping") {
            return self.area(Area::Mapping, path.to_owned(), request, &query, format).await;
        }
        if path == "/v1/rule" {
            return self.rule(request, &query, format).await;
        }
        Err((StatusCode::NOT_FOUND, "404 page not found".to_owned()))
    }

    async fn area(
        &self,
        area: Area,
        path: String,
        request: Request<Incoming>,
        query: &Query,
        format: Format,
    ) -> Result<Answer, Refusal> {
        let method = request.method().clone();
        match method {
            Method::GET | Method::HEAD => {
                let of = |state: &State| match area {
                    Area::Mapping => state.mapping.get(&path),
                    _ => state.data.get(&path),
                };
                let value = of(&self.store.state()).ok_or_else(not_found)?;
                Ok(success(format, !matches!(query.get("pretty"), "" | "false"), &value, lines))
            }
            Method::POST | Method::PUT => {
                let value: serde_json::Value = json(request).await?;
                if area == Area::Mapping {
                    mapping::check(&path, &value, &self.identity).map_err(internal)?;
                }
                self.store.put(area, &path, &value, method == Method::POST).await.map_err(internal)?;
                Ok(done(format))
            }
            Method::DELETE => {
                let subs = query.list("subs");
                if subs.iter().any(|name| name.contains('/')) {
                    return Err(internal("Sub node must not a path.".to_owned()));
                }
                let paths = if subs.is_empty() { vec![path] } else { below(&path, &subs) };
                self.store.delete(area, &paths).await.map_err(internal)?;
                Ok(done(format))
            }
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "Method not allowed".to_owned())),
        }
    }

    async fn rule(&self, request: Request<Incoming>, query: &Query, format: Format) -> Result<Answer, Refusal> {
        let hosts = query.list("hosts");
        match *request.method() {
            Method::GET | Method::HEAD => {
                let state = self.store.state();
                let pretty = !matches!(query.get("pretty"), "" | "false");
                Ok(success(format, pretty, &state.rules(&hosts), |rules| {
                    let line = |(client, rules): (&&str, &&[Rule])| {
                        Some(format!("/{client}\t{}\n", serde_json::to_string(rules).ok()?))
                    };
                    rules.iter().filter_map(line).collect()
                }))
            }
            Method::POST | Method::PUT => {
                let new: BTreeMap<String, Vec<Rule>> = json(request).await?;
                let mut texts = serde_json::Map::new();
                for (client, rules) in &new {
                    rules::check(rules).map_err(internal)?;
                    if client.is_empty() || client.contains('/') {
                        return Err(internal("rule's host should be a name without slashes.".to_owned()));
                    }
                    let text = serde_json::to_string(rules).map_err(|error| internal(error.to_string()))?;
                    texts.insert(client.clone(), text.into());
                }
                self.store.put(Area::Rules, "", &texts.into(), false).await.map_err(internal)?;
                Ok(done(format))
            }
            Method::DELETE => {
                self.store.delete(Area::Rules, &below("", &hosts)).await.map_err(internal)?;
                Ok(done(format))
            }
            _ => Err((StatusCode::METHOD_NOT_ALLOWED, "Method not allowed".to_owned())),
        }
    }

    fn metrics(&self) -> String {
        let (figures, mut page) = (&self.figures, Page::new());
        let [good, refused, failed] = &figures.answered;
        let answered = [("code=\"2xx\"", good.get()), ("code=\"4xx\"", refused.get()), ("code=\"5xx\"", failed.get())];
        page.family("metad_requests_total", "counter", "Requests answered, by class of status.", &answered);
        let seconds = Duration::from_micros(figures.microseconds.get()).as_secs_f64();
        page.family(
            "metad_request_seconds_total",
            "counter",
            "Time that requests took, waits included.",
            &[("", seconds)],
        );
        page.family(
            "metad_limited_total",
            "counter",
            "Requests beyond their client's rate.",
            &[("", figures.limited.get())],
        );
        page.family(
            "metad_refused_total",
            "counter",
            "Requests without the header that is demanded.",
            &[("", figures.refused.get())],
        );
        page.family("metad_waiting", "gauge", "Long polls that wait.", &[("", figures.waiting.get())]);
        page.family(
            "metad_followed",
            "gauge",
            "Ranges of the store that are watched now, of three.",
            &[("", self.store.followed.get())],
        );
        page.family(
            "metad_losses_total",
            "counter",
            "How often the store had to be read again.",
            &[("", self.store.losses.get())],
        );
        let (version, sizes) = {
            let state = self.store.state();
            (state.version, [Area::Data, Area::Mapping, Area::Rules].map(|area| state.size(area)))
        };
        page.family("metad_version", "gauge", "Version of the state.", &[("", version)]);
        let sizes = [("area=\"data\"", sizes[0]), ("area=\"mapping\"", sizes[1]), ("area=\"rules\"", sizes[2])];
        page.family("metad_values", "gauge", "Values in memory; of rules, clients.", &sizes);
        page.text()
    }
}

/// Counted as long as it lives.
struct Counted<'a>(&'a Cell);

impl<'a> Counted<'a> {
    fn new(cell: &'a Cell) -> Counted<'a> {
        cell.add(1);
        Counted(cell)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.take();
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

async fn json<T: serde::de::DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, format!("invalid json format, error:{error}"));
    let bytes = body(request).await.map_err(bad)?;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}
