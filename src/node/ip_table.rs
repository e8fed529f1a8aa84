//! The IP table between nodes: what this one tells the others is written to the ledger, what they
//! tell is read from there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::{Node, NodeError, Phase};
use crate::clock;
use crate::mesh::entry::{Class, Entry};
use crate::mesh::event::What;
use crate::mesh::id::NodeId;
use crate::mesh::ip_table::{Host, Place, RefreshPolicy, Row, Source, shared};
use crate::mesh::name::Bucket;

/// How long changes are collected before they are looked at: an import or a node that comes back
/// brings many at once.
const COLLECT: Duration = Duration::from_millis(100);
/// Of its time, the task reads at most one part in so many: a member that writes all the time must
/// not keep the others busy.
const REST: u32 = 20;
/// How long until what could not be told is tried again: a full disk takes no entries.
const RETRY: Duration = Duration::from_secs(10);
/// Longest pause.
const MAX_REST: Duration = Duration::from_secs(5);

impl Node {
    /// Keeps ledger and IP table together until the node stops.
    pub(super) fn share_ip_table(&self) {
        let Ok(bucket) = shared::BUCKET.parse::<Bucket>() else {
            return;
        };
        if let Some(row) = self.own_row() {
            self.inner.ip_table.set_new_own(row);
        }
        let node = self.clone();
        self.spawn(async move {
            let mut events = node.events();
            let mut changed = node.inner.ip_table.watch();
            let mut view = node.watch();
            node.note_reached();
            loop {
                let (took, all_told) = node.share(&bucket).await;
                let rest = (took * REST).clamp(COLLECT, MAX_REST);
                let news = async {
                    loop {
                        match events.recv().await {
                            Ok(event) if !is_about(&event.what, &bucket) => {}
                            Ok(_) | Err(RecvError::Lagged(_)) => return true,
                            Err(RecvError::Closed) => return false,
                        }
                    }
                };
                let moves = async {
                    while view.changed().await.is_ok() {
                        if node.note_reached() {
                            return true;
                        }
                    }
                    false
                };
                let goes_on = tokio::select! {
                    goes_on = news => goes_on,
                    goes_on = moves => goes_on,
                    changed = changed.changed() => changed.is_ok(),
                    () = tokio::time::sleep(RETRY), if !all_told => true,
                };
                if !goes_on {
                    return;
                }
                tokio::time::sleep(rest).await;
                changed.mark_unchanged();
                events = events.resubscribe();
            }
        });
    }

    /// Probes the IP table by `policy` until the node begins to leave: whoever it has said goodbye
    /// to does not answer it any more.
    pub(super) fn refresh_ip_table(&self, policy: RefreshPolicy) {
        let node = self.clone();
        self.spawn(async move {
            let mut phase = node.inner.phase.subscribe();
            let table = node.ip_table();
            let refresh = table.refresh(policy, &node.inner.clock, || node.mesh_side());
            tokio::select! {
                _ = phase.wait_for(|phase| *phase >= Phase::Leaving) => {}
                never = refresh => never,
            }
        });
    }

    /// Reads what others tell, and writes what is to be told and is not in the ledger yet. Returns
    /// how long the reading took, and whether everything was written.
    async fn share(&self, bucket: &Bucket) -> (Duration, bool) {
        let begun = clock::instant();
        let me = self.inner.id;
        let Ok(entries) = self.ledger().list(Some(bucket)).await else {
            return (Duration::ZERO, true);
        };
        let mine = self.inner.ip_table.hear(&entries, me);
        let took = begun.elapsed();
        let told = self.tell(bucket, &entries, &mine).await;
        if let Err(error) = &told {
            tracing::warn!(%error, "what this node's IP table tells the others is behind");
        }
        (took, told.is_ok())
    }

    /// Writes what is in `mine` and not yet in the ledger, and takes back what is not in it.
    async fn tell(
        &self,
        bucket: &Bucket,
        entries: &[Entry],
        mine: &[Arc<Row>],
    ) -> Result<(), NodeError> {
        let me = self.inner.id;
        let mut told: BTreeMap<&str, &Entry> = entries
            .iter()
            .filter(|entry| entry.slot.author == me && entry.slot.class == Class::Durable)
            .map(|entry| (entry.slot.key.as_str(), entry))
            .collect();
        for row in mine {
            let Some((key, value)) = shared::to_entry(row) else {
                continue;
            };
            let known = told.remove(key.as_str());
            if known.is_none_or(|entry| entry.value != value) {
                self.ledger().put(bucket.clone(), key, value).await?;
            }
        }
        // What a user wrote there in another form is the user's.
        let places = told.into_keys().filter(|key| key.parse::<Place>().is_ok());
        for key in places {
            self.ledger().remove(bucket.clone(), key.to_owned()).await?;
        }
        Ok(())
    }

    /// Notes where members are reached, this one included; returns whether that is news.
    fn note_reached(&self) -> bool {
        let own = self.inner.advertise.iter().copied();
        let own = own.chain(self.reached_at()).map(|at| (self.inner.id, at));
        let members: Vec<_> = own.chain(self.inner.net.peers()).collect();
        let view = self.view();
        let is_online = |id: &NodeId| view.nodes.get(id).is_some_and(|node| node.online);
        self.inner.ip_table.reached(&members, is_online)
    }

    /// Where P2PRC's clients reach this node, if they do; else where members do.
    fn reached_at(&self) -> Vec<SocketAddr> {
        let advertise = &self.inner.advertise;
        match self.inner.p2prc_http {
            None => advertise.clone(),
            Some(at) if !at.ip().is_unspecified() => vec![at],
            Some(at) => {
                // `0.0.0.0` is not reached over IPv6; `::` is over both.
                let served = advertise.iter().filter(|a| at.is_ipv6() || a.is_ipv4());
                served.map(|a| SocketAddr::new(a.ip(), at.port())).collect()
            }
        }
    }

    /// This node as a row: where it is reached first, and a second address of the other kind.
    fn own_row(&self) -> Option<Row> {
        let reached = self.reached_at();
        let mut addrs = reached.iter();
        let first = addrs.next()?;
        let port = std::num::NonZeroU16::new(first.port())?;
        let mut row = Row::new(Place::new(Host::from(first.ip()), port), Source::Own);
        let same_port = |at: &&std::net::SocketAddr| at.port() == first.port();
        let second = addrs
            .filter(same_port)
            .find(|at| at.is_ipv4() != first.is_ipv4());
        if let Some(second) = second {
            row.add_host(Host::from(second.ip()));
        }
        row.name = self.inner.name.to_string();
        Some(row)
    }
}

fn is_about(what: &What, bucket: &Bucket) -> bool {
    matches!(what, What::Ledger { bucket: of, .. } if of == bucket)
}
