//! A measurement, told line by line as it goes on. It ends with the connection that asked for it.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Interval, interval};

use super::Admin;
use super::stream::{self, Line, Source, line};
use crate::api::input::Input;
use crate::api::refusal::Refusal;
use crate::api::shapes::{Bench, BenchLine, BenchPhase, BenchProgress, BenchRequest, NodeError};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn bench(
    State(admin): State<Admin>,
    Input(request): Input<BenchRequest>,
) -> Result<Response, Refusal> {
    let limits = request.limits()?;
    let node = admin.control.resolve(&request.node)?;
    let start = BenchProgress {
        phase: BenchPhase::RoundTrip,
        done: 0,
        of: 0,
    };
    let (sender, progress) = watch::channel(start);
    let control = admin.control.clone();
    let running = Running {
        work: Box::pin(async move { control.bench(node, limits, sender).await }),
        progress,
        ticks: interval(PROGRESS_INTERVAL),
        admin,
    };
    Ok(stream::response(Bytes::from_static(b"\n"), running))
}

struct Running {
    work: BoxFuture<'static, Result<Bench, NodeError>>,
    progress: watch::Receiver<BenchProgress>,
    ticks: Interval,
    admin: Admin,
}

impl Source for Running {
    async fn next(&mut self) -> Line {
        let done = tokio::select! {
            biased;
            done = &mut self.work => done,
            () = self.admin.ending.cancelled() => return Line::End,
            _ = self.ticks.tick() => {
                return match self.progress.has_changed() {
                    Ok(true) => {
                        let so_far = *self.progress.borrow_and_update();
                        Line::Json(line(&BenchLine::Progress(so_far)))
                    }
                    _ => Line::Alive,
                };
            }
        };
        Line::Last(line(&match done {
            Ok(bench) => BenchLine::Bench(bench),
            Err(error) => BenchLine::Error(error),
        }))
    }
}
