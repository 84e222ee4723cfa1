//! The log: `tracing` events as lines in the shape of etcd's logger, written by a thread of their own.
//!
//! ```text
//! info!(...) on any thread ──▶ Subscriber ──▶ line ──▶ Writer: bounded buffer ──▶ thread "log" ──▶ outputs
//! ```
//!
//! Logging never waits for an output; at the bound lines are dropped and counted (warnings later than the rest). The
//! end of the process waits for the rest to be written, see [`LogGuard`]. Field names are written as given: etcd's
//! have dashes (`"data-dir" = %path`), lists go through [`list`], and `level = "fatal"` replaces the level.
//!
//! Not here: spans (nothing enters any), colours.

pub mod events;
mod line;
mod output;
mod supervisor;
#[cfg(test)]
mod tests;
mod writer;

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

pub use line::{list, push_json_string, timestamp};
pub use supervisor::{notify_ready, notify_stopping};

use crate::config::{ConfigError, Log, LogFormat, LogLevel, Notice, Severity};
use line::{Caller, Line};
use output::Outputs;
use writer::{Sink, Writer};

/// How long the end of the process waits for its log to be written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The log of this process, for those who end it without passing by the guard.
static LOG: OnceLock<Arc<Logger>> = OnceLock::new();

/// Every level, as they are numbered.
const LEVELS: [LogLevel; 5] = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Fatal];

/// Formats and queues lines.
#[derive(Debug)]
struct Logger {
    /// Place in [`LEVELS`]. It may change while the process runs.
    level: AtomicU8,
    format: LogFormat,
    writer: Writer,
}

/// Keeps the log running; dropping it writes the rest.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    logger: Arc<Logger>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.logger.writer.stop(FLUSH_PATIENCE);
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An output cannot be opened.
    #[error("{0}")]
    Output(String),
    /// The thread cannot be started.
    #[error("cannot start the log's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// There is one already.
    #[error("the log of this process is running already")]
    Running,
}

/// Starts the log of this process, and makes panics part of it.
pub fn init(config: &Log) -> Result<LogGuard, LogError> {
    let outputs = Outputs::open(&config.outputs, config.rotation).map_err(LogError::Output)?;
    let logger = Arc::new(Logger::start(config.level, config.format, Box::new(outputs))?);
    LOG.set(Arc::clone(&logger)).map_err(|_| LogError::Running)?;
    let subscriber = LogSubscriber { logger: Arc::clone(&logger) };
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Running)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(LogGuard { logger })
}

/// Waits until everything logged so far is written. For ends that do not unwind: `process::exit`, abort.
pub fn flush() {
    if let Some(logger) = LOG.get() {
        logger.writer.flush(FLUSH_PATIENCE);
    }
}

/// Logs from this level on.
pub fn set_level(level: LogLevel) {
    if let Some(logger) = LOG.get() {
        logger.level.store(level as u8, Ordering::Relaxed);
        // What each place that logs has remembered of the old level.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Lines dropped because the outputs did not keep up.
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |logger| logger.writer.dropped())
}

/// Logs what the configuration had to say.
pub fn notices(notices: &[Notice]) {
    let Some(logger) = LOG.get() else { return };
    for notice in notices {
        if logger.level() <= notice_level(notice) {
            logger.writer.push(&notice_line(notice, logger.format), notice.severity == Severity::Warn);
        }
    }
}

/// Says on stderr why the server does not start, and returns the exit code.
pub fn report_config_error(error: &ConfigError) -> u8 {
    match error {
        ConfigError::Usage { .. } => eprint!("{}", error.usage_text()),
        ConfigError::Shadowed { variable } => {
            let notice = Notice::warn(error.to_string()).with("level", "fatal");
            eprint!("{}", notice_line(&notice.with("environment-variable", variable.as_str()), LogFormat::Json));
        }
        ConfigError::Invalid { message, notices } => {
            let last = Notice::warn("failed to verify flags").with("error", message.as_str());
            for notice in notices.iter().chain([&last]) {
                eprint!("{}", notice_line(notice, LogFormat::Json));
            }
        }
    }
    error.exit_code()
}

fn notice_level(notice: &Notice) -> LogLevel {
    match notice.severity {
        Severity::Info => LogLevel::Info,
        Severity::Warn => LogLevel::Warn,
    }
}

fn notice_line(notice: &Notice, format: LogFormat) -> String {
    let mut line = Line::new(format);
    line.message(&notice.message);
    for (name, value) in &notice.fields {
        line.text(name, value);
    }
    let caller = Caller { file: "config/mod.rs", line: 1 };
    line.finish(level_name(notice_level(notice)), caller, SystemTime::now())
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Fatal => "fatal",
    }
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG | Level::TRACE => LogLevel::Debug,
    }
}

impl Logger {
    fn start(level: LogLevel, format: LogFormat, sink: Box<dyn Sink>) -> std::io::Result<Self> {
        let complaint = move |count: u64| {
            let notice = Notice::warn("dropped lines of the log; its outputs are too slow");
            notice_line(&notice.with("count", count.to_string()), format)
        };
        Ok(Logger { level: AtomicU8::new(level as u8), format, writer: Writer::start(sink, complaint)? })
    }

    fn level(&self) -> LogLevel {
        LEVELS[usize::from(self.level.load(Ordering::Relaxed))]
    }
}

/// Turns events into lines.
struct LogSubscriber {
    logger: Arc<Logger>,
}

/// Whether an event is of our own code. Libraries are heard from warnings on, unless everything is wanted: their
/// notion of information is not an operator's.
fn is_ours(target: &str) -> bool {
    target.starts_with("plinth")
}

impl Subscriber for LogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata.level());
        if *metadata.level() == Level::TRACE || !metadata.is_event() {
            return false;
        }
        let threshold = self.logger.level();
        // A fatal event is an error with a word of its own, hence errors always have to be looked at.
        let passes = level >= threshold.min(LogLevel::Error);
        passes && (is_ours(metadata.target()) || level >= LogLevel::Warn || threshold == LogLevel::Debug)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(match self.logger.level() {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Fatal => LevelFilter::ERROR,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let level = level_of(metadata.level());
        let mut visitor = Visitor { line: Line::new(self.logger.format), fatal: false };
        event.record(&mut visitor);
        if self.logger.level() == LogLevel::Fatal && !visitor.fatal {
            return;
        }
        let caller = Caller { file: metadata.file().unwrap_or("unknown"), line: metadata.line().unwrap_or(0) };
        let text = visitor.line.finish(level_name(level), caller, SystemTime::now());
        self.logger.writer.push(&text, level >= LogLevel::Warn);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1) // not reached: spans are not enabled
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Visitor {
    line: Line,
    fatal: bool,
}

impl Visit for Visitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.line.message(value),
            name => {
                self.fatal |= name == "level" && matches!(value, "fatal" | "panic");
                self.line.text(name, value);
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The whole chain: the last cause is often the one to act on.
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.record_str(field, &text);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.line.raw(field.name(), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.line.raw(field.name(), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.line.raw(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is not finite.
        if value.is_finite() {
            self.line.raw(field.name(), format_args!("{value}"));
        } else {
            self.line.text(field.name(), &value.to_string());
        }
    }
}

/// A panic ends the process; its message must be in the log and the log on disk before that.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("a panic without a text");
    if let Some(logger) = LOG.get() {
        let mut line = Line::new(logger.format);
        line.message(text);
        let thread = std::thread::current();
        line.text("thread", thread.name().unwrap_or("unnamed"));
        line.text("stacktrace", &std::backtrace::Backtrace::force_capture().to_string());
        let caller = panic.location().map_or(Caller { file: "unknown", line: 0 }, |location| Caller {
            file: location.file(),
            line: location.line(),
        });
        logger.writer.push(&line.finish("panic", caller, SystemTime::now()), true);
        if thread.name() != Some("log") {
            logger.writer.flush(FLUSH_PATIENCE);
        }
    }
}
