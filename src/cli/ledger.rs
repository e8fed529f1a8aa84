//! `warren ledger ls|get|put|rm|watch|export|import`.

use std::path::Path;

use warren::Client;
use warren::api::shapes::{LedgerDocument, LedgerItem};
use warren::mesh::entry::MAX_VALUE_BYTES;
use warren::mesh::event::{Event, ValueText, What};
use warren::mesh::name::Bucket;

use super::args::LedgerCommand;
use super::fail::Failure;
use super::files::{place, read};
use super::output::{Output, Table, clean, plain};
use super::{events, watch};

/// Longest export that is read back, in bytes.
const MAX_IMPORT_BYTES: u64 = 256 * 1024 * 1024;
/// Longest value shown in a table, in characters.
const SHOWN_CHARS: usize = 60;

/// Runs a ledger command.
pub(crate) async fn run(
    client: &Client,
    command: LedgerCommand,
    output: Output,
) -> Result<(), Failure> {
    match command {
        LedgerCommand::Ls { bucket } => ls(client, bucket.as_ref(), output).await,
        LedgerCommand::Get { bucket, key } => get(client, &bucket, &key, output).await,
        LedgerCommand::Put { bucket, key, value } => {
            put(client, &bucket, &key, value, output).await
        }
        LedgerCommand::Rm { bucket, key } => {
            client.ledger_remove(&bucket, &key).await?;
            match output.json {
                true => output
                    .document(&serde_json::json!({ "removed": { "bucket": bucket, "key": key } })),
                false => Ok(()),
            }
        }
        LedgerCommand::Watch { bucket } => watch(client, bucket.as_ref(), output).await,
        LedgerCommand::Export { file } => export(client, file.as_deref(), output).await,
        LedgerCommand::Import { file } => import(client, &file, output).await,
    }
}

async fn ls(client: &Client, bucket: Option<&Bucket>, output: Output) -> Result<(), Failure> {
    let list = client.ledger(bucket).await?;
    if output.json {
        return output.document(&list);
    }
    let rows = list.entries.iter().map(|entry| {
        vec![
            plain(&entry.bucket),
            plain(&entry.key),
            plain(&entry.author.short()),
            plain(&short(&entry.value)),
        ]
    });
    output.table(Table {
        header: &["bucket", "key", "author", "value"],
        rows: rows.collect(),
        empty: "no entries",
    })
}

fn short(value: &ValueText) -> String {
    match value {
        ValueText::Text(text) => match text.char_indices().nth(SHOWN_CHARS) {
            Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
            None => text.clone(),
        },
        bytes => format!(
            "({} bytes)",
            bytes.to_bytes().map_or(0, |bytes| bytes.len())
        ),
    }
}

async fn get(client: &Client, bucket: &Bucket, key: &str, output: Output) -> Result<(), Failure> {
    let value = client.ledger_get(bucket, key).await?;
    if output.json {
        return output.document(&value);
    }
    output.raw(&bytes(&value.newest)?)?;
    if matches!(value.newest.value, ValueText::Text(_)) {
        output.line("")?;
    }
    if !value.others.is_empty() {
        tracing::warn!(
            "{} other authors have a value here; --json shows them",
            value.others.len()
        );
    }
    Ok(())
}

fn bytes(item: &LedgerItem) -> Result<Vec<u8>, Failure> {
    let broken = || Failure::failed("protocol", "the value is not valid base64");
    item.value.to_bytes().ok_or_else(broken)
}

async fn put(
    client: &Client,
    bucket: &Bucket,
    key: &str,
    value: String,
    output: Output,
) -> Result<(), Failure> {
    let value = match value.as_str() {
        "-" => read(Path::new("-"), MAX_VALUE_BYTES as u64)?,
        _ => value.into_bytes(),
    };
    if value.len() > MAX_VALUE_BYTES {
        let len = value.len();
        return Err(Failure::usage(format!(
            "the value has {len} bytes, at most {MAX_VALUE_BYTES} are kept"
        )));
    }
    let item = client.ledger_put(bucket, key, value).await?;
    match output.json {
        true => output.document(&item),
        false => Ok(()),
    }
}

async fn watch(client: &Client, bucket: Option<&Bucket>, output: Output) -> Result<(), Failure> {
    let lines = client.watch_ledger(bucket).await?;
    watch::lines(lines, describe, output).await
}

fn describe(line: &str) -> String {
    match serde_json::from_str::<Event>(line).map(|event| event.what) {
        Ok(What::Ledger {
            bucket,
            key,
            author,
            deleted,
            value,
            ..
        }) => {
            let value = match (deleted, value) {
                (true, _) | (_, None) => "removed".to_owned(),
                (_, Some(value)) => format!("= {}", short(&value)),
            };
            clean(&format!("{bucket} {key} {value}  ({})", author.short()))
        }
        _ => events::describe(line),
    }
}

async fn export(client: &Client, file: Option<&Path>, output: Output) -> Result<(), Failure> {
    let document = client.ledger_export().await?;
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        return output.document(&document);
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    let refused = |e: std::io::Error| Failure::failed("io", format!("{}: {e}", path.display()));
    std::fs::write(path, text).map_err(refused)?;
    let count = document.entries.len();
    match output.json {
        true => output.document(&serde_json::json!({ "exported": count })),
        false => output.line(format!("{count} entries written to {}", path.display())),
    }
}

async fn import(client: &Client, file: &Path, output: Output) -> Result<(), Failure> {
    let document = read(file, MAX_IMPORT_BYTES)?;
    // The daemon reads it again; only here is it known which file was meant.
    if let Err(error) = serde_json::from_slice::<LedgerDocument>(&document) {
        let message = format!("{} is no export of a ledger: {error}", place(file));
        return Err(Failure::usage(message).hint("`warren ledger export` writes one"));
    }
    let imported = client.ledger_import(document).await?;
    match output.json {
        true => output.document(&imported),
        false => output.line(format!(
            "{} entries taken, {} were known or older",
            imported.taken, imported.known
        )),
    }
}
