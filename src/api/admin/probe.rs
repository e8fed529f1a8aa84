//! A probe of the IP table, told machine by machine. It ends with the connection that asked for
//! it.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::{Interval, interval};

use super::Admin;
use super::stream::{self, Line, Source, line};
use crate::api::input::Input;
use crate::api::probe;
use crate::api::refusal::Refusal;
use crate::api::shapes::{ProbeLine, ProbeRequest};

/// How often a quiet probe shows that it is alive.
const ALIVE_INTERVAL: Duration = Duration::from_secs(2);

pub(super) async fn run(
    State(admin): State<Admin>,
    Input(request): Input<ProbeRequest>,
) -> Result<Response, Refusal> {
    let control = &admin.control;
    let lines = probe::probe(&control.ip_table(), control.mesh_side(), &request)?;
    let running = Running {
        lines,
        ticks: interval(ALIVE_INTERVAL),
        admin,
    };
    Ok(stream::response(Bytes::from_static(b"\n"), running))
}

struct Running {
    lines: BoxStream<'static, ProbeLine>,
    ticks: Interval,
    admin: Admin,
}

impl Source for Running {
    async fn next(&mut self) -> Line {
        let told = tokio::select! {
            biased;
            told = self.lines.next() => told,
            () = self.admin.ending.cancelled() => return Line::End,
            _ = self.ticks.tick() => return Line::Alive,
        };
        match told {
            Some(told @ (ProbeLine::Done(_) | ProbeLine::Error(_))) => Line::Last(line(&told)),
            Some(told) => Line::Json(line(&told)),
            None => Line::End,
        }
    }
}
