//! The routes of an explorer's networks: the operator's, who may see tokens. They work in every
//! process that has the store open.

use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;

use super::Admin;
use crate::api::download;
use crate::api::input::{Asked, Input, read_body};
use crate::api::refusal::Refusal;
use crate::api::shapes::{
    AddNetwork, EditNetwork, NetworkStored, NetworksImported, NodeError, RemoveNetworks,
    write_networks,
};
use crate::formats::explorer::{self, MAX_DOCUMENT_BYTES, Options};
use crate::mesh::networks::{Edit, NewNetwork, Sort, State as Seen};
use crate::service::networks::{ImportOptions, NetworkDb, NetworksError};

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Operated {
    pub(crate) db: NetworkDb,
    /// Now, in milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
}

impl FromRef<Admin> for Operated {
    fn from_ref(admin: &Admin) -> Self {
        Self {
            db: admin.control.networks(),
            now_ms: admin.control.now().unix_ms,
        }
    }
}

/// The routes, for any server that has networks.
pub(crate) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Operated: FromRef<S>,
{
    Router::new()
        .route("/v1/networks", get(list))
        .route("/v1/networks/add", post(add))
        .route("/v1/networks/edit", post(edit))
        .route("/v1/networks/remove", post(remove))
        .route("/v1/networks/export", get(export))
        .route("/v1/networks/import", post(import))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    state: Option<Seen>,
    #[serde(default)]
    tokens: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportQuery {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ImportQuery {
    skip_bad: bool,
    replace: bool,
    dry_run: bool,
}

async fn list(State(operated): State<Operated>, Asked(asked): Asked<ListQuery>) -> Response {
    let networks = operated.db.networks();
    download::json(move |out| {
        let rows = networks.sorted(asked.sort).iter();
        let rows = rows.filter(|row| asked.state.is_none_or(|state| row.state == state));
        write_networks(out, rows.map(|row| &**row), asked.tokens)
    })
}

async fn export(State(operated): State<Operated>, Asked(asked): Asked<ExportQuery>) -> Response {
    let networks = operated.db.networks();
    download::json(move |out| {
        let rows = networks.iter().filter(|row| asked.all || row.publish_token);
        explorer::write(out, rows.map(|row| &**row), &[])
    })
}

async fn import(
    State(operated): State<Operated>,
    Asked(asked): Asked<ImportQuery>,
    body: Body,
) -> Result<Json<NetworksImported>, Refusal> {
    let document = read_body(body, MAX_DOCUMENT_BYTES).await?;
    let options = ImportOptions {
        read: Options {
            skip_bad: asked.skip_bad,
        },
        replace: asked.replace,
        dry_run: asked.dry_run,
    };
    let Operated { db, now_ms } = operated;
    let imported = db.import(document, options, now_ms).await;
    let imported = imported.map_err(refused)?;
    Ok(Json(NetworksImported::of(&imported, asked.dry_run)))
}

async fn add(
    State(operated): State<Operated>,
    Input(asked): Input<AddNetwork>,
) -> Result<Json<NetworkStored>, Refusal> {
    let Operated { db, now_ms } = operated;
    let stored = add_network(&db, asked, now_ms).await;
    Ok(Json(stored.map_err(refused)?))
}

async fn edit(
    State(operated): State<Operated>,
    Input(asked): Input<EditNetwork>,
) -> Result<Json<NetworkStored>, Refusal> {
    let Operated { db, now_ms } = operated;
    let stored = edit_network(&db, asked, now_ms).await;
    Ok(Json(stored.map_err(refused)?))
}

async fn remove(
    State(operated): State<Operated>,
    Input(asked): Input<RemoveNetworks>,
) -> Result<StatusCode, Refusal> {
    let Operated { db, now_ms } = operated;
    let removed = db.remove(&asked.removed, now_ms).await;
    removed.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a network in as its operator asks.
///
/// # Errors
/// [`NetworksError`]; nothing was changed.
pub async fn add_network(
    db: &NetworkDb,
    asked: AddNetwork,
    now_ms: u64,
) -> Result<NetworkStored, NetworksError> {
    let token = db.read_token(asked.token.expose()).await?;
    let new = NewNetwork {
        name: asked.name,
        description: asked.description,
        bootstrap: asked.bootstrap,
        publish_token: asked.publish_token,
        ..NewNetwork::new(token)
    };
    Ok(NetworkStored::from(&*db.add(new, now_ms).await?))
}

/// Changes a network as its operator asks.
///
/// # Errors
/// [`NetworksError`]; nothing was changed.
pub async fn edit_network(
    db: &NetworkDb,
    asked: EditNetwork,
    now_ms: u64,
) -> Result<NetworkStored, NetworksError> {
    let edit = Edit {
        name: asked.name,
        description: asked.description,
        bootstrap: asked.bootstrap,
        publish_token: asked.publish_token,
        token: None,
    };
    let row = db.edit(&asked.fingerprint, edit, now_ms).await?;
    Ok(NetworkStored::from(&*row))
}

fn refused(error: NetworksError) -> Refusal {
    NodeError::from(error).into()
}
