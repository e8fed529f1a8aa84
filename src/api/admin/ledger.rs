//! The ledger's routes.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use super::Admin;
use crate::api::input::{Asked, MAX_IMPORT_BYTES, Raw, parse, read_body};
use crate::api::refusal::Refusal;
use crate::api::shapes::{
    Imported, LedgerDocument, LedgerItem, LedgerList, LedgerValue, NodeError,
};
use crate::mesh::name::Bucket;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BucketQuery {
    pub(super) bucket: Option<Bucket>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryQuery {
    bucket: Bucket,
    key: String,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(asked): Asked<BucketQuery>,
) -> Result<Json<LedgerList>, Refusal> {
    let entries = admin.control.ledger_list(asked.bucket).await?;
    Ok(Json(LedgerList {
        entries: entries.iter().map(LedgerItem::from).collect(),
    }))
}

pub(super) async fn get(
    State(admin): State<Admin>,
    Asked(EntryQuery { bucket, key }): Asked<EntryQuery>,
) -> Result<Json<LedgerValue>, Refusal> {
    let nothing = || NodeError::new("not_found", format!("{bucket} has nothing under {key:?}"));
    let entries = admin
        .control
        .ledger_get(bucket.clone(), key.clone())
        .await?;
    let value = LedgerValue::of(&entries).ok_or_else(nothing)?;
    Ok(Json(value))
}

pub(super) async fn put(
    State(admin): State<Admin>,
    Asked(EntryQuery { bucket, key }): Asked<EntryQuery>,
    Raw(value): Raw,
) -> Result<Json<LedgerItem>, Refusal> {
    let entry = admin.control.ledger_put(bucket, key, value.into()).await?;
    Ok(Json(LedgerItem::from(&entry)))
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    Asked(EntryQuery { bucket, key }): Asked<EntryQuery>,
) -> Result<StatusCode, Refusal> {
    admin.control.ledger_remove(bucket, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn export(State(admin): State<Admin>) -> Result<Json<LedgerDocument>, Refusal> {
    let entries = admin.control.ledger_export().await?;
    let network = admin.control.status().network;
    Ok(Json(LedgerDocument::of(network, &entries)))
}

pub(super) async fn import(
    State(admin): State<Admin>,
    body: Body,
) -> Result<Json<Imported>, Refusal> {
    let document: LedgerDocument = parse(&read_body(body, MAX_IMPORT_BYTES).await?)?;
    let entries = document.into_entries(&admin.control.status().network)?;
    let (taken, known) = admin.control.ledger_import(entries).await?;
    Ok(Json(Imported { taken, known }))
}
