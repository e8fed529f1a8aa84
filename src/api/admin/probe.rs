//! A probe of the IP table, told machine by machine. It ends with the connection that asked for
//! it.

use axum::extract::State;
use axum::response::Response;

use super::Admin;
use super::stream::stream_lines;
use crate::api::input::Input;
use crate::api::probe;
use crate::api::refusal::Refusal;
use crate::api::shapes::{ProbeLine, ProbeRequest};

pub(super) async fn run(
    State(admin): State<Admin>,
    Input(request): Input<ProbeRequest>,
) -> Result<Response, Refusal> {
    let control = &admin.control;
    let lines = probe::probe(&control.ip_table(), control.mesh_side(), &request)?;
    let is_last = |line: &ProbeLine| matches!(line, ProbeLine::Done(_) | ProbeLine::Error(_));
    Ok(stream_lines(lines, admin.ending.clone(), is_last))
}
