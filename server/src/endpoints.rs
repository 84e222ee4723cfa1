//! The HTTP endpoints of a running member: looks up what a route needs and answers it.

use crate::answer::status;
use crate::api;
use crate::cluster::Link;
use crate::config::FeatureGates;
use crate::console::{Console, Rpcs, SAMPLE_INTERVAL};
use crate::home::{Home, space};
use crate::http::{
    self, Access, ActiveAlarm, Admission, Connection, DebugVars, Endpoints, HealthRequest, ProbeRequest, RaftStatus,
    Route,
};
use crate::logging;
use crate::metrics::{self, Check, Facts, PeerFigures, Probe, ProcessStats, ReactorMetrics, Schema, ScrapeCode};
use crate::tls::Security;
use crate::v2::{self, Reply, V2};
use plinth_engine::budget::Budget;
use plinth_engine::command::AlarmKind;
use plinth_engine::store::range::RangeQuery;
use plinth_engine::trees::Trees;
use plinth_net::grpc::{Code, Tally};
use plinth_net::http1::{Http1Request, Response};
use plinth_net::rt;
use plinth_raft::{MemberId, Role};
use std::rc::Rc;
use std::sync::Arc;

/// Codes that dashboards of etcd count as failures.
const FAILURES: [Code; 7] = [
    Code::Unknown,
    Code::FailedPrecondition,
    Code::ResourceExhausted,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::DeadlineExceeded,
];

/// Answers HTTP requests for one home.
pub struct HttpEndpoints {
    home: Rc<Home>,
    link: Rc<Link>,
    access: Access,
    /// On listeners with the console.
    page_access: Access,
    console: Console,
    schema: Arc<Schema>,
    gates: FeatureGates,
    tallies: Vec<Arc<Tally>>,
    security: Security,
    v2: Option<V2>,
}

impl HttpEndpoints {
    /// Endpoints with the access rules of a configuration; `tallies`: what all reactors count.
    pub fn new(
        home: Rc<Home>,
        link: Rc<Link>,
        config: &crate::config::Config,
        tallies: Vec<Arc<Tally>>,
        security: Security,
    ) -> HttpEndpoints {
        let schema = Arc::new(home.reactor.metrics.schema(config.monitoring.extensive));
        let v2 = config.http.v2.then(|| V2::new(home.clone(), link.clone(), config.limits.request_bytes_max));
        HttpEndpoints {
            v2,
            console: Console::new(home.clone(), link.clone(), config),
            home,
            link,
            access: Access::of(config, Endpoints::Client),
            page_access: Access::of(config, Endpoints::Console),
            schema,
            gates: config.gates.clone(),
            tallies,
            security,
        }
    }

    /// The answer to a request.
    pub async fn respond(&self, request: &Http1Request, endpoints: Endpoints, connection: Connection) -> Reply {
        let access = if endpoints == Endpoints::Console { &self.page_access } else { &self.access };
        let admission = access.admit(request, &connection);
        if let Admission::Answered(response) = admission {
            return Reply::Whole(response);
        }
        let of_v2 = self.v2.as_ref().filter(|_| endpoints != Endpoints::Metrics);
        if let Some(v2) = of_v2
            && let Some(path) = v2::path_of(request)
        {
            return match v2.answer(request, &connection, &path).await {
                Reply::Whole(response) => Reply::Whole(admission.finish(response)),
                Reply::Waiting(head, waiting) => Reply::Waiting(admission.finish(head), waiting),
            };
        }
        if endpoints == Endpoints::Console
            && let Some(path) = http::console_path(request)
        {
            return Reply::Whole(admission.finish(self.console.respond(request, &connection, &path).await));
        }
        Reply::Whole(admission.finish(self.route(request, endpoints).await))
    }

    /// Keeps samples for the console, until the member stops.
    pub async fn sample_regularly(self: Rc<Self>) {
        while !self.home.is_stopping() {
            self.refresh();
            self.console.sample(self.rpcs(), &peer_figures(&self.link), &read_process().await);
            rt::sleep(SAMPLE_INTERVAL).await;
        }
    }

    /// What the tallies of all reactors say, in short.
    fn rpcs(&self) -> Rpcs {
        let (mut rpcs, methods) = (Rpcs::default(), api::method_table());
        for (tally, (method, of)) in
            self.tallies.iter().flat_map(|tally| methods.iter().enumerate().map(move |of| (tally, of)))
        {
            let started = tally.started(method);
            rpcs.started += started;
            rpcs.failed += FAILURES.iter().map(|code| tally.ended(method, *code)).sum::<u64>();
            let open = || started.saturating_sub(Code::ALL.iter().map(|code| tally.ended(method, *code)).sum());
            match of.path {
                "/etcdserverpb.Watch/Watch" => rpcs.watch_streams += open(),
                "/etcdserverpb.Lease/LeaseKeepAlive" => rpcs.lease_streams += open(),
                _ => {}
            }
        }
        rpcs
    }

    /// Brings the figures up to date that are not counted where they arise.
    fn refresh(&self) {
        fill_gauges(&self.home, &self.link);
        metrics::take_over(&self.home.reactor.metrics, api::method_table().len(), &self.tallies);
    }

    async fn route(&self, request: &Http1Request, endpoints: Endpoints) -> Response {
        match http::route(request, endpoints) {
            Route::Answer(response) => response,
            Route::Health(health) => self.health(&health).await,
            Route::Probe(probe) => self.probe(&probe).await,
            Route::Metrics => http::metrics(self.scrape().await),
            Route::Version => http::version(self.home.cluster_version()),
            Route::DebugVars => self.debug_vars(read_process().await),
            Route::LogLevel(level) => {
                tracing::warn!(?level, "the level of the log is changed");
                logging::set_level(level);
                http::level_changed()
            }
        }
    }

    fn alarms(&self) -> Vec<(AlarmKind, u64)> {
        self.home.state().member.store().alarms().list(AlarmKind::None).collect()
    }

    async fn health(&self, request: &HealthRequest) -> Response {
        let alarms: Vec<ActiveAlarm> = self.alarms().into_iter().map(|(kind, _)| active(kind)).collect();
        let has_leader = self.home.state().member.group().leader().is_some();
        let response = match request.before_read(&alarms, has_leader) {
            Some(response) => response,
            None => request.after_read(self.read(!request.serializable).await),
        };
        let counter = if response.status == 200 {
            &self.home.reactor.metrics.health_success
        } else {
            &self.home.reactor.metrics.health_failures
        };
        counter.inc();
        response
    }

    async fn probe(&self, request: &ProbeRequest) -> Response {
        let mut outcomes = Vec::new();
        for &check in &request.checks {
            let outcome = match check {
                Check::DataCorruption => match self.alarms().iter().any(|(kind, _)| *kind == AlarmKind::Corrupt) {
                    true => Err("alarm activated: CORRUPT".to_string()),
                    false if self.home.damage.is_known() => Err("pages of the data file are damaged".to_string()),
                    false => Ok(()),
                },
                Check::SerializableRead => self.read(false).await,
                Check::LinearizableRead if self.is_short_of_space() => Err(space::NOT_READY.to_string()),
                Check::LinearizableRead => match self.home.stall.reason() {
                    Some(reason) => Err(reason),
                    None => self.read(true).await,
                },
                Check::NonLearner => match self.home.is_learner() {
                    true => Err("not supported for learner".to_string()),
                    false => Ok(()),
                },
            };
            self.home.reactor.metrics.record_check(request.probe, check, outcome.is_ok());
            outcomes.push((check, outcome));
        }
        let is_whole = request.probe == Probe::Readyz && request.checks.len() > 1;
        let notes = if is_whole { self.home.backups.line() } else { None };
        request.respond(&outcomes, &notes.unwrap_or_default())
    }

    /// Whether the disk of this member is full, and others serve.
    fn is_short_of_space(&self) -> bool {
        let state = self.home.state();
        !state.member.has_space(&self.home.reactor.log()) && !state.member.group().is_alone()
    }

    /// Reads one key, as a client would.
    async fn read(&self, linearizable: bool) -> Result<(), String> {
        if linearizable {
            if self.home.follows() {
                return Err(status::FOLLOWING.message.into_owned());
            }
            self.home.barrier().await.map_err(|status| status.message.into_owned())?;
        }
        let query = RangeQuery { key: b"\0", range_end: b"\0", limit: 1, keys_only: true, ..RangeQuery::default() };
        let state = self.home.state();
        let mut pairs = Vec::new();
        let read =
            state.member.store().range_start(&query).map_err(|error| error.to_string()).and_then(|mut cursor| {
                let one = Budget { pairs: 1, bytes: 1 << 10, visits: 2 };
                state.member.store().range_step(&mut cursor, one, &mut pairs).map_err(|error| error.to_string())
            });
        read.map(|_| ())
    }

    /// The page of metrics. The reactor only copies numbers; a thread makes them a text.
    async fn scrape(&self) -> String {
        let metrics = &self.home.reactor.metrics;
        metrics.scrapes_in_flight.add(1);
        self.refresh();
        let snapshot = metrics.snapshot();
        let own = self.home.profile.member_id;
        let alarms = self.alarms().into_iter().map(|(kind, member)| (member, active(kind).name())).collect();
        let mut facts = Facts {
            server_id: own,
            peers: metrics.peers.facts(own, &peer_figures(&self.link)),
            cluster_version: Some(self.home.cluster_version().minor()),
            alarms,
            gates: self.gates.clone(),
            process: ProcessStats::default(),
            log_lines_dropped: logging::dropped_lines(),
            v2: self.v2_figures(),
            certificate_days: self.security.days_left(),
        };
        let schema = self.schema.clone();
        let render = move || {
            facts.process = ProcessStats::read();
            metrics::render(&schema, &snapshot, &facts)
        };
        let text = rt::unblock(render).await;
        metrics.scrapes_in_flight.add(-1);
        metrics.scrapes.with(ScrapeCode::Ok).inc();
        text
    }

    /// What the v2 store counts, and those who wait for it and have asked to.
    fn v2_figures(&self) -> (plinth_v2::stats::Stats, u64, u64) {
        let stats = *self.home.state().member.store().v2().stats();
        (stats, self.home.v2.waiting() as u64, self.home.v2.asked())
    }

    fn debug_vars(&self, process: ProcessStats) -> Response {
        let state = self.home.state();
        let group = state.member.group();
        let arguments: Vec<String> = std::env::args().collect();
        let raft = RaftStatus {
            id: self.home.profile.member_id,
            term: group.term(),
            vote: group.hard_state().vote.map_or(0, |vote| vote.0),
            commit: group.commit(),
            lead: group.leader().map_or(0, |leader| leader.0),
            state: role_name(group.role()),
            applied: group.applied(),
            progress: Vec::new(),
            transferee: 0,
        };
        http::debug_vars(&DebugVars { command_line: &arguments, process, raft: &raft })
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::PreCandidate => "StatePreCandidate",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

fn active(kind: AlarmKind) -> ActiveAlarm {
    match kind {
        AlarmKind::NoSpace => ActiveAlarm::NoSpace,
        AlarmKind::Corrupt => ActiveAlarm::Corrupt,
        AlarmKind::None => ActiveAlarm::Unknown,
    }
}

/// Reads of files of the kernel may take a while: not on the reactor.
async fn read_process() -> ProcessStats {
    rt::unblock(ProcessStats::read).await
}

/// What the transport knows of the other members.
fn peer_figures(link: &Link) -> Vec<PeerFigures> {
    let figures = |id: MemberId| {
        let (status, counts) = (link.peers().status(id.0).unwrap_or_default(), link.counts(id));
        PeerFigures {
            id: id.0,
            is_active: status.active_since.is_some(),
            sent_bytes: status.sent_bytes,
            received_bytes: status.received_bytes,
            sent_failures: status.sent_failures,
            received_failures: status.received_failures,
            disconnects: status.disconnects,
            snapshots_sent: counts.snapshots_sent,
            snapshots_failed: counts.snapshots_failed,
        }
    };
    link.others().into_iter().map(figures).collect()
}

/// Sets what is known only when asked.
fn fill_gauges(home: &Home, link: &Link) {
    let metrics: &ReactorMetrics = &home.reactor.metrics;
    let state = home.state();
    let (member, store) = (&state.member, state.member.store());
    let group = member.group();
    metrics.has_leader.set_bool(group.leader().is_some());
    metrics.is_leader.set_bool(group.role() == Role::Leader);
    metrics.is_learner.set_bool(home.is_learner());
    metrics.auth_revision.set_unsigned(store.auth().revision());
    metrics.snapshot_apply_in_progress.set_bool(link.snapshots.is_fetching());
    metrics.proposals_applied.set_unsigned(group.applied());
    metrics.proposals_committed.set_unsigned(group.commit());
    metrics.proposals_pending.set_unsigned(member.pending_commands() as u64);
    metrics.quota_bytes.set(home.profile.quota_bytes);
    metrics.wal_write_bytes.set_unsigned(home.reactor.log().wal().stats().bytes_written);
    metrics.db_size.set_unsigned(store.trees().size_bytes());
    metrics.db_size_in_use.set_unsigned(store.trees().in_use_bytes());
    metrics.damaged_pages.set_unsigned(home.damage.count() as u64);
    metrics.compact_revision.set(store.compact_revision());
    metrics.current_revision.set(store.revision());
    metrics.keys.set_unsigned(store.live_keys());
    let counters = store.counters();
    metrics.puts.set_total(counters.puts);
    metrics.deletes.set_total(counters.deletes);
    metrics.txns.set_total(counters.txns);
    metrics.put_bytes.set_unsigned(counters.put_bytes);
    metrics.leases_granted.set_total(counters.leases_granted);
    metrics.leases_revoked.set_total(counters.leases_revoked);
    metrics.compaction_keys.set_total(counters.compacted);
    let hub = state.hub.stats();
    metrics.watch_streams.set_unsigned(hub.streams as u64);
    metrics.watchers.set_unsigned(hub.watchers as u64);
    metrics.slow_watchers.set_unsigned(hub.unsynced as u64);
    metrics.events.set_total(hub.events_sent);
    metrics.pending_events.set_unsigned(hub.deliveries as u64);
}
