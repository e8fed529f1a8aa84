//! Keeps the table fresh without being asked, by the code of [`IpTable::probe`] and
//! [`IpTable::prune`]. When a pass begins and who goes is decided in
//! [`crate::mesh::ip_table::RefreshPolicy`] and [`Silences`].
//!
//! One pass at a time, and none beside a probe that somebody waits for: the two would measure each
//! other. A pass under way gives way; what it has noted is on disk, and those that it did not ask
//! come first in the next.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::{IpTable, MeshSide, ProbeOptions, Probed, TableError};
use crate::clock::Clock;
use crate::mesh::ip_table::{Place, RefreshPolicy, Row, Silences, State};

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Every machine was reported.
    Whole,
    /// Somebody asked for a probe.
    GaveWay,
}

/// Machines whose state a pass changed, by the new state.
#[derive(Debug, Default)]
struct Changes {
    reachable: usize,
    suspect: usize,
    unreachable: usize,
}

impl IpTable {
    /// Probes every machine by `policy`, round trips only, until the future is dropped: figures of
    /// transfers stay as they are, for nobody asked to move megabytes every few minutes. The
    /// first pass begins after one interval. `mesh` is asked before each pass: addresses of this
    /// machine change.
    pub async fn refresh(
        &self,
        policy: RefreshPolicy,
        clock: &Clock,
        mesh: impl Fn() -> MeshSide,
    ) -> ! {
        let mut silences = Silences::default();
        let mut asked = self.0.asked.subscribe();
        let mut began = clock.now().mono;
        let mut ended = began;
        loop {
            let next = policy.next(began, ended, &mut rand::rng());
            sleep_until(clock.instant_at(next).into()).await;
            when(&mut asked, |probes| probes == 0).await;
            began = clock.now().mono;
            match self.pass(policy, clock, mesh(), &mut silences).await {
                Ok(Pass::Whole) => {}
                Ok(Pass::GaveWay) => tracing::debug!("the refresh of the IP table gave way"),
                Err(error) => tracing::warn!(%error, "the IP table could not be refreshed"),
            }
            ended = clock.now().mono;
        }
    }

    async fn pass(
        &self,
        policy: RefreshPolicy,
        clock: &Clock,
        mesh: MeshSide,
        silences: &mut Silences,
    ) -> Result<Pass, TableError> {
        let options = ProbeOptions {
            latency_only: true,
            ..ProbeOptions::default()
        };
        let mut rows = self.wanted(&options.places)?;
        // Only over their links, where they are cheap to ask: members that went and may be back.
        rows.extend(self.table().pruned());
        let states = rows.iter().map(|row| (row.place.clone(), row.state()));
        let before: HashMap<Place, State> = states.collect();
        let mut asked = self.0.asked.subscribe();
        let mut probe = self.begin(rows, &options, mesh);
        let mut changes = Changes::default();
        let pass = loop {
            let machines = tokio::select! {
                biased;
                () = when(&mut asked, |probes| probes > 0) => break Pass::GaveWay,
                machines = probe.next() => machines?,
            };
            let Some(machines) = machines else {
                break Pass::Whole;
            };
            let now = clock.now().mono;
            for Probed { row, verdict, .. } in &machines {
                tracing::debug!(at = %row.place, state = ?row.state(), ?verdict, "asked again");
                silences.note(now, row, verdict);
                changes.note(before.get(&row.place).copied(), row.state());
            }
        };
        drop(probe);
        let due = policy.prune_after().map(|after| silences.due(after));
        let gone = match due {
            Some(due) if !due.is_empty() => self.prune_among(&due).await?,
            _ => Vec::new(),
        };
        silences.retain(|place| self.get(place).is_some());
        changes.tell(&gone);
        Ok(pass)
    }
}

impl Changes {
    fn note(&mut self, before: Option<State>, after: State) {
        if before == Some(after) {
            return;
        }
        match after {
            State::Reachable => self.reachable += 1,
            State::Suspect => self.suspect += 1,
            State::Unreachable => self.unreachable += 1,
            State::Unknown => {}
        }
    }

    /// One line for a pass that changed something.
    fn tell(&self, gone: &[Arc<Row>]) {
        for row in gone {
            tracing::debug!(at = %row.place, "gone: it did not answer for long enough");
        }
        let (gone, told) = (gone.len(), self.reachable + self.suspect + self.unreachable);
        if told + gone > 0 {
            tracing::info!(
                reachable = self.reachable,
                suspect = self.suspect,
                unreachable = self.unreachable,
                gone,
                "machines of the IP table changed"
            );
        }
    }
}

/// Waits until the number of probes that somebody waits for is so.
async fn when(asked: &mut watch::Receiver<usize>, so: impl Fn(usize) -> bool) {
    if asked.wait_for(|probes| so(*probes)).await.is_err() {
        // The table is gone, and this with it.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_pass_gives_way_to_a_probe_that_somebody_waits_for() {
        let dir = tempfile::tempdir().unwrap();
        let table = IpTable::open(dir.path(), 1).unwrap();
        // Connections are taken in, and nothing is ever said.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap().to_string();
        table.add(at.parse().unwrap(), None, false).await.unwrap();
        let policy = RefreshPolicy::new(Duration::from_secs(1), None).unwrap();
        let clock = Clock::default();
        let mut silences = Silences::default();
        let mesh = MeshSide::default;
        let asks = async {
            let connection = silent.accept().await.unwrap();
            let probe = table.probe(ProbeOptions::default(), MeshSide::default());
            (connection, probe.unwrap())
        };
        let (gave_way, (connection, probe)) =
            tokio::join!(table.pass(policy, &clock, mesh(), &mut silences), asks);
        assert_eq!(gave_way, Ok(Pass::GaveWay));
        // And none begins while it goes on.
        let pass = table.pass(policy, &clock, mesh(), &mut silences);
        assert_eq!(pass.await, Ok(Pass::GaveWay));
        assert_eq!(*table.0.asked.borrow(), 1);
        drop((probe, silent, connection));
        let pass = table.pass(policy, &clock, mesh(), &mut silences);
        assert_eq!(pass.await, Ok(Pass::Whole));
        assert_eq!(*table.0.asked.borrow(), 0);
        assert_eq!(table.rows()[0].state(), State::Suspect, "once, not thrice");
        table.close().await.unwrap();
    }
}
