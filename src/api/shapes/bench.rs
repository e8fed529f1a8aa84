//! `bench --json`, and what `POST /v1/bench` says line by line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::NodeError;
use crate::mesh::id::NodeId;
use crate::mesh::measure::{Limits, Loss, Measurement};
use crate::mesh::name::Name;

/// Body of `POST /v1/bench`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRequest {
    /// Full id, short id, unambiguous prefix, name, or `<name>-<short id>`.
    pub node: String,
    /// At most so many bytes each way.
    #[serde(default = "BenchRequest::default_bytes")]
    pub bytes: u64,
    /// At most so many milliseconds each way.
    #[serde(default = "BenchRequest::default_time_ms")]
    pub time_ms: u64,
}

impl BenchRequest {
    fn default_bytes() -> u64 {
        256_000_000
    }

    fn default_time_ms() -> u64 {
        3_000
    }

    /// The limits of each transfer.
    ///
    /// # Errors
    /// `usage`, if there is nothing to measure or more than a node serves.
    pub fn limits(&self) -> Result<Limits, NodeError> {
        let limits = Limits {
            bytes: self.bytes,
            time: Duration::from_millis(self.time_ms),
        };
        let most = Limits::MAX;
        if limits.bytes == 0 || limits.time.is_zero() || limits.within(most) != limits {
            let message = format!(
                "a measurement takes 1 to {} bytes and 1 ms to {} s each way",
                most.bytes,
                most.time.as_secs()
            );
            return Err(NodeError::new("usage", message));
        }
        Ok(limits)
    }
}

/// `bench --json`: the way to one node. What was not measured is null, never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// To whom.
    #[serde(with = "crate::mesh::view::id_text")]
    pub id: NodeId,
    /// Its name, if known.
    pub name: Option<Name>,
    /// The least round trip in milliseconds.
    pub latency_ms: Option<f64>,
    /// The median round trip in milliseconds.
    pub latency_median_ms: Option<f64>,
    /// How many round trips were measured.
    pub round_trips: usize,
    /// Part of this node's packets that was lost during the round trips, from 0 to 1. QUIC tells
    /// which packets of a link were lost.
    pub loss: Option<f64>,
    /// Packets this node sent for the round trips.
    pub packets_sent: u64,
    /// How many of them were lost.
    pub packets_lost: u64,
    /// From there to here, in Mbit/s.
    pub download_mbps: Option<f64>,
    /// Bytes that it is worked out from, counted here.
    pub download_bytes: Option<u64>,
    /// Seconds they took to come.
    pub download_s: Option<f64>,
    /// From here to there, in Mbit/s.
    pub upload_mbps: Option<f64>,
    /// Bytes that it is worked out from, counted there.
    pub upload_bytes: Option<u64>,
    /// Seconds they took to come.
    pub upload_s: Option<f64>,
    /// Part of this node's packets that was lost during the upload, from 0 to 1: some of that the
    /// upload itself provokes, as it looks for what the way can take.
    pub upload_loss: Option<f64>,
}

impl Bench {
    /// What was measured of the way to `id`.
    pub fn of(
        id: NodeId,
        name: Option<Name>,
        found: &Measurement,
        loss: Option<Loss>,
        upload_loss: Option<Loss>,
    ) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Self {
            id,
            name,
            latency_ms: found.latency_ms(),
            latency_median_ms: found.round_trip.map(|trip| ms(trip.median)),
            round_trips: found.round_trip.map_or(0, |trip| trip.samples),
            loss: loss.map(|loss| loss.ratio()),
            packets_sent: loss.map_or(0, |loss| loss.sent),
            packets_lost: loss.map_or(0, |loss| loss.lost),
            download_mbps: found.download_mbps(),
            download_bytes: found.download.map(|down| down.bytes()),
            download_s: found.download.map(|down| down.elapsed().as_secs_f64()),
            upload_mbps: found.upload_mbps(),
            upload_bytes: found.upload.map(|up| up.bytes()),
            upload_s: found.upload.map(|up| up.elapsed().as_secs_f64()),
            upload_loss: upload_loss.map(|loss| loss.ratio()),
        }
    }
}

/// What is measured at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchPhase {
    /// Round trips, counted.
    RoundTrip,
    /// Bytes from there to here.
    Download,
    /// Bytes from here to there.
    Upload,
}

/// How far a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchProgress {
    /// What is measured.
    pub phase: BenchPhase,
    /// Round trips or bytes so far.
    pub done: u64,
    /// At most so many; time may end it before.
    pub of: u64,
}

/// One line of the answer to a [`BenchRequest`]: progress as often as it changes much, then one of
/// the others, last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenchLine {
    /// How far it is.
    Progress(BenchProgress),
    /// The result.
    Bench(Bench),
    /// There is none.
    Error(NodeError),
}
