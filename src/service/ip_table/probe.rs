//! Probes the machines of the table, and notes what came of it: one code for a daemon and for a
//! command without one. What is asked of a P2PRC server, and what silence means, is
//! [`crate::service::probe`]'s; a row in which a node of the mesh speaks of itself is measured over
//! its link, where there is a daemon that has one.
//!
//! # Which addresses are asked
//!
//! Addresses that the user gave, added or imported, are asked wherever they are. Those that other
//! nodes told of only where the internet routes to them: another node must not be able to make
//! this one knock at loopback, link-local or private addresses. A machine that the user names is
//! asked all the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::{IpTable, TableError};
use crate::clock::{self, Clock};
use crate::mesh::addr::HostPort;
use crate::mesh::id::NodeId;
use crate::mesh::ip_table::{Measured, Method, Place, Probe, Round, Row, Source};
use crate::mesh::measure::Limits;
use crate::mesh::observed::is_global;
use crate::mesh::probe::{Undecided, Verdict};
use crate::service::probe::{Probing, Settings, Witness, probe};

/// Results that come within this time are stored together.
const GATHER: Duration = Duration::from_millis(200);
/// Most results that are stored together.
const MAX_GATHERED: usize = 500;

/// Measures the way to a node of the mesh over its link; the limits are of each transfer, `None`
/// for none.
pub type Links =
    Arc<dyn Fn(NodeId, Option<Limits>) -> BoxFuture<'static, Verdict> + Send + Sync + 'static>;

/// What a running node adds to a probe. Without one, nothing.
#[derive(Clone, Default)]
pub struct MeshSide {
    /// Who else tells that this machine is online.
    pub witness: Option<Witness>,
    /// The way to other nodes.
    pub links: Option<Links>,
}

/// What is probed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Machines by any of their addresses; all but this node itself if there are none.
    pub places: Vec<Place>,
    /// Everything is reported by then, and a moment to store it.
    pub deadline: Duration,
    /// Servers asked at once.
    pub at_once: usize,
    /// Whether only round trips are measured.
    pub latency_only: bool,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        let Settings {
            deadline, at_once, ..
        } = Settings::default();
        Self {
            places: Vec::new(),
            deadline,
            at_once,
            latency_only: false,
        }
    }
}

/// What came of one machine. It is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// The machine as it stands in the table now; as it was before, if it is gone meanwhile.
    pub row: Arc<Row>,
    /// How it was asked.
    pub method: Method,
    /// What its probe says.
    pub verdict: Verdict,
}

/// A probe of machines that goes on. Dropping it ends it; what it has reported is on disk.
pub struct TableProbe {
    table: IpTable,
    /// While somebody waits for it.
    _asked: Option<Asked>,
    servers: Probing<Target>,
    nodes: BoxStream<'static, (Arc<Row>, Verdict)>,
    count: usize,
}

/// Somebody waits for a probe of this table: no other one begins by itself.
struct Asked(IpTable);

impl Asked {
    fn of(table: &IpTable) -> Self {
        table.0.asked.send_modify(|asked| *asked += 1);
        Self(table.clone())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.0.asked.send_modify(|asked| *asked -= 1);
    }
}

/// One address of a machine.
struct Target {
    row: Arc<Row>,
    /// What its first address said, if this is the second.
    first: Option<Verdict>,
}

impl IpTable {
    /// Begins to ask machines of the table whether they answer, and how fast. Must be called
    /// inside a tokio runtime. Those that were not asked for the longest time come first: where
    /// the deadline leaves no time for all, the next probe goes on with the others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use warren::IpTable;
    /// use warren::mesh::ip_table::State;
    /// use warren::service::ip_table::{MeshSide, ProbeOptions};
    ///
    /// let table = IpTable::open(dir.path(), 1_700_000_000_000)?;
    /// // Nothing listens on a port that was just given back.
    /// let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// table.add(free.to_string().parse()?, None, false).await?;
    ///
    /// let mut probe = table.probe(ProbeOptions::default(), MeshSide::default())?;
    /// while let Some(machines) = probe.next().await? {
    ///     for machine in machines {
    ///         println!("{}: {:?}", machine.row.place, machine.verdict);
    ///     }
    /// }
    /// assert_eq!(table.rows()[0].state(), State::Suspect);
    /// # table.close().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`TableError::NotFound`] for a place at which the table has no machine,
    /// [`TableError::OwnRow`] for this node's. Then nobody is asked.
    pub fn probe(&self, options: ProbeOptions, mesh: MeshSide) -> Result<TableProbe, TableError> {
        // First of all: a refresh gives way before it could meet this probe.
        let asked = Asked::of(self);
        let probe = self.begin(self.wanted(&options.places)?, &options, mesh);
        Ok(TableProbe {
            _asked: Some(asked),
            ..probe
        })
    }

    /// Begins a probe of `rows` for which nobody waits.
    pub(super) fn begin(
        &self,
        rows: Vec<Arc<Row>>,
        options: &ProbeOptions,
        mesh: MeshSide,
    ) -> TableProbe {
        let count = rows.len();
        let mut settings = Settings {
            at_once: options.at_once,
            deadline: options.deadline,
            witness: mesh.witness,
            ..Settings::default()
        };
        if options.latency_only {
            settings.transfer = None;
        }
        let (nodes, servers): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .map(|row| (self.table().speaker(&row), row))
            .partition(|(speaker, _)| speaker.is_some());
        if options.places.is_empty() {
            let told = servers.iter().filter(|(_, row)| row.source.may_expire());
            let guarded: HashSet<HostPort> = told
                .flat_map(|(_, row)| row.places().collect::<Vec<_>>())
                .map(|place| HostPort::from(&place))
                .collect();
            settings.policy = Some(Arc::new(move |target, ip| {
                is_global(ip) || !guarded.contains(target)
            }));
        }
        let nodes = nodes.into_iter().filter_map(|(id, row)| Some((id?, row)));
        let nodes = ask_nodes(nodes.collect(), mesh.links, &settings);
        let targets = servers.into_iter().map(|(_, row)| {
            let target = HostPort::from(&row.place);
            (Target { row, first: None }, target)
        });
        TableProbe {
            table: self.clone(),
            _asked: None,
            servers: probe(targets, settings),
            nodes,
            count,
        }
    }

    /// The rows at `places`, or all, with the longest unasked first.
    pub(super) fn wanted(&self, places: &[Place]) -> Result<Vec<Arc<Row>>, TableError> {
        if places.is_empty() {
            let mut rows = self.rows();
            rows.retain(|row| row.source != Source::Own);
            rows.sort_by_key(|row| {
                let answered = row.measured.map_or(0, |own| own.at_ms);
                answered.max(row.misses.last_ms)
            });
            return Ok(rows);
        }
        let mut seen = HashSet::new();
        let mut rows = Vec::new();
        for place in places {
            let row = self.get(place);
            let row = row.ok_or_else(|| TableError::NotFound(place.clone()))?;
            if row.source == Source::Own {
                return Err(TableError::OwnRow(place.clone()));
            }
            if seen.insert(row.place.clone()) {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

/// Asks nodes one after the other: what moves many bytes would measure one another.
fn ask_nodes(
    nodes: Vec<(NodeId, Arc<Row>)>,
    links: Option<Links>,
    settings: &Settings,
) -> BoxStream<'static, (Arc<Row>, Verdict)> {
    let end = clock::deadline(settings.deadline);
    let transfer = settings.transfer;
    let asked = stream::iter(nodes).then(move |(id, row)| {
        let links = links.clone();
        async move {
            let verdict = match links {
                Some(links) => ask_node(&links, id, transfer, end).await,
                None => Verdict::Undecided(Undecided::NoLink),
            };
            (row, verdict)
        }
    });
    asked.boxed()
}

async fn ask_node(links: &Links, id: NodeId, transfer: Option<Limits>, end: Instant) -> Verdict {
    let late = Verdict::Undecided(Undecided::OutOfTime);
    if clock::instant() >= end {
        return late;
    }
    timeout_at(end, links(id, transfer)).await.unwrap_or(late)
}

impl TableProbe {
    /// How many machines are reported in all.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What came since, as soon as it is on disk; `None` when every machine was reported. A future
    /// that is dropped takes with it what it had gathered: [`TableProbe::into_stream`] does not.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn next(&mut self) -> Result<Option<Vec<Probed>>, TableError> {
        let Some(first) = self.outcome().await else {
            return Ok(None);
        };
        let mut outcomes = vec![first];
        let end = clock::deadline(GATHER);
        while outcomes.len() < MAX_GATHERED
            && let Ok(Some(more)) = timeout_at(end, self.outcome()).await
        {
            outcomes.push(more);
        }
        note(&self.table, &outcomes).await?;
        for outcome in &mut outcomes {
            if let Some(row) = self.table.get(&outcome.row.place) {
                outcome.row = row;
            }
        }
        Ok(Some(outcomes))
    }

    /// The same as a stream, which ends with an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Vec<Probed>, TableError>> + Send {
        stream::unfold(Some(self), async |state| {
            let mut probe = state?;
            match probe.next().await {
                Ok(Some(machines)) => Some((Ok(machines), Some(probe))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The next machine of which everything was asked.
    async fn outcome(&mut self) -> Option<Probed> {
        loop {
            let outcome = tokio::select! {
                Some(asked) = self.servers.next() => asked,
                Some((row, verdict)) = self.nodes.next() => {
                    return Some(Probed { row, method: Method::Link, verdict });
                }
                else => return None,
            };
            let Target { row, first } = outcome.key;
            let verdict = match (first, outcome.verdict) {
                (_, answered @ Verdict::Answered(_)) => answered,
                (Some(first), second) => both(first, second),
                (None, verdict) => {
                    let second = row.places().nth(1);
                    if let Some(second) = second {
                        let first = Some(verdict);
                        let target = Target { row, first };
                        self.servers.add(target, HostPort::from(&second));
                        continue;
                    }
                    verdict
                }
            };
            let method = Method::P2prc;
            return Some(Probed {
                row,
                method,
                verdict,
            });
        }
    }
}

/// Notes it in the table. Whether this machine was online is in each verdict.
async fn note(table: &IpTable, outcomes: &[Probed]) -> Result<(), TableError> {
    let at_ms = Clock::default().now().unix_ms;
    let results = outcomes.iter().filter_map(|outcome| {
        let probe = match &outcome.verdict {
            Verdict::Answered(found) => {
                let found = found.measurement();
                Probe::Answered(Measured::of(&found, outcome.method, at_ms))
            }
            Verdict::Missed(_) => Probe::Missed,
            Verdict::Undecided(_) => return None,
        };
        Some((outcome.row.place.clone(), probe))
    });
    let round = Round {
        at_ms,
        online: true,
        results: results.collect(),
    };
    table.record(&round).await.map(drop)
}

/// What two addresses of a machine say together, of which none answered. A miss counts unless the
/// other one could still answer.
fn both(first: Verdict, second: Verdict) -> Verdict {
    use Undecided::{Forbidden, NoWay};
    match (&first, &second) {
        (Verdict::Missed(_), Verdict::Undecided(NoWay(_) | Forbidden)) => first,
        (Verdict::Undecided(undecided), Verdict::Missed(_)) => match undecided {
            NoWay(_) | Forbidden => second,
            _ => first,
        },
        _ => second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::probe::Miss;

    #[test]
    fn a_machine_with_two_addresses_is_missed_where_none_is_left_to_answer() {
        let missed = Verdict::Missed(Miss::Refused);
        let no_way = Verdict::Undecided(Undecided::NoWay("no IPv6".into()));
        for undecided in [Undecided::Offline, Undecided::OutOfTime] {
            let undecided = Verdict::Undecided(undecided);
            assert_eq!(both(missed.clone(), undecided.clone()), undecided);
            assert_eq!(both(undecided.clone(), missed.clone()), undecided);
        }
        for other in [missed.clone(), no_way.clone()] {
            assert_eq!(both(missed.clone(), other.clone()), missed);
            assert_eq!(both(other, missed.clone()), missed);
        }
        assert_eq!(both(no_way.clone(), no_way.clone()), no_way);
    }
}
