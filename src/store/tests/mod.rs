//! Fixtures: nodes, entries, and a disk that fails on command.

mod damage;
mod fault;
mod group;
mod ip_table;
mod networks;
mod upgrade;
mod vectors;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redb::{Builder, Database, StorageBackend};

use super::schema;
use super::writer::Pace;
use super::*;
use crate::mesh::entry::{Body, Class, Draft, NetworkId};
use crate::mesh::id::Identity;
use crate::mesh::ip_table::Source;

const NETWORK: NetworkId = NetworkId([5; 16]);
/// For waits that end with an event: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn node(n: u8) -> NodeId {
    Identity::from_seed(&[n; 32]).id()
}

fn entry(key: &str, value: &[u8]) -> Entry {
    signed(1, draft(key, value))
}

fn draft(key: &str, value: &[u8]) -> Draft {
    Draft {
        bucket: "config".parse().unwrap(),
        key: key.to_owned(),
        class: Class::Durable,
        version: 7,
        boot: 0,
        deleted: false,
        value: value.to_vec(),
    }
}

fn signed(n: u8, draft: Draft) -> Entry {
    Entry::sign(NETWORK, &Identity::from_seed(&[n; 32]), draft).unwrap()
}

fn floor(n: u8, floor: u64) -> Floor {
    Floor::sign(NETWORK, &Identity::from_seed(&[n; 32]), floor)
}

fn peer(n: u8) -> KnownPeer {
    KnownPeer {
        id: node(n),
        name: Some("atlas".parse().unwrap()),
        addresses: vec![
            "192.0.2.1:7717".parse().unwrap(),
            "[2001:db8::1]:1".parse().unwrap(),
        ],
        last_seen_ms: 1_700_000_000_000,
        boot: 3,
        learnt_at: vec!["example.org:7717".parse().unwrap()],
    }
}

fn count(n: u8, add: u64) -> Change {
    Change::Count {
        bucket: "federated".parse().unwrap(),
        node: node(n),
        add,
    }
}

fn machine(n: u8, name: u8) -> Row {
    let place = format!("192.0.2.{n}:8088").parse().unwrap();
    let mut row = Row::new(place, Source::Imported);
    row.name = name.to_string();
    row
}

fn keys(loaded: &Loaded) -> Vec<&str> {
    loaded.ledger.iter().map(|e| e.slot.key.as_str()).collect()
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// A disk in memory. What was not synced when a sync fails is lost, as on the worst real ones.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Bytes that still fit.
    room: Option<usize>,
    sync_fails: bool,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<Database, StoreError> {
        Builder::new()
            .create_with_backend(self.clone())
            .map_err(|error| StoreError::write(&error.into()))
    }

    /// Everything on it, as a start after a crash would find it.
    fn load(&self) -> Loaded {
        let copy = self.state().synced.clone();
        let crashed = Disk(Arc::new(Mutex::new(State {
            now: copy.clone(),
            synced: copy,
            ..State::default()
        })));
        schema::load(&crashed.open().unwrap(), Path::new("disk"), 0).unwrap()
    }

    fn store(&self, pace: Pace) -> Store {
        let path = Path::new("disk");
        let database = self.open().unwrap();
        schema::migrate(&database, path, schema::MIGRATIONS).unwrap();
        let loaded = schema::load(&database, path, 0).unwrap();
        let disk = self.clone();
        Store::start(database, &loaded, Box::new(move || disk.open()), pace).unwrap()
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let state = self.state();
        let there = state.now.get(at..at + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // As on a sparse file: growing costs nothing until something is written there.
        self.state().now.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.sync_fails {
            state.now = state.synced.clone();
            return Err(io::Error::other("the disk is gone"));
        }
        state.synced = state.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let mut state = self.state();
        let fits = state.room.map_or(data.len(), |room| room.min(data.len()));
        state.now[at..at + fits].copy_from_slice(&data[..fits]);
        if let Some(room) = &mut state.room {
            *room -= fits;
        }
        if fits == data.len() {
            Ok(())
        } else {
            Err(full())
        }
    }
}
