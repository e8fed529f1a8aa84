//! The IP table of the data directory, through its daemon or by itself.

use std::io::{BufWriter, Write};
use std::path::Path;

use warren::api::probe::probe;
use warren::api::shapes::{
    Machine, MachineAdded, NodeError, ProbeRequest, PruneRequest, Pruned, TableImported,
    write_machines,
};
use warren::api::{ImportOptions, MeshSide, TableError};
use warren::formats::iptable::{self, Profile};
use warren::mesh::ip_table::{Place, Row, Sort};
use warren::mesh::name::Name;
use warren::{Client, IpTable};

use super::probe::Probing;
use crate::cli::fail::Failure;
use crate::cli::reach::{Reach, copy, reach};
use crate::config::Config;

/// The table, as far as this command can reach it.
pub(super) enum Table {
    /// A daemon has it.
    Daemon(Client),
    /// No daemon runs: the directory is locked by this command.
    Here(IpTable),
    /// There is none yet, and none is made to read it.
    None,
}

impl Table {
    /// The table, made if there is none.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        Self::find(config.data_dir()?, true).await
    }

    /// The table, or nothing.
    pub(super) async fn open_to_read(config: &Config) -> Result<Self, Failure> {
        Self::find(config.data_dir()?, false).await
    }

    async fn find(dir: &Path, make: bool) -> Result<Self, Failure> {
        let open = |now_unix_ms| IpTable::open(dir, now_unix_ms).map_err(NodeError::from);
        Ok(
            match reach(dir, make || IpTable::exists(dir), open).await? {
                Reach::Daemon(client) => Self::Daemon(client),
                Reach::Here(table) => Self::Here(table),
                Reach::None => Self::None,
            },
        )
    }

    /// Lets go of the directory.
    pub(super) async fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Here(table) => table.close().await.map_err(refused),
            _ => Ok(()),
        }
    }

    pub(super) async fn machines(&self, sort: Sort) -> Result<Vec<Machine>, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.ip_table(sort).await?.ip_table),
            Self::Here(table) => {
                let mut rows = table.rows();
                sort.sort(&mut rows);
                Ok(rows.iter().map(|row| Machine::from(&**row)).collect())
            }
            Self::None => Ok(Vec::new()),
        }
    }

    pub(super) async fn write_json(&self, sort: Sort, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => copy(client.ip_table_json(sort).await?, out).await,
            _ => {
                let mut rows = self.rows();
                sort.sort(&mut rows);
                let mut out = BufWriter::new(out);
                write_machines(&mut out, rows)?;
                Ok(out.flush()?)
            }
        }
    }

    pub(super) async fn export(
        &self,
        format: Profile,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => copy(client.ip_table_export(format).await?, out).await,
            _ => {
                let mut out = BufWriter::new(out);
                iptable::write(&mut out, self.rows(), format)?;
                Ok(out.flush()?)
            }
        }
    }

    pub(super) async fn import(
        &self,
        document: Vec<u8>,
        options: ImportOptions,
    ) -> Result<TableImported, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.ip_table_import(document, options).await?),
            Self::Here(table) => {
                let imported = table.import(document, options).await.map_err(refused)?;
                Ok(TableImported::of(&imported, options.dry_run))
            }
            Self::None => Err(nothing()),
        }
    }

    pub(super) async fn add(
        &self,
        place: &Place,
        name: Option<Name>,
        replace: bool,
    ) -> Result<MachineAdded, Failure> {
        match self {
            Self::Daemon(client) => {
                let address = place.to_string();
                Ok(client.ip_table_add(address, name, replace).await?)
            }
            Self::Here(table) => {
                let added = table.add(place.clone(), name, replace).await;
                Ok(added.map_err(refused)?.into())
            }
            Self::None => Err(nothing()),
        }
    }

    pub(super) async fn remove(&self, places: &[Place]) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => {
                let addresses = places.iter().map(ToString::to_string).collect();
                Ok(client.ip_table_remove(addresses).await?)
            }
            Self::Here(table) => table.remove(places).await.map_err(refused),
            Self::None => Err(nothing()),
        }
    }

    pub(super) async fn prune(&self, asked: PruneRequest) -> Result<Pruned, Failure> {
        match self {
            Self::Daemon(client) => Ok(client.ip_table_prune(asked).await?),
            Self::Here(table) => {
                let gone = table
                    .prune(asked.all, asked.dry_run)
                    .await
                    .map_err(refused)?;
                Ok(Pruned {
                    dry_run: asked.dry_run,
                    removed: gone.iter().map(|row| Machine::from(&**row)).collect(),
                })
            }
            Self::None => Err(nothing()),
        }
    }

    pub(super) async fn probe(&self, request: &ProbeRequest) -> Result<Probing, Failure> {
        match self {
            Self::Daemon(client) => Ok(Probing::Daemon(client.ip_table_probe(request).await?)),
            Self::Here(table) => {
                let lines = probe(table, MeshSide::default(), request)?;
                Ok(Probing::Here(lines))
            }
            Self::None if request.addresses.is_empty() => Ok(Probing::nothing()),
            Self::None => Err(nothing()),
        }
    }

    pub(super) async fn annotate(&self, text: String, place: Option<Place>) -> Result<(), Failure> {
        match self {
            Self::Daemon(client) => {
                let address = place.map(|place| place.to_string());
                Ok(client.ip_table_annotate(text, address).await?)
            }
            Self::Here(table) => table.annotate(text, place).await.map_err(refused),
            Self::None => Err(nothing()),
        }
    }

    fn rows(&self) -> Vec<std::sync::Arc<Row>> {
        match self {
            Self::Here(table) => table.rows(),
            _ => Vec::new(),
        }
    }
}

fn refused(error: TableError) -> Failure {
    NodeError::from(error).into()
}

fn nothing() -> Failure {
    Failure::failed("not_found", "there is no table")
}
