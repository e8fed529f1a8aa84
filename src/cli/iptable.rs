//! `warren iptable ls|add|rm|probe|prune|import|export|annotate`. Each works through the daemon of the
//! data directory, or on the directory itself where none runs: [`Table`] is the one or the other.

mod probe;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use warren::api::ImportOptions;
use warren::api::shapes::{Machine, PruneRequest, TableImported};
use warren::formats::iptable::{MAX_DOCUMENT_BYTES, Options, Profile};
use warren::formats::p2prc_config::{self, MAX_CONFIG_BYTES};
use warren::mesh::ip_table::{Place, Sort};
use warren::mesh::name::Name;

use super::args::{ExportArgs, ImportArgs, IpTableCommand};
use super::confirm::confirm;
use super::fail::Failure;
use super::files::{self, NewFile};
use super::output::{Output, Table as Shown, Tone, clean, plain};
use crate::config::Config;
use table::Table;

/// Names the directory with P2PRC's `config.json`.
const P2PRC: &str = "P2PRC";

/// Runs an IP table command.
pub(crate) async fn run(
    command: IpTableCommand,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    match command {
        IpTableCommand::Ls { sort } => ls(sort, config, output).await,
        IpTableCommand::Add {
            address,
            name,
            replace,
            yes,
        } => {
            if replace && !yes {
                may_replace(&address)?;
            }
            add(address, name, replace, config, output).await
        }
        IpTableCommand::Rm { addresses } => rm(&addresses, config, output).await,
        IpTableCommand::Probe(args) => probe::run(&args, config, output).await,
        IpTableCommand::Prune { all, dry_run } => prune(all, dry_run, config, output).await,
        IpTableCommand::Import(args) => import(&args, config, output).await,
        IpTableCommand::Export(args) => export(&args, config, output).await,
        IpTableCommand::Annotate { text, address } => annotate(text, address, config, output).await,
    }
}

async fn ls(sort: Sort, config: &Config, output: Output) -> Result<(), Failure> {
    let table = Table::open_to_read(config).await?;
    let shown = async {
        if output.json {
            return table.write_json(sort, &mut io::stdout().lock()).await;
        }
        output.table(machines(table.machines(sort).await?))
    };
    let shown = shown.await;
    table.close().await.and(shown)
}

fn machines(rows: Vec<Machine>) -> Shown {
    let rows = rows.into_iter().map(|row| {
        let state = state(&row);
        let from = row.learnt_from.as_deref();
        let source = match from.and_then(|id| id.get(..12)) {
            Some(short) => format!("{} from {short}", row.source),
            None => row.source,
        };
        let own = row.measured;
        vec![
            plain(&row.name),
            plain(&row.address),
            figure(row.latency_ms, own.latency),
            figure(row.download_mbps, own.download),
            figure(row.upload_mbps, own.upload),
            state,
            plain(
                &row.measured_at
                    .map_or_else(|| "-".to_owned(), |at| at.to_string()),
            ),
            plain(&source),
        ]
    });
    Shown {
        header: &[
            "name",
            "address",
            "latency ms",
            "down mbit/s",
            "up mbit/s",
            "state",
            "seen",
            "source",
        ],
        rows: rows.collect(),
        empty: "no machines",
    }
}

fn figure(value: Option<f64>, own: bool) -> (String, Tone) {
    match (value, own) {
        (None, _) => ("-".to_owned(), Tone::Faint),
        (Some(value), true) => (format!("{value:.1}"), Tone::Plain),
        (Some(value), false) => (format!("~{value:.1}"), Tone::Faint),
    }
}

fn state(row: &Machine) -> (String, Tone) {
    use warren::mesh::ip_table::State;
    match row.state {
        State::Reachable => ("reachable".to_owned(), Tone::Good),
        State::Suspect => ("suspect".to_owned(), Tone::Bad),
        State::Unreachable => ("unreachable".to_owned(), Tone::Bad),
        State::Unknown => ("unknown".to_owned(), Tone::Faint),
    }
}

/// P2PRC replaces the table without a word.
fn may_replace(address: &Place) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let message = "--replace forgets every other machine, and nobody is here to ask";
        return Err(Failure::usage(message)
            .hint("add --yes; `warren iptable export backup.json` keeps a copy"));
    }
    match confirm(&format!("Forget every machine but {address}?"))? {
        true => Ok(()),
        false => Err(Failure::failed("refused", "nothing was done")),
    }
}

async fn add(
    address: Place,
    name: Option<Name>,
    replace: bool,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    let table = Table::open(config).await?;
    let added = table.add(&address, name, replace).await;
    table.close().await?;
    let added = added?;
    if output.json {
        return output.document(&added);
    }
    let what = if added.added { "is new" } else { "was known" };
    match added.removed {
        0 => output.line(format!("{address} {what}")),
        removed => output.line(format!(
            "{address} {what}; {removed} other machines are gone"
        )),
    }
}

async fn rm(addresses: &[Place], config: &Config, output: Output) -> Result<(), Failure> {
    let table = Table::open(config).await?;
    let removed = table.remove(addresses).await;
    table.close().await?;
    removed?;
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    match output.json {
        true => output.document(&json!({ "removed": texts })),
        false => Ok(()),
    }
}

async fn prune(all: bool, dry_run: bool, config: &Config, output: Output) -> Result<(), Failure> {
    let table = Table::open(config).await?;
    let pruned = table.prune(PruneRequest { all, dry_run }).await;
    table.close().await?;
    let pruned = pruned?;
    if output.json {
        return output.document(&pruned);
    }
    for row in &pruned.removed {
        output.line(clean(&format!("{} {}", row.address, row.name)))?;
    }
    let count = pruned.removed.len();
    match dry_run {
        true => output.line(format!("{count} machines would go")),
        false => output.line(format!("{count} machines are gone")),
    }
}

async fn import(args: &ImportArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let file = match (&args.file, &args.p2prc_config) {
        (Some(file), _) => file.clone(),
        (None, config) => p2prc_table(config.as_ref().and_then(Option::as_deref))?,
    };
    let document = files::read(&file, MAX_DOCUMENT_BYTES as u64)?;
    let options = ImportOptions {
        read: Options {
            lenient: args.lenient,
            skip_bad: args.skip_bad,
        },
        replace: args.replace,
        dry_run: args.dry_run,
    };
    let table = Table::open(config).await?;
    let imported = table.import(document, options).await;
    table.close().await?;
    // Only here is it known which file was meant.
    let imported = imported.map_err(|failure| failure.about(&files::place(&file)))?;
    for problem in &imported.problems {
        tracing::warn!("left out: {problem}");
    }
    let more = imported.skipped - imported.problems.len();
    if more > 0 {
        tracing::warn!("left out: {more} more rows");
    }
    for note in &imported.notes {
        tracing::warn!("{note}");
    }
    let more = imported.note_count - imported.notes.len();
    if more > 0 {
        tracing::warn!("{more} more notes");
    }
    match output.json {
        true => output.document(&imported),
        false => output.line(summary(&imported)),
    }
}

fn summary(done: &TableImported) -> String {
    let mut text = format!(
        "{} added, {} changed, {} as before",
        done.added, done.changed, done.unchanged
    );
    for (count, what) in [
        (done.removed, "gone"),
        (done.merged, "merged with another row"),
        (done.own, "about this node and not taken"),
        (done.skipped, "bad and left out"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let (Some(variant), Some(unit)) = (&done.variant, &done.latency_unit) {
        text.push_str(&format!("; read as {variant}, latencies in {unit}"));
    }
    if done.dry_run {
        text.push_str("; nothing was stored");
    }
    text
}

/// The table that a configuration of P2PRC names: `$P2PRC/config.json` if none is given, as P2PRC
/// itself looks for it.
fn p2prc_table(config: Option<&Path>) -> Result<PathBuf, Failure> {
    let config = match (config, std::env::var_os(P2PRC)) {
        (Some(config), _) => config.to_owned(),
        (None, Some(dir)) if !dir.is_empty() => Path::new(&dir).join("config.json"),
        (None, _) => PathBuf::from("config.json"),
    };
    let text = files::read(&config, MAX_CONFIG_BYTES as u64)?;
    let path = p2prc_config::table_path(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", files::place(&config))))?;
    Ok(match config.parent() {
        Some(dir) => dir.join(path),
        None => PathBuf::from(path),
    })
}

async fn export(args: &ExportArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let table = Table::open_to_read(config).await?;
    let written = write(&table, args.file.as_deref(), args.format).await;
    table.close().await?;
    written?;
    match &args.file {
        Some(file) if !files::is_standard(file) => match output.json {
            true => output.document(&json!({ "exported": file.to_string_lossy() })),
            false => output.line(format!("the table was written to {}", files::place(file))),
        },
        _ => Ok(()),
    }
}

async fn write(table: &Table, file: Option<&Path>, format: Profile) -> Result<(), Failure> {
    let Some(file) = file.filter(|file| !files::is_standard(file)) else {
        return table.export(format, &mut io::stdout().lock()).await;
    };
    let mut new = NewFile::create(file)?;
    let written = table.export(format, &mut new).await;
    written.map_err(|failure| failure.about(&files::place(file)))?;
    new.flush()?;
    new.finish()
}

async fn annotate(
    text: String,
    address: Option<Place>,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    let table = Table::open(config).await?;
    let said = table.annotate(text.clone(), address).await;
    table.close().await?;
    said?;
    match output.json {
        true => output.document(&json!({ "custom_information": text })),
        false => Ok(()),
    }
}
