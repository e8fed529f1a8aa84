//! A probe of the IP table as lines: what the admin socket streams, and what a command without a
//! daemon prints.

use futures_util::stream::{self, BoxStream, StreamExt};

use super::shapes::{MachineProbed, NodeError, ProbeDone, ProbeLine, ProbeRequest, ProbeStart};
use crate::service::ip_table::{IpTable, MeshSide};

/// Begins a probe. Dropping the stream ends it; a machine that it told of is on disk.
///
/// # Errors
/// `usage` for a request outside the bounds, `not_found` for a machine that is not in the table.
/// Then nobody is asked.
pub fn probe(
    table: &IpTable,
    mesh: MeshSide,
    request: &ProbeRequest,
) -> Result<BoxStream<'static, ProbeLine>, NodeError> {
    let probe = table.probe(request.options()?, mesh)?;
    let start = ProbeStart {
        machines: probe.count(),
    };
    let results = Box::pin(probe.into_stream());
    let state = Some((results, ProbeDone::default()));
    let lines = stream::unfold(state, async |state| {
        let (mut results, mut done) = state?;
        Some(match results.next().await {
            Some(Ok(machines)) => {
                let machines: Vec<_> = machines.iter().map(MachineProbed::from).collect();
                machines.iter().for_each(|one| done.count(one.outcome));
                let lines = machines.into_iter().map(ProbeLine::Machine).collect();
                (lines, Some((results, done)))
            }
            Some(Err(error)) => (vec![ProbeLine::Error(error.into())], None),
            None => (vec![ProbeLine::Done(done)], None),
        })
    });
    let first = stream::iter([ProbeLine::Probing(start)]);
    Ok(first.chain(lines.flat_map(stream::iter)).boxed())
}
