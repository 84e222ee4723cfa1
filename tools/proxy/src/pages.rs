//! What is to be had by HTTP: health of the servers and of the proxy, metrics of a server and of the proxy.

use crate::kv;
use crate::proxy::Proxy;
use crate::upstream::Head;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use plinth_api::proto::etcdserverpb::RangeRequest;
use plinth_companion::figures::Page;
use plinth_companion::listen::answer;
use plinth_ctl::tls::{Place, socket};
use prost::Message;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a read may take to count as health.
const READ_TIME: Duration = Duration::from_secs(1);

/// How long a watch may take.
const WATCH_TIME: Duration = Duration::from_secs(3);

/// How long a server's page of metrics may take, and how large it may be.
const METRICS_TIME: Duration = Duration::from_secs(10);
const METRICS_BYTES_MAX: usize = 16 << 20;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4";

/// The key that health is found out with.
const PROBE: &[u8] = b"a";

/// Answers a request.
pub async fn serve<B>(proxy: &Proxy, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match path {
        "/health" | "/proxy/health" if request.method() != Method::GET => {
            let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
            refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET"));
            refused
        }
        "/health" => shown(read(proxy).await),
        "/proxy/health" => shown(whole(proxy).await),
        "/proxy/metrics" => answer(StatusCode::OK, METRICS, figures(proxy)),
        "/metrics" => match timeout(METRICS_TIME, metrics(proxy)).await {
            Ok(Ok(page)) => answer(StatusCode::OK, METRICS, page),
            _ => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "Internal server error\n"),
        },
        _ => answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
    }
}

/// Health, or the reason why not.
fn shown(health: Result<(), String>) -> Response<Full<Bytes>> {
    match health {
        Ok(()) => answer(StatusCode::OK, TEXT, "{\"health\":\"true\",\"reason\":\"\"}"),
        Err(reason) => {
            let body = format!("{{\"health\":\"false\",\"reason\":{}}}\n", Value::from(reason));
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, body)
        }
    }
}

/// Whether the servers answer a read. One that is refused is an answer, too.
async fn read(proxy: &Proxy) -> Result<(), String> {
    let request = RangeRequest { key: Bytes::from_static(PROBE), ..RangeRequest::default() };
    let asked = timeout(READ_TIME, kv::range(proxy, &Head::default(), request.encode_to_vec().into())).await;
    match asked {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) if status.code() == Code::PermissionDenied => Ok(()),
        Ok(Err(status)) => Err(format!("GET ERROR:{}", status.message())),
        Err(_) => Err("GET ERROR:context deadline exceeded".to_owned()),
    }
}

/// Whether the proxy does all that it is for.
async fn whole(proxy: &Proxy) -> Result<(), String> {
    if proxy.members.advertised().is_empty() {
        return Err("no connection to proxy".to_owned());
    }
    read(proxy).await?;
    match timeout(WATCH_TIME, proxy.hub.probe(Bytes::from_static(PROBE))).await {
        Ok(()) => Ok(()),
        Err(_) => Err("WATCH TIMEOUT".to_owned()),
    }
}

/// The page of one of the servers: of the first that answers.
async fn metrics(proxy: &Proxy) -> Result<Bytes, Status> {
    let mut last = Status::unavailable("no endpoint given");
    for endpoint in proxy.upstream.endpoints() {
        match page(proxy, endpoint).await {
            Ok(page) => return Ok(page),
            Err(error) => last = Status::unavailable(error),
        }
    }
    Err(last)
}

async fn page(proxy: &Proxy, endpoint: &str) -> Result<Bytes, String> {
    let encryption = &proxy.upstream.options().encryption;
    let (is_encrypted, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (["https", "unixs"].contains(&scheme), rest),
        None => (encryption.is_wanted, endpoint),
    };
    let place = match endpoint.starts_with("unix") {
        true => Place::Unix(rest.to_owned()),
        false => Place::Tcp(rest.split('/').next().unwrap_or_default().to_owned()),
    };
    let settings = match is_encrypted {
        true => Some(encryption.settings_for("http/1.1").map_err(|failure| failure.text)?),
        false => None,
    };
    let text = |error: &dyn std::error::Error| error.to_string();
    let socket = socket(&place, settings, None).await.map_err(|error| text(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| text(&error))?;
    tokio::spawn(connection);
    let request = Request::get(Uri::from_static("/metrics"))
        .header(header::HOST, place.authority())
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
    if !answer.status().is_success() {
        return Err(format!("{endpoint} answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), METRICS_BYTES_MAX).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}

/// The proxy's own figures, with the types that etcd's has.
fn figures(proxy: &Proxy) -> String {
    let (keys, hits, misses) = proxy.cache().figures();
    let (watchers, groups, events) = proxy.hub.figures();
    let gauge =
        |page: &mut Page, name: &str, help: &str, number: u64| page.family(name, "gauge", help, &[("", number)]);
    let mut page = Page::new();
    gauge(&mut page, "etcd_grpc_proxy_cache_hits_total", "Total number of cache hits", hits);
    gauge(&mut page, "etcd_grpc_proxy_cache_keys_total", "Total number of keys/ranges cached", keys as u64);
    gauge(&mut page, "etcd_grpc_proxy_cache_misses_total", "Total number of cache misses", misses);
    let help = "Total number of events coalescing";
    page.family("etcd_grpc_proxy_events_coalescing_total", "counter", help, &[("", events)]);
    let help = "Total number of current watchers coalescing";
    gauge(&mut page, "etcd_grpc_proxy_watchers_coalescing_total", help, (watchers - groups) as u64);
    page.text()
}
