//! The networks of the data directory, through the process that has it open or by itself.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use warren::NetworkDb;
use warren::api::admin::{add_network, edit_network};
use warren::api::shapes::{
    AddNetwork, EditNetwork, NetworkInfo, NetworkStored, NetworksImported, NodeError,
    write_networks,
};
use warren::api::{NetworkImport, NetworksError};
use warren::clock::Clock;
use warren::formats::explorer;
use warren::mesh::networks::{Network, NetworkKey, Sort, State};

use crate::cli::fail::Failure;
use crate::cli::reach::{Reach, copy, reach};
use crate::config::Config;

/// The networks, as far as this command can reach them.
pub(super) struct Networks(Reach<NetworkDb>);

impl Networks {
    /// The networks; without `make` no database is made for them.
    pub(super) async fn open(config: &Config, make: bool) -> Result<Self, Failure> {
        let dir = config.data_dir()?;
        let open =
            |now_unix_ms| NetworkDb::open(dir, config.held(), now_unix_ms).map_err(NodeError::from);
        reach(dir, make || NetworkDb::exists(dir), open)
            .await
            .map(Self)
    }

    /// What was reached.
    #[cfg(feature = "p2p")]
    pub(super) fn reached(self) -> Reach<NetworkDb> {
        self.0
    }

    /// Lets go of the directory.
    pub(super) async fn close(&self) -> Result<(), Failure> {
        match &self.0 {
            Reach::Here(db) => db.close().await.map_err(refused),
            _ => Ok(()),
        }
    }

    pub(super) async fn list(
        &self,
        sort: Sort,
        state: Option<State>,
    ) -> Result<Vec<NetworkInfo>, Failure> {
        match &self.0 {
            Reach::Daemon(client) => Ok(client.networks(sort, state).await?.networks),
            _ => {
                let rows = self.rows(sort, state);
                Ok(rows.iter().map(|row| NetworkInfo::of(row, false)).collect())
            }
        }
    }

    pub(super) async fn write_json(
        &self,
        sort: Sort,
        state: Option<State>,
        tokens: bool,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        match &self.0 {
            Reach::Daemon(client) => {
                copy(client.networks_json(sort, state, tokens).await?, out).await
            }
            _ => {
                let mut out = BufWriter::new(out);
                let rows = self.rows(sort, state);
                write_networks(&mut out, rows.iter().map(|row| &**row), tokens)?;
                Ok(out.flush()?)
            }
        }
    }

    pub(super) async fn export(&self, all: bool, out: &mut impl Write) -> Result<(), Failure> {
        match &self.0 {
            Reach::Daemon(client) => copy(client.networks_export(all).await?, out).await,
            _ => {
                let mut out = BufWriter::new(out);
                let rows = self.rows(Sort::default(), None);
                let rows = rows.iter().filter(|row| all || row.publish_token);
                explorer::write(&mut out, rows.map(|row| &**row), &[])?;
                Ok(out.flush()?)
            }
        }
    }

    pub(super) async fn import(
        &self,
        document: Vec<u8>,
        options: NetworkImport,
    ) -> Result<NetworksImported, Failure> {
        match &self.0 {
            Reach::Daemon(client) => Ok(client.networks_import(document, options).await?),
            Reach::Here(db) => {
                let imported = db.import(document, options, now_ms()).await;
                let imported = imported.map_err(refused)?;
                Ok(NetworksImported::of(&imported, options.dry_run))
            }
            Reach::None => Err(nothing()),
        }
    }

    pub(super) async fn add(&self, asked: AddNetwork) -> Result<NetworkStored, Failure> {
        match &self.0 {
            Reach::Daemon(client) => Ok(client.network_add(&asked).await?),
            Reach::Here(db) => add_network(db, asked, now_ms()).await.map_err(refused),
            Reach::None => Err(nothing()),
        }
    }

    pub(super) async fn edit(&self, asked: EditNetwork) -> Result<NetworkStored, Failure> {
        match &self.0 {
            Reach::Daemon(client) => Ok(client.network_edit(&asked).await?),
            Reach::Here(db) => edit_network(db, asked, now_ms()).await.map_err(refused),
            Reach::None => Err(nothing()),
        }
    }

    pub(super) async fn remove(&self, keys: &[NetworkKey]) -> Result<(), Failure> {
        match &self.0 {
            Reach::Daemon(client) => Ok(client.networks_remove(keys.to_vec()).await?),
            Reach::Here(db) => db.remove(keys, now_ms()).await.map_err(refused),
            Reach::None => Err(nothing()),
        }
    }

    fn rows(&self, sort: Sort, state: Option<State>) -> Vec<Arc<Network>> {
        let Reach::Here(db) = &self.0 else {
            return Vec::new();
        };
        let networks = db.networks();
        let rows = networks.sorted(sort).iter();
        let rows = rows.filter(|row| state.is_none_or(|state| row.state == state));
        rows.cloned().collect()
    }
}

fn now_ms() -> u64 {
    Clock::default().now().unix_ms
}

fn refused(error: NetworksError) -> Failure {
    NodeError::from(error).into()
}

fn nothing() -> Failure {
    Failure::failed("not_found", "no networks are known")
}
