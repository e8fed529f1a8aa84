//! The IP table's routes.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::Admin;
use crate::api::download;
use crate::api::input::{Asked, Input, read_body};
use crate::api::ip_table::ListQuery;
use crate::api::refusal::Refusal;
use crate::api::shapes::{
    AddMachine, Annotate, Machine, MachineAdded, NodeError, PruneRequest, Pruned, RemoveMachines,
    TableImported,
};
use crate::formats::iptable::{self, MAX_DOCUMENT_BYTES, Options, Profile};
use crate::mesh::ip_table::{HostError, Place};
use crate::service::ip_table::{ImportOptions, TableError};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    #[serde(default)]
    format: Profile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct ImportQuery {
    lenient: bool,
    skip_bad: bool,
    replace: bool,
    dry_run: bool,
}

pub(super) async fn list(State(admin): State<Admin>, Asked(asked): Asked<ListQuery>) -> Response {
    asked.answer(admin.control.ip_table(), None)
}

pub(super) async fn export(
    State(admin): State<Admin>,
    Asked(asked): Asked<ExportQuery>,
) -> Response {
    let table = admin.control.ip_table();
    download::json(move |out| iptable::write(out, table.rows(), asked.format))
}

pub(super) async fn import(
    State(admin): State<Admin>,
    Asked(asked): Asked<ImportQuery>,
    body: Body,
) -> Result<Json<TableImported>, Refusal> {
    let document = read_body(body, MAX_DOCUMENT_BYTES).await?;
    let options = ImportOptions {
        read: Options {
            lenient: asked.lenient,
            skip_bad: asked.skip_bad,
        },
        replace: asked.replace,
        dry_run: asked.dry_run,
    };
    let imported = admin.control.ip_table().import(document, options).await;
    let imported = imported.map_err(refused)?;
    Ok(Json(TableImported::of(&imported, asked.dry_run)))
}

pub(super) async fn add(
    State(admin): State<Admin>,
    Input(asked): Input<AddMachine>,
) -> Result<Json<MachineAdded>, Refusal> {
    let place = place(&asked.address)?;
    let table = admin.control.ip_table();
    let added = table.add(place, asked.name, asked.replace).await;
    Ok(Json(added.map_err(refused)?.into()))
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    Input(asked): Input<RemoveMachines>,
) -> Result<StatusCode, Refusal> {
    let places: Result<Vec<Place>, Refusal> = asked.addresses.iter().map(|at| place(at)).collect();
    let removed = admin.control.ip_table().remove(&places?).await;
    removed.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn prune(
    State(admin): State<Admin>,
    Input(asked): Input<PruneRequest>,
) -> Result<Json<Pruned>, Refusal> {
    let table = admin.control.ip_table();
    let removed = table
        .prune(asked.all, asked.dry_run)
        .await
        .map_err(refused)?;
    Ok(Json(Pruned {
        dry_run: asked.dry_run,
        removed: removed.iter().map(|row| Machine::from(&**row)).collect(),
    }))
}

pub(super) async fn annotate(
    State(admin): State<Admin>,
    Input(asked): Input<Annotate>,
) -> Result<StatusCode, Refusal> {
    let at = asked.address.as_deref().map(place).transpose()?;
    let said = admin.control.ip_table().annotate(asked.text, at).await;
    said.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

fn place(text: &str) -> Result<Place, Refusal> {
    text.parse()
        .map_err(|error: HostError| Refusal::usage(format!("address {text:?}: {error}")))
}

fn refused(error: TableError) -> Refusal {
    NodeError::from(error).into()
}
