//! What a group of batches does to the tables, in one transaction of the database.

use std::collections::BTreeMap;

use redb::{Database, WriteTransaction};

use super::batch::{Batch, knocks_before};
use super::tables::{META_PROBE, RowChange, Table, author_of, is_void, number, padding};

/// New totals of a transaction that is not yet committed.
#[derive(Default)]
pub(super) struct Staged {
    /// Totals from before it are void.
    pub(super) forgotten: bool,
    pub(super) totals: BTreeMap<Vec<u8>, u64>,
}

impl Staged {
    fn total(&self, key: &[u8], committed: &BTreeMap<Vec<u8>, u64>) -> u64 {
        let committed = if self.forgotten {
            None
        } else {
            committed.get(key)
        };
        self.totals.get(key).or(committed).copied().unwrap_or(0)
    }
}

/// Applies `batches` in one durable transaction. `totals` are the request counts so far.
pub(super) fn transact<'a>(
    database: &Database,
    batches: impl Iterator<Item = &'a Batch>,
    totals: &BTreeMap<Vec<u8>, u64>,
) -> Result<Staged, redb::Error> {
    let txn = database.begin_write()?;
    let mut staged = Staged::default();
    for batch in batches {
        apply(&txn, batch, totals, &mut staged)?;
    }
    // redb's default durability: synced when commit returns.
    txn.commit()?;
    Ok(staged)
}

fn apply(
    txn: &WriteTransaction,
    batch: &Batch,
    totals: &BTreeMap<Vec<u8>, u64>,
    staged: &mut Staged,
) -> Result<(), redb::Error> {
    if batch.forget_network {
        for table in Table::ALL {
            if table.is_of_network() {
                txn.open_table(table.definition())?.retain(|_, _| false)?;
            }
        }
        *staged = Staged {
            forgotten: true,
            ..Staged::default()
        };
    }
    if batch.knocks_before > 0 {
        let (first, end) = knocks_before(batch.knocks_before);
        txn.open_table(Table::Knocks.definition())?
            .retain_in(first.as_slice()..end.as_slice(), |_, _| false)?;
    }
    if !batch.floors.is_empty() {
        void_below(txn, &batch.floors)?;
    }
    if batch.clear_machines {
        txn.open_table(Table::Machines.definition())?
            .retain(|_, _| false)?;
    }
    for table in Table::ALL {
        let first = (table, Vec::new());
        let mut rows = batch.rows.range(first..).peekable();
        if rows.peek().is_none_or(|((next, _), _)| *next != table) {
            continue;
        }
        let mut open = txn.open_table(table.definition())?;
        for ((_, key), change) in rows.take_while(|((next, _), _)| *next == table) {
            match change {
                RowChange::Put(value) => drop(open.insert(key.as_slice(), value.as_slice())?),
                RowChange::Remove => drop(open.remove(key.as_slice())?),
                RowChange::Add(add) => {
                    let total = staged.total(key, totals).saturating_add(*add);
                    open.insert(key.as_slice(), number(total).as_slice())?;
                    staged.totals.insert(key.clone(), total);
                }
            }
        }
    }
    Ok(())
}

/// Removes the entries below the floors: one pass over the ledger for all of them, because rows
/// are in the order of buckets and floors are rare.
fn void_below(txn: &WriteTransaction, floors: &BTreeMap<[u8; 32], u64>) -> Result<(), redb::Error> {
    txn.open_table(Table::Ledger.definition())?
        .retain(|key, value| {
            let floor = author_of(key).and_then(|author| Some((author, *floors.get(author)?)));
            floor.is_none_or(|(author, floor)| !is_void(key, value, author, floor))
        })?;
    Ok(())
}

/// Writes `bytes` bytes and removes them again: proof that the disk takes as much.
pub(super) fn probe(database: &Database, bytes: usize) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    txn.open_table(Table::Meta.definition())?
        .insert(META_PROBE, padding(bytes).as_slice())?;
    txn.commit()?;
    let txn = database.begin_write()?;
    txn.open_table(Table::Meta.definition())?
        .remove(META_PROBE)?;
    Ok(txn.commit()?)
}
