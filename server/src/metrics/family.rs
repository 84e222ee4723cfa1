//! Families of series that differ in labels.
//!
//! Labels known beforehand become an index at once, so that recording stays an array access: [`Labeled`] for our own
//! sets of labels, [`PerMethod`] for gRPC methods. The one label that clients choose freely, their API version, is
//! bounded: [`ClientRequests`].

use std::cell::{Cell, RefCell};

use plinth_net::grpc::{Code, Method, MethodKind};

use super::cell::Counter;
use super::schema::{Metric, SeriesBuilder, Shape, label};

/// A set of label values known beforehand.
pub trait Label: Copy + 'static {
    /// How many there are.
    const COUNT: usize;
    /// Whether a series is shown only once it was used, as with labels in etcd, or from the start.
    const HIDDEN_UNTIL_USED: bool = true;
    /// The position, below [`Label::COUNT`].
    fn index(self) -> usize;
    /// The inverse of [`Label::index`].
    fn at(index: usize) -> Self;
    /// The rendered labels, sorted by name.
    fn render(self) -> String;
}

/// Defines an enumeration whose variants are values of one label.
macro_rules! label_values {
    ($(#[$doc:meta])* $vis:vis enum $type:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the texts say it")]
        $vis enum $type { $($variant,)* }

        impl $type {
            /// All values, in order.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $text,)* }
            }
        }
    };
}
pub(super) use label_values;

/// One metric for every value of a label.
#[derive(Debug)]
pub struct Labeled<L, M> {
    metrics: Box<[M]>,
    label: std::marker::PhantomData<L>,
}

impl<L: Label, M> Labeled<L, M> {
    /// All made by `make`.
    pub fn new(make: impl Fn() -> M) -> Self {
        Labeled { metrics: (0..L::COUNT).map(|_| make()).collect(), label: std::marker::PhantomData }
    }

    /// The metric of this label.
    #[inline]
    pub fn with(&self, label: L) -> &M {
        &self.metrics[label.index()]
    }
}

impl<L: Label, M: Metric> Metric for Labeled<L, M> {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        for (index, metric) in self.metrics.iter().enumerate() {
            let label = L::at(index);
            assert_eq!(label.index(), index, "index and at are inverse");
            series.nested(&label.render(), L::HIDDEN_UNTIL_USED, metric);
        }
    }

    fn collect(&self, out: &mut Vec<u64>) {
        self.metrics.iter().for_each(|metric| metric.collect(out));
    }
}

/// One metric for every gRPC method, by the position of the method in the service's list.
#[derive(Debug)]
pub struct PerMethod<M> {
    methods: &'static [Method],
    metrics: Box<[M]>,
}

impl<M> PerMethod<M> {
    /// All made by `make`.
    pub fn new(methods: &'static [Method], make: impl Fn() -> M) -> Self {
        PerMethod { methods, metrics: methods.iter().map(|_| make()).collect() }
    }

    /// The metric of the method at this position.
    #[inline]
    pub fn with(&self, method: usize) -> &M {
        &self.metrics[method]
    }
}

/// `grpc_method`, `grpc_service` and `grpc_type` of a method.
fn method_labels(method: &Method) -> String {
    let (service, name) = method
        .path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .unwrap_or_else(|| panic!("{} is no path of a method", method.path));
    let shape = match method.kind {
        MethodKind::Unary => "unary",
        MethodKind::ServerStream => "server_stream",
        MethodKind::BidiStream => "bidi_stream",
    };
    [label("grpc_method", name), label("grpc_service", service), label("grpc_type", shape)].join(",")
}

/// etcd creates the series of its own services and of health checks at start; those of the lock and election services
/// appear when they are used.
fn is_created_at_start(method: &Method) -> bool {
    method.path.starts_with("/etcdserverpb.") || method.path.starts_with("/grpc.health.v1.")
}

impl<M: Metric> Metric for PerMethod<M> {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        for (method, metric) in self.methods.iter().zip(&self.metrics) {
            series.nested(&method_labels(method), !is_created_at_start(method), metric);
        }
    }

    fn collect(&self, out: &mut Vec<u64>) {
        self.metrics.iter().for_each(|metric| metric.collect(out));
    }
}

/// Answers by gRPC method and code.
#[derive(Debug)]
pub struct PerMethodAndCode {
    methods: &'static [Method],
    counts: Box<[Cell<u64>]>,
}

impl PerMethodAndCode {
    /// All zero.
    pub fn new(methods: &'static [Method]) -> Self {
        PerMethodAndCode { methods, counts: vec![Cell::new(0); methods.len() * Code::ALL.len()].into() }
    }

    /// Takes over a count.
    pub fn set_total(&self, method: usize, code: Code, total: u64) {
        self.counts[method * Code::ALL.len() + code as usize].set(total);
    }
}

impl Metric for PerMethodAndCode {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        for method in self.methods {
            for code in Code::ALL {
                let labels = format!("{},{}", label("grpc_code", code.name()), method_labels(method));
                series.nested(&labels, !is_created_at_start(method), &Counter::default());
            }
        }
    }

    fn collect(&self, out: &mut Vec<u64>) {
        out.extend(self.counts.iter().map(Cell::get));
    }
}

/// Last result of a check; see `Shape::Verdict`.
#[derive(Debug, Default)]
pub struct Verdict(Cell<Option<bool>>);

impl Verdict {
    /// Records a result.
    pub fn set(&self, good: bool) {
        self.0.set(Some(good));
    }
}

impl Metric for Verdict {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        series.add(String::new(), Shape::Verdict);
    }

    fn collect(&self, out: &mut Vec<u64>) {
        let last = self.0.get();
        out.extend([u64::from(last == Some(true)), u64::from(last == Some(false))]);
    }
}

/// Requests by the API version their clients say they speak. The version is text from outside, so that both its
/// length and the number of versions are bounded; what is beyond counts as `unknown`.
#[derive(Debug, Default)]
pub struct ClientRequests {
    seen: RefCell<Vec<ClientRequestCount>>,
}

/// Requests of one kind and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequestCount {
    pub(super) stream: bool,
    pub(super) version: Box<str>,
    pub(super) count: u64,
}

/// Kinds and versions told apart. Clients of one cluster are of a handful of versions.
const CLIENT_VERSIONS_MAX: usize = 64;
/// Longest version shown.
const CLIENT_VERSION_BYTES_MAX: usize = 32;
const UNKNOWN_VERSION: &str = "unknown";

impl ClientRequests {
    /// Counts a request: whether it opens a stream, and the metadata `client-api-version` if it came with one.
    pub fn inc(&self, stream: bool, version: Option<&str>) {
        let version = version.filter(|version| version.len() <= CLIENT_VERSION_BYTES_MAX).unwrap_or(UNKNOWN_VERSION);
        let mut seen = self.seen.borrow_mut();
        if let Some(entry) = seen.iter_mut().find(|entry| entry.stream == stream && *entry.version == *version) {
            entry.count = entry.count.wrapping_add(1);
            return;
        }
        if seen.len() >= CLIENT_VERSIONS_MAX && version != UNKNOWN_VERSION {
            drop(seen);
            return self.inc(stream, None);
        }
        seen.push(ClientRequestCount { stream, version: version.into(), count: 1 });
    }

    pub(super) fn counts(&self) -> Vec<ClientRequestCount> {
        self.seen.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_versions_are_bounded() {
        let requests = ClientRequests::default();
        for number in 0..1000 {
            requests.inc(number % 2 == 0, Some(&format!("3.{number}")));
        }
        requests.inc(false, Some(&"x".repeat(100)));
        requests.inc(false, None);
        let counts = requests.counts();
        assert!(counts.len() <= CLIENT_VERSIONS_MAX + 2, "{}", counts.len());
        assert_eq!(counts.iter().map(|entry| entry.count).sum::<u64>(), 1002, "none is lost");
        assert!(counts.iter().any(|entry| &*entry.version == "unknown" && entry.count > 400));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(label("a", "x\"y\\z\nw"), r#"a="x\"y\\z\nw""#);
    }
}
