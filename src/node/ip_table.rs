//! The IP table between nodes: what this one tells the others is written to the ledger, what they
//! tell is read from there.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::Node;
use crate::mesh::entry::{Class, Entry};
use crate::mesh::event::What;
use crate::mesh::ip_table::{Host, Place, Row, Source, shared};
use crate::mesh::name::Bucket;

/// How long changes are collected before they are looked at: an import or a node that comes back
/// brings many at once.
const COLLECT: Duration = Duration::from_millis(100);

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
            loop {
                node.share(&bucket).await;
                let news = async {
                    loop {
                        match events.recv().await {
                            Ok(event) if !is_about(&event.what, &bucket) => {}
                            Ok(_) | Err(RecvError::Lagged(_)) => return true,
                            Err(RecvError::Closed) => return false,
                        }
                    }
                };
                let goes_on = tokio::select! {
                    goes_on = news => goes_on,
                    changed = changed.changed() => changed.is_ok(),
                };
                if !goes_on {
                    return;
                }
                tokio::time::sleep(COLLECT).await;
                changed.mark_unchanged();
                events = events.resubscribe();
            }
        });
    }

    /// Reads what others tell, and writes what is to be told and is not in the ledger yet.
    async fn share(&self, bucket: &Bucket) {
        let me = self.inner.id;
        let Ok(entries) = self.ledger().list(Some(bucket)).await else {
            return;
        };
        let mut told: BTreeMap<&str, &Entry> = entries
            .iter()
            .filter(|entry| entry.slot.author == me && entry.slot.class == Class::Durable)
            .map(|entry| (entry.slot.key.as_str(), entry))
            .collect();
        for row in self.inner.ip_table.hear(&entries, me) {
            let Some((key, value)) = shared::to_entry(&row) else {
                continue;
            };
            let known = told.remove(key.as_str());
            if known.is_none_or(|entry| entry.value != value) {
                let put = self.ledger().put(bucket.clone(), key, value).await;
                if let Err(error) = put {
                    tracing::warn!(place = %row.place, %error, "the others cannot be told");
                    return;
                }
            }
        }
        for key in told.into_keys() {
            // What a user wrote there is the user's.
            if key.parse::<Place>().is_err() {
                continue;
            }
            let removed = self.ledger().remove(bucket.clone(), key.to_owned()).await;
            if let Err(error) = removed {
                tracing::warn!(place = key, %error, "the others still read of it");
                return;
            }
        }
    }

    /// This node as a row: where it is reached first, and a second address of the other kind.
    fn own_row(&self) -> Option<Row> {
        let mut addrs = self.inner.advertise.iter();
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
