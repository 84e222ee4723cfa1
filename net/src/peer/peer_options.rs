//! Every setting and bound of the transport between members, with its default and where the number comes from.

use std::time::Duration;

use crate::http1::Limits;

use super::Lane;

/// What a member tells its transport when it starts.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The cluster all peers must belong to.
    pub cluster: u64,
    pub member: u64,
    /// How new what is replicated may be for this member to read it: the others are told. 0 to say nothing of it.
    pub reads: u16,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
    /// Bounds and times.
    pub options: PeerOptions,
}

/// Bounds and times of the transport.
#[derive(Clone, Copy, Debug)]
pub struct PeerOptions {
    /// Payload of a frame. Room for an entry of the largest request limit (64 MiB) beside a full batch.
    pub frame_bytes_max: usize,
    /// Bytes that may wait on the urgent lane: some 100,000 heartbeats.
    pub urgent_bytes_max: usize,
    /// Bytes that may wait on the bulk lane: the window of entries in flight, and one largest frame.
    pub bulk_bytes_max: usize,
    /// Bytes that may wait on the snapshot lane, which carries requests for chunks.
    pub snapshot_bytes_max: usize,
    /// Requests on their way on one lane, in each direction.
    pub requests_max: usize,
    /// Bytes of answers that wait for a peer at which nothing more is read from it.
    pub response_bytes_max: usize,
    /// How often a peer is asked whether it is there. Far below `dead_after` of all members.
    pub ping_interval: Duration,
    /// A peer that neither says nor takes anything for this long is given up.
    pub dead_after: Duration,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// The pause behind the first failed attempt; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest pause. Below an election timeout, so that a peer that comes back is heard before it campaigns.
    pub backoff_max: Duration,
    /// Connections whose hello has not arrived yet.
    pub strangers_max: usize,
    /// Connections that speak HTTP.
    pub http_connections_max: usize,
    /// Bounds of HTTP requests: only small ones are served here.
    pub http: Limits,
}

impl PeerOptions {
    pub(super) fn lane_bytes_max(&self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => self.urgent_bytes_max,
            Lane::Bulk => self.bulk_bytes_max,
            Lane::Snapshot => self.snapshot_bytes_max,
        }
    }
}

impl Default for PeerOptions {
    fn default() -> PeerOptions {
        PeerOptions {
            frame_bytes_max: 68 << 20,
            urgent_bytes_max: 8 << 20,
            bulk_bytes_max: 128 << 20,
            snapshot_bytes_max: 4 << 20,
            requests_max: 64,
            response_bytes_max: 8 << 20,
            ping_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(800),
            strangers_max: 128,
            http_connections_max: 128,
            http: Limits { head_bytes_max: 16 << 10, body_bytes_max: 64 << 10 },
        }
    }
}
