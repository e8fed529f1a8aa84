//! What the store is asked to do while the disk remembers, and what it must hold after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use redb::{AccessGuard, Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::runtime::Runtime;
use warren::mesh::entry::{Class, Draft, Entry, NetworkId, Slot};
use warren::mesh::floor::Floor;
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::ip_table::{Place, Row, Source};
use warren::mesh::keys::Secret;
use warren::mesh::members::KnownPeer;
use warren::mesh::name::Bucket;
use warren::mesh::networks::{Network, NetworkKey, Networks, NewNetwork, Outcome, Policy, Removed};
use warren::mesh::token::Token;
use warren::store::{Change, Loaded, Store};

use super::disk::{Disk, Op};

pub(crate) const NETWORK: NetworkId = NetworkId([9; 16]);
/// Milliseconds since the Unix epoch when the story begins.
pub(crate) const UNIX_MS: u64 = 1_790_000_000_000;

/// What a store holds, without order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held {
    /// The last boot begun.
    pub(crate) boot: u64,
    pub(crate) ledger: BTreeMap<Slot, Entry>,
    pub(crate) floors: BTreeMap<NodeId, Floor>,
    pub(crate) peers: BTreeMap<NodeId, KnownPeer>,
    pub(crate) counts: BTreeMap<(Bucket, NodeId), u64>,
    pub(crate) knocks: BTreeSet<(u64, [u8; 12])>,
    pub(crate) roles: BTreeMap<u64, Vec<u8>>,
    pub(crate) machines: BTreeMap<Place, Row>,
    pub(crate) networks: BTreeMap<NetworkKey, Network>,
    pub(crate) removed: BTreeMap<NetworkKey, u64>,
}

impl Held {
    /// What `loaded` says, the boot being the one it began.
    pub(crate) fn of(loaded: Loaded) -> Self {
        let slot = |entry: Entry| (entry.slot.clone(), entry);
        let count = |(bucket, node, count)| ((bucket, node), count);
        let machine = |row: Row| (row.place.clone(), row);
        let removed = loaded.removed_networks.iter();
        Self {
            boot: loaded.boot,
            ledger: loaded.ledger.into_iter().map(slot).collect(),
            floors: loaded.floors.into_iter().map(|f| (f.author, f)).collect(),
            peers: loaded.peers.into_iter().map(|p| (p.id, p)).collect(),
            counts: loaded.counts.into_iter().map(count).collect(),
            knocks: loaded.knocks.into_iter().collect(),
            roles: loaded.roles.into_iter().collect(),
            machines: loaded.ip_table.into_iter().map(machine).collect(),
            removed: removed.map(|gone| (gone.key, gone.at_ms)).collect(),
            networks: loaded.networks.into_iter().map(|n| (n.key, n)).collect(),
        }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::PutEntry(entry) => drop(self.ledger.insert(entry.slot.clone(), entry)),
            Change::DropEntry(slot) => drop(self.ledger.remove(&slot)),
            Change::PutFloor(floor) => {
                self.ledger.retain(|_, entry| !voids(&floor, entry));
                self.floors.insert(floor.author, floor);
            }
            Change::DropFloor(author) => drop(self.floors.remove(&author)),
            Change::Peer(peer) => drop(self.peers.insert(peer.id, peer)),
            Change::ForgetPeer(id) => drop(self.peers.remove(&id)),
            Change::Count { bucket, node, add } => {
                *self.counts.entry((bucket, node)).or_default() += add;
            }
            Change::Knock { epoch, nonce } => drop(self.knocks.insert((epoch, nonce))),
            Change::ForgetKnocksBefore(end) => self.knocks.retain(|(epoch, _)| *epoch >= end),
            Change::Role { id, spec } => drop(self.roles.insert(id, spec)),
            Change::ForgetRole(id) => drop(self.roles.remove(&id)),
            Change::PutMachines(rows) => {
                let rows = rows.iter().map(|row| (row.place.clone(), Row::clone(row)));
                self.machines.extend(rows);
            }
            Change::RemoveMachine(place) => drop(self.machines.remove(&place)),
            Change::ClearMachines => self.machines.clear(),
            Change::PutNetworks(rows) => {
                let rows = rows.iter().map(|row| (row.key, Network::clone(row)));
                self.networks.extend(rows);
            }
            Change::RemoveNetworks(removed) => {
                for gone in removed {
                    self.networks.remove(&gone.key);
                    self.removed.insert(gone.key, gone.at_ms);
                }
            }
            Change::ForgetRemovals(keys) => self.removed.retain(|key, _| !keys.contains(key)),
            Change::ForgetNetwork => {
                let old = std::mem::take(self);
                *self = Self {
                    boot: old.boot,
                    machines: old.machines,
                    networks: old.networks,
                    removed: old.removed,
                    ..Self::default()
                };
            }
        }
    }
}

/// Whether `entry` is below `floor`.
pub(crate) fn voids(floor: &Floor, entry: &Entry) -> bool {
    entry.slot.author == floor.author && entry.version < floor.floor
}

/// A step that is done wholly or not at all.
pub(crate) struct Step {
    /// Operations of the disk before it was asked for.
    pub(crate) begun: usize,
    /// Operations of the disk when the store had said that it is durable.
    pub(crate) acknowledged: usize,
    /// What the store holds after it.
    pub(crate) held: Held,
}

/// What happened to one disk.
pub(crate) struct Recording {
    /// The disk before.
    pub(crate) base: Vec<u8>,
    pub(crate) ops: Vec<Op>,
    pub(crate) steps: Vec<Step>,
}

impl Recording {
    /// The steps whose outcome a crash before operation `point` may leave: the last one
    /// acknowledged, or any begun since.
    pub(crate) fn possible(&self, point: usize) -> &[Step] {
        let acknowledged = self.steps.iter().rposition(|s| s.acknowledged <= point);
        let begun = self.steps.iter().rposition(|s| s.begun <= point);
        &self.steps[acknowledged.unwrap_or(0)..=begun.unwrap_or(0)]
    }
}

/// A floor, and what its author signed anew for it.
struct Compaction {
    author: u8,
    floor: u64,
    key: &'static str,
    version: u64,
    len: usize,
}

/// The first is this node's.
const COMPACTIONS: [Compaction; 3] = [
    Compaction::of(1, 10, "a", 11, 9_000),
    Compaction::of(2, 11, "i9", 25, 400),
    Compaction::of(6, 3, "i0", 13, 700),
];

impl Compaction {
    const fn of(author: u8, floor: u64, key: &'static str, version: u64, len: usize) -> Self {
        Self {
            author,
            floor,
            key,
            version,
            len,
        }
    }

    /// In the order in which they are to be applied: survivors first.
    fn changes(&self) -> Vec<Change> {
        let survivor = put(self.author, self.key, self.version, self.len);
        vec![survivor, raise_floor(self.author, self.floor)]
    }
}

/// Checks that with each floor its survivors are there, and nothing that it voids.
///
/// # Errors
/// Who hears of such a floor loses data, or has kept what it voids.
pub(crate) fn check_floors(found: &Held) -> Result<(), String> {
    for floor in found.floors.values() {
        if found.ledger.values().any(|entry| voids(floor, entry)) {
            return Err(format!("floor {} with what is below it", floor.floor));
        }
    }
    for compaction in &COMPACTIONS {
        let author = identity(compaction.author).id();
        let floor = found.floors.get(&author).map(|floor| floor.floor);
        let mut own = found.ledger.values().filter(|e| e.slot.author == author);
        if floor == Some(compaction.floor)
            && !own.any(|e| e.slot.key == compaction.key && e.version >= compaction.version)
        {
            return Err(format!("floor {floor:?} without {:?}", compaction.key));
        }
    }
    Ok(())
}

/// A store on a disk that remembers, and what it must hold.
pub(crate) struct Session<'a> {
    runtime: &'a Runtime,
    disk: Disk,
    store: Store,
    held: Held,
    steps: Vec<Step>,
}

impl<'a> Session<'a> {
    /// Opens a store; what it loaded is the first step.
    pub(crate) fn open(runtime: &'a Runtime, disk: &Disk, now_ms: u64) -> Result<Self, String> {
        let begun = disk.count();
        let storage = disk.clone();
        let opened = Store::open_on(Path::new("disk"), move || Ok(storage.clone()), now_ms);
        let (store, loaded) = opened.map_err(|error| format!("it does not open: {error}"))?;
        if !loaded.damaged.is_empty() {
            return Err(format!("damaged rows: {:?}", loaded.damaged));
        }
        let mut session = Self {
            runtime,
            disk: disk.clone(),
            store,
            held: Held::of(loaded),
            steps: Vec::new(),
        };
        session.note(begun);
        session.acknowledged();
        Ok(session)
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Commits each group by itself, all at once.
    pub(crate) fn commit(&mut self, groups: Vec<Vec<Change>>) {
        for group in &groups {
            group.iter().for_each(|change| self.held.apply(change));
            self.note(self.disk.count());
        }
        let all = groups.into_iter().map(|group| self.store.commit(group));
        let done = self.runtime.block_on(join_all(all));
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        self.acknowledged();
    }

    /// Asks for a commit that finds the disk full, and makes room again.
    fn refused(&mut self, changes: Vec<Change>) {
        self.disk.set_full(true);
        let done = self.runtime.block_on(self.store.commit(changes));
        assert!(done.is_err(), "it was written to a full disk");
        self.disk.set_full(false);
    }

    /// Leaves changes for the next transaction, each being a step.
    pub(crate) fn later(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.held.apply(&change);
            self.note(self.disk.count());
            self.store.later(change);
        }
    }

    /// Closes the store, which is the end of what was left for later.
    pub(crate) fn close(mut self) -> Vec<Step> {
        self.runtime.block_on(self.store.close()).unwrap();
        self.acknowledged();
        self.steps
    }

    fn note(&mut self, begun: usize) {
        self.steps.push(Step {
            begun,
            acknowledged: usize::MAX,
            held: self.held.clone(),
        });
    }

    fn acknowledged(&mut self) {
        let now = self.disk.count();
        let open = self.steps.iter_mut().rev();
        for step in open.take_while(|step| step.acknowledged == usize::MAX) {
            step.acknowledged = now;
        }
    }
}

/// A life of three starts, the second with a clock that went back, the third in a new network.
pub(crate) fn tell(runtime: &Runtime) -> Recording {
    let base = empty_database();
    let disk = Disk::new(base.clone());
    let mut steps = vec![Step {
        begun: 0,
        acknowledged: 0,
        held: Held::default(),
    }];
    let mut first = Session::open(runtime, &disk, UNIX_MS).unwrap();
    first_life(&mut first);
    first.commit(vec![vec![Change::PutMachines(machines(40, "first"))]]);
    first.commit(vec![vec![Change::PutNetworks(networks(1..30, 0))]]);
    steps.extend(first.close());
    let mut second = Session::open(runtime, &disk, 5).unwrap();
    second_life(&mut second);
    steps.extend(second.close());
    let mut third = Session::open(runtime, &disk, UNIX_MS + 1_000).unwrap();
    third.later(vec![count(2, 1)]);
    third.commit(vec![vec![Change::ForgetNetwork, count(2, 4)]]);
    // The store opens its database again, tries the disk, and only then goes on.
    third.refused(vec![
        put(1, "refused", 8, 5_000),
        knock(9, 5),
        raise_floor(1, 7),
    ]);
    third.commit(vec![import(8, 6, 900)]);
    steps.extend(third.close());
    let ops = disk.ops();
    Recording { base, ops, steps }
}

fn first_life(store: &mut Session<'_>) {
    store.commit(vec![vec![put(1, "own", 1, 20)]]);
    store.commit(vec![import(2, 24, 400)]);
    store.later(vec![Change::Peer(peer(3)), count(2, 3), count(3, 1)]);
    store.commit(vec![vec![knock(7, 1)]]);
    // At once: they share a transaction, and still each is whole or absent.
    let role = |id| Change::Role {
        id,
        spec: vec![7; 300],
    };
    store.commit(vec![
        vec![put(1, "a", 2, 5_000), put(1, "b", 3, 10)],
        vec![knock(7, 2), knock(8, 3), role(1)],
        vec![put(4, "c", 4, 50), role(2), Change::Peer(peer(4))],
    ]);
    store.later(vec![count(2, 5)]);
}

fn second_life(store: &mut Session<'_>) {
    store.later(vec![count(2, 1), Change::Peer(peer(5))]);
    store.commit(vec![vec![removed(1, "own", 5), put(1, "a", 6, 9_000)]]);
    // Greater than the file: it grows.
    store.commit(vec![import(6, 12, 30_000)]);
    let evicted =
        (12..20).map(|n| Change::DropEntry(entry(2, &format!("i{n}"), 0, Some(0)).slot.clone()));
    store.commit(vec![evicted.collect()]);
    floors(store);
    store.commit(vec![
        vec![Change::ForgetKnocksBefore(8), Change::ForgetRole(1)],
        vec![Change::ForgetPeer(peer(3).id), knock(9, 4), count(3, 2)],
    ]);
    store.commit(vec![vec![
        Change::ClearMachines,
        Change::PutMachines(machines(60, "second")),
    ]]);
    let gone = networks(1..4, 0).into_iter().map(|row| Removed {
        key: row.key,
        at_ms: UNIX_MS,
    });
    let gone: Vec<Removed> = gone.collect();
    let again = gone[0].key;
    // A pass: most rows with one look more, some gone.
    store.commit(vec![vec![
        Change::RemoveNetworks(gone),
        Change::PutNetworks(networks(4..30, 1)),
    ]]);
    store.commit(vec![vec![
        Change::PutNetworks(networks(1..2, 0)),
        Change::ForgetRemovals(vec![again]),
    ]]);
    store.later(vec![count(2, 1)]);
}

/// Tombstones are given up: by this node, and by others, of which one is then forgotten.
fn floors(store: &mut Session<'_>) {
    store.commit(vec![vec![removed(1, "gone", 7), removed(1, "b", 8)]]);
    let [own, others @ ..] = &COMPACTIONS;
    // As the driver writes it: in one transaction.
    store.commit(vec![own.changes()]);
    // As news of others come: write-behind, one change after the other.
    for other in others {
        store.later(other.changes());
    }
    store.commit(vec![vec![knock(8, 6)]]);
    store.later(vec![Change::DropFloor(identity(6).id())]);
}

/// A database of schema 1 after the first life, and what it holds.
pub(crate) fn before_floors(runtime: &Runtime) -> (Vec<u8>, Held) {
    let disk = Disk::new(empty_database());
    let mut session = Session::open(runtime, &disk, UNIX_MS).unwrap();
    first_life(&mut session);
    let held = session.held().clone();
    session.close();
    // Rows are the same in both schemas.
    let bytes = |name| TableDefinition::<&[u8], &[u8]>::new(name);
    let database = open_bare(&disk);
    let txn = database.begin_write().unwrap();
    assert!(txn.delete_table(bytes("floors")).unwrap());
    for later in [
        "ip_table",
        "networks",
        "network_history",
        "removed_networks",
    ] {
        assert!(txn.delete_table(bytes(later)).unwrap());
    }
    let mut meta = txn.open_table(bytes("meta")).unwrap();
    meta.insert(b"schema".as_slice(), [1, 1].as_slice())
        .unwrap();
    drop(meta);
    txn.commit().unwrap();
    drop(database);
    (disk.image(), held)
}

/// The machines of one import of an IP table.
fn machines(count: u8, name: &str) -> Vec<Arc<Row>> {
    let machine = |n| {
        let place = format!("192.0.2.{n}").parse().unwrap();
        let mut row = Row::new(place, Source::Imported);
        row.name = name.to_owned();
        row.into()
    };
    (0..count).map(machine).collect()
}

/// Networks of an explorer, after so many looks.
fn networks(which: Range<u8>, looks: u64) -> Vec<Arc<Network>> {
    let network = |n| {
        let token = Token::new(Secret::new([n; 32]), 9_000, 360).unwrap();
        let added = Networks::default().add(NewNetwork::new(token), UNIX_MS);
        let mut row = Network::clone(&added.unwrap().1);
        for look in 1..=looks {
            let reason = "nobody".to_owned();
            let silent = Outcome::Silent { reason };
            row.apply(silent, UNIX_MS + look, 0, &Policy::default(), 0);
        }
        row.into()
    };
    which.map(network).collect()
}

/// What redb itself makes: a database before the first migration.
fn empty_database() -> Vec<u8> {
    let disk = Disk::default();
    drop(open_bare(&disk));
    disk.image()
}

fn open_bare(disk: &Disk) -> Database {
    Builder::new().create_with_backend(disk.clone()).unwrap()
}

/// The rows of the table `meta`.
pub(crate) fn meta(disk: &Disk) -> BTreeMap<String, u64> {
    let definition = TableDefinition::<&[u8], &[u8]>::new("meta");
    let database = open_bare(disk);
    let txn = database.begin_read().unwrap();
    let table = txn.open_table(definition).unwrap();
    let row = |(key, value): (AccessGuard<'_, &[u8]>, AccessGuard<'_, &[u8]>)| {
        let key = String::from_utf8(key.value().to_vec()).unwrap();
        let (version, number) = value.value().split_first().unwrap();
        assert_eq!(*version, 1, "of row {key}");
        (key, postcard::from_bytes(number).unwrap())
    };
    let rows = table.iter().unwrap();
    rows.map(|both| row(both.unwrap())).collect()
}

pub(crate) fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

/// `len` bytes in `key` of node `author`; none is a removed entry.
fn entry(author: u8, key: &str, version: u64, len: Option<usize>) -> Entry {
    let draft = Draft {
        bucket: "story".parse().unwrap(),
        key: key.to_owned(),
        class: Class::Durable,
        version,
        boot: 0,
        deleted: len.is_none(),
        value: vec![author; len.unwrap_or(0)],
    };
    Entry::sign(NETWORK, &identity(author), draft).unwrap()
}

pub(crate) fn put(author: u8, key: &str, version: u64, len: usize) -> Change {
    Change::PutEntry(entry(author, key, version, Some(len)))
}

fn removed(author: u8, key: &str, version: u64) -> Change {
    Change::PutEntry(entry(author, key, version, None))
}

fn raise_floor(author: u8, floor: u64) -> Change {
    Change::PutFloor(Floor::sign(NETWORK, &identity(author), floor))
}

/// `entries` of one author, as an import brings them.
fn import(author: u8, entries: usize, len: usize) -> Vec<Change> {
    let put = |n| put(author, &format!("i{n}"), n as u64 + 1, len);
    (0..entries).map(put).collect()
}

fn peer(n: u8) -> KnownPeer {
    KnownPeer {
        id: identity(n).id(),
        name: Some("atlas".parse().unwrap()),
        addresses: vec!["192.0.2.1:7717".parse().unwrap()],
        last_seen_ms: UNIX_MS,
        boot: u64::from(n),
        learnt_at: vec!["example.org:7717".parse().unwrap()],
    }
}

fn count(n: u8, add: u64) -> Change {
    Change::Count {
        bucket: "federated".parse().unwrap(),
        node: identity(n).id(),
        add,
    }
}

fn knock(epoch: u64, n: u8) -> Change {
    Change::Knock {
        epoch,
        nonce: [n; 12],
    }
}
