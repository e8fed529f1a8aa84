//! Rows of the tables `networks`, `network_history` and `removed_networks`, byte by byte;
//! `schema/tables.md` shows the same.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::StoreError;
use super::tables::{
    RowChange, RowError, RowKey, Table, content, decode, encode, number, read_number,
};
use crate::mesh::addr::HostPort;
use crate::mesh::keys::Secret;
use crate::mesh::networks::{
    Cluster, ClusterKind, History, Look, MAX_BOOTSTRAP, MAX_CLUSTER_BYTES, MAX_DESCRIPTION_BYTES,
    MAX_NAME_BYTES, Network, NetworkKey, Removed, State,
};
use crate::mesh::token::{MAX_TOKEN_BYTES, Token, TokenKind, TokenText};

/// What a network's row adds to its key.
#[derive(Serialize, Deserialize)]
struct NetworkRow<'a> {
    token: &'a str,
    /// What Argon2id made of a LocalAI token.
    secret: Option<[u8; 32]>,
    name: &'a str,
    description: &'a str,
    #[serde(borrow)]
    bootstrap: Vec<Cow<'a, str>>,
    publish_token: bool,
    #[serde(borrow)]
    clusters: Option<Vec<ClusterRow<'a>>>,
    nodes: u32,
    failures: u32,
    state: State,
    added_ms: u64,
    first_seen_ms: Option<u64>,
    last_seen_ms: Option<u64>,
    first_success_ms: Option<u64>,
    last_success_ms: Option<u64>,
    last_look_ms: Option<u64>,
    last_error: Option<&'a str>,
    hidden_for_ms: u64,
    next_look_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct ClusterRow<'a> {
    kind: ClusterKind,
    network_id: &'a str,
    #[serde(borrow)]
    workers: Vec<&'a str>,
}

/// The row of a network, and the one with its history.
pub(super) fn put_network(network: &Network) -> Result<[(RowKey, RowChange); 2], StoreError> {
    let refused = |why: &str| StoreError::Refused {
        what: format!("network {}: {why}", network.key),
    };
    let clusters = network.clusters.iter().flatten();
    if clusters.map(Cluster::bytes).sum::<usize>() > MAX_CLUSTER_BYTES {
        return Err(refused("it has too many workers"));
    }
    if network.name.len() > MAX_NAME_BYTES
        || network.description.len() > MAX_DESCRIPTION_BYTES
        || network.bootstrap.len() > MAX_BOOTSTRAP
    {
        return Err(refused("it is too long"));
    }
    let token = network.token.to_text();
    let secret = Zeroizing::new(match network.token.kind() {
        TokenKind::LocalAi => Some(*network.token.secret().expose()),
        TokenKind::Native => None,
    });
    let bootstrap = network.bootstrap.iter();
    let row = NetworkRow {
        token: &token,
        secret: *secret,
        name: &network.name,
        description: &network.description,
        bootstrap: bootstrap.map(|at| Cow::Owned(at.to_string())).collect(),
        publish_token: network.publish_token,
        clusters: network.clusters.as_ref().map(|clusters| {
            let clusters = clusters.iter().map(|cluster| ClusterRow {
                kind: cluster.kind,
                network_id: &cluster.network_id,
                workers: cluster.workers.iter().map(String::as_str).collect(),
            });
            clusters.collect()
        }),
        nodes: network.nodes,
        failures: network.failures,
        state: network.state,
        added_ms: network.added_ms,
        first_seen_ms: network.first_seen_ms,
        last_seen_ms: network.last_seen_ms,
        first_success_ms: network.first_success_ms,
        last_success_ms: network.last_success_ms,
        last_look_ms: network.last_look_ms,
        last_error: network.last_error.as_deref(),
        hidden_for_ms: network.hidden_for_ms,
        next_look_ms: network.next_look_ms,
    };
    let history = match network.history.looks() {
        [] => RowChange::Remove,
        looks => RowChange::Put(encode(&looks)?),
    };
    Ok([
        (network_key(&network.key), RowChange::Put(encode(&row)?)),
        (history_key(&network.key), history),
    ])
}

pub(super) fn network_key(key: &NetworkKey) -> RowKey {
    (Table::Networks, key.as_bytes().to_vec())
}

pub(super) fn history_key(key: &NetworkKey) -> RowKey {
    (Table::NetworkHistory, key.as_bytes().to_vec())
}

/// The network of a row, without its history.
pub(super) fn read_network(key: &[u8], value: &[u8]) -> Result<Network, RowError> {
    let key = read_key(key)?;
    let row: NetworkRow<'_> = decode(value)?;
    let clusters = row.clusters.map(|clusters| {
        let clusters = clusters.into_iter().map(|cluster| Cluster {
            kind: cluster.kind,
            network_id: cluster.network_id.to_owned(),
            workers: cluster.workers.into_iter().map(str::to_owned).collect(),
        });
        clusters.collect::<Vec<_>>()
    });
    let bytes = clusters.iter().flatten().map(Cluster::bytes).sum::<usize>();
    if bytes > MAX_CLUSTER_BYTES
        || row.token.len() > MAX_TOKEN_BYTES
        || row.name.len() > MAX_NAME_BYTES
        || row.description.len() > MAX_DESCRIPTION_BYTES
        || row.bootstrap.len() > MAX_BOOTSTRAP
    {
        return Err(RowError::Value);
    }
    let token = token(row.token, row.secret)?;
    if NetworkKey::of(&token) != key {
        return Err(RowError::Content(
            "its token is another network's".to_owned(),
        ));
    }
    let bootstrap: Result<Vec<HostPort>, _> = row.bootstrap.iter().map(|at| at.parse()).collect();
    Ok(Network {
        key,
        incarnation: 0,
        token,
        name: row.name.to_owned(),
        description: row.description.to_owned(),
        bootstrap: bootstrap.map_err(content)?,
        publish_token: row.publish_token,
        clusters,
        nodes: row.nodes,
        failures: row.failures,
        state: row.state,
        added_ms: row.added_ms,
        first_seen_ms: row.first_seen_ms,
        last_seen_ms: row.last_seen_ms,
        first_success_ms: row.first_success_ms,
        last_success_ms: row.last_success_ms,
        last_look_ms: row.last_look_ms,
        last_error: row.last_error.map(str::to_owned),
        hidden_for_ms: row.hidden_for_ms,
        next_look_ms: row.next_look_ms,
        history: History::default(),
    })
}

/// The token of a row. What it costs to derive a LocalAI token's secret was paid when it came in.
fn token(text: &str, secret: Option<[u8; 32]>) -> Result<Token, RowError> {
    match (TokenText::parse(text).map_err(content)?, secret) {
        (TokenText::Native(token), None) => Ok(token),
        (TokenText::LocalAi(token), Some(secret)) => {
            Ok(Token::from_localai(token, Secret::new(secret)))
        }
        _ => Err(RowError::Value),
    }
}

pub(super) fn read_history(key: &[u8], value: &[u8]) -> Result<(NetworkKey, History), RowError> {
    let looks: Vec<Look> = decode(value)?;
    Ok((read_key(key)?, History::new(looks)))
}

pub(super) fn put_removed(removed: &Removed) -> (RowKey, RowChange) {
    (
        removed_key(&removed.key),
        RowChange::Put(number(removed.at_ms)),
    )
}

pub(super) fn removed_key(key: &NetworkKey) -> RowKey {
    (Table::RemovedNetworks, key.as_bytes().to_vec())
}

pub(super) fn read_removed(key: &[u8], value: &[u8]) -> Result<Removed, RowError> {
    Ok(Removed {
        key: read_key(key)?,
        at_ms: read_number(value)?,
    })
}

fn read_key(key: &[u8]) -> Result<NetworkKey, RowError> {
    let bytes = key.try_into();
    let bytes = bytes.map_err(|_| RowError::Key { len: key.len() })?;
    Ok(NetworkKey::from_bytes(bytes))
}
