//! Events as they come out of the whole log, but for the process's outputs.

use std::sync::Mutex;

use tracing::{debug, error, info, trace, warn};

use super::*;
use crate::config;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Sink for Memory {
    fn write_lines(&mut self, lines: &[u8]) {
        self.0.lock().expect("no panic").extend_from_slice(lines);
    }
}

/// The lines that `log` writes at this level.
fn lines(level: LogLevel, log: impl FnOnce()) -> Vec<serde_json::Value> {
    let memory = Memory::default();
    let logger = Logger::start(level, LogFormat::Json, Box::new(memory.clone())).expect("a thread");
    let logger = Arc::new(logger);
    tracing::subscriber::with_default(LogSubscriber { logger: Arc::clone(&logger) }, log);
    logger.writer.stop(FLUSH_PATIENCE);
    assert_eq!(logger.writer.dropped(), 0);
    let bytes = memory.0.lock().expect("no panic").clone();
    let text = String::from_utf8(bytes).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn messages(level: LogLevel, log: impl FnOnce()) -> Vec<String> {
    lines(level, log).iter().map(|line| line["msg"].as_str().expect("a text").to_owned()).collect()
}

fn all_levels() {
    trace!("trace");
    debug!("debug");
    info!("info");
    warn!("warn");
    error!("error");
    error!(level = "fatal", "fatal");
    info!(target: "glommio", "library info");
    warn!(target: "glommio", "library warn");
}

#[test]
fn levels() {
    assert_eq!(
        messages(LogLevel::Debug, all_levels),
        ["debug", "info", "warn", "error", "fatal", "library info", "library warn"]
    );
    assert_eq!(messages(LogLevel::Info, all_levels), ["info", "warn", "error", "fatal", "library warn"]);
    assert_eq!(messages(LogLevel::Warn, all_levels), ["warn", "error", "fatal", "library warn"]);
    assert_eq!(messages(LogLevel::Error, all_levels), ["error", "fatal"]);
    assert_eq!(messages(LogLevel::Fatal, all_levels), ["fatal"]);
}

#[test]
fn fields_keep_their_types_and_names() {
    let lines = lines(LogLevel::Info, || {
        let io = std::io::Error::other("no space");
        let error = config_error(io);
        info!(
            "data-dir" = %"x\n",
            count = 7_u64,
            delta = -3,
            ratio = 0.5,
            odd = f64::NAN,
            ok = true,
            "urls[]" = %list(&["http://a:1"]),
            error = &error as &dyn std::error::Error,
            "said {}",
            "so"
        );
        warn!(level = "panic", "bad");
    });
    let line = &lines[0];
    assert_eq!((&line["level"], &line["msg"], &line["data-dir"]), (&"info".into(), &"said so".into(), &"x\n".into()));
    assert_eq!((&line["count"], &line["delta"], &line["ok"]), (&7.into(), &(-3).into(), &true.into()));
    assert_eq!((&line["ratio"], &line["odd"]), (&0.5.into(), &"NaN".into()));
    assert_eq!(line["urls"], serde_json::json!(["http://a:1"]));
    assert_eq!(line["error"], "cannot start the log's thread: no space: no space");
    assert!(line["caller"].as_str().is_some_and(|caller| caller.starts_with("logging/tests.rs:")), "{line}");
    assert_eq!(lines[1]["level"], "panic");
    assert_eq!(lines[1].get("level").into_iter().count(), 1);
}

fn config_error(error: std::io::Error) -> LogError {
    LogError::Thread(error)
}

#[test]
fn the_lines_supervisors_wait_for() {
    let Ok(config::Command::Serve(loaded)) = config::load(&["--name=a".to_owned()], &Default::default()) else {
        panic!("defaults are fine");
    };
    let config = loaded.config;
    let lines = lines(LogLevel::Info, || {
        events::starting(&config, false, 1, 2);
        events::now_serving(&config, 0xab);
        events::published(&config, 0xab, 0xcd, Duration::from_secs(7));
        events::ready_to_serve();
        events::serving_insecurely("grpc+http", "127.0.0.1:2379");
        events::received_signal("terminated");
        events::closing(&config);
        events::closed(&config);
    });
    let expected = [
        "starting an etcd server",
        "now serving peer/client/metrics",
        "published local member to cluster through raft",
        "ready to serve client requests",
        "serving client traffic insecurely; this is strongly discouraged!",
        "received signal; shutting down",
        "closing etcd server",
        "closed etcd server",
    ];
    let found: Vec<&str> = lines.iter().map(|line| line["msg"].as_str().expect("a text")).collect();
    assert_eq!(found, expected);
    assert_eq!(lines[0]["etcd-version"], "3.7.1");
    assert_eq!(lines[0]["listen-client-urls"], serde_json::json!(["http://localhost:2379"]));
    assert_eq!(lines[1]["local-member-id"], "ab");
    assert_eq!(lines[2]["local-member-attributes"], "{Name:a ClientURLs:[http://localhost:2379]}");
    assert_eq!(lines[4]["address"], "127.0.0.1:2379");
}

#[test]
fn notices_have_the_shape_of_all_lines() {
    let notice = Notice::warn("careful").with("name", "default");
    let line: serde_json::Value = serde_json::from_str(&notice_line(&notice, LogFormat::Json)).expect("JSON");
    assert_eq!((&line["level"], &line["msg"], &line["name"]), (&"warn".into(), &"careful".into(), &"default".into()));
    assert!(
        notice_line(&notice, LogFormat::Console).contains("\twarn\tconfig/mod.rs:1\tcareful\t{\"name\": \"default\"}")
    );
}
