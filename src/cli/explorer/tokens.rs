//! `warren explorer tokens ls|add|edit|rm|import|export`. Tokens are printed only by `ls
//! --show-tokens` and `export`, because that is what these were asked for.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use warren::api::NetworkImport;
use warren::api::shapes::{
    AddNetwork, EditNetwork, NetworkInfo, NetworkList, NetworksImported, RemoveNetworks, TokenLine,
};
use warren::formats::explorer::{MAX_DOCUMENT_BYTES, Options};
use warren::mesh::networks::{NetworkKey, State};

use super::networks::Networks;
use crate::cli::args::{
    AddNetworkArgs, EditNetworkArgs, ExportNetworksArgs, ImportNetworksArgs, LsNetworksArgs,
    TokensCommand,
};
use crate::cli::fail::Failure;
use crate::cli::files::{self, NewFile};
use crate::cli::output::{Output, Table, Tone, plain};
use crate::config::{Config, SecretText, read_token_file};

/// Runs a command of the explorer's tokens.
pub(super) async fn run(
    command: TokensCommand,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    match command {
        TokensCommand::Ls(args) => ls(&args, config, output).await,
        TokensCommand::Add(args) => add(args, config, output).await,
        TokensCommand::Edit(args) => edit(args, config, output).await,
        TokensCommand::Rm { networks } => rm(networks, config, output).await,
        TokensCommand::Import(args) => import(&args, config, output).await,
        TokensCommand::Export(args) => export(&args, config, output).await,
    }
}

async fn ls(args: &LsNetworksArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let networks = Networks::open(config, false).await?;
    let shown = async {
        if output.json {
            let mut out = io::stdout().lock();
            let tokens = args.show_tokens;
            return networks
                .write_json(args.sort, args.state, tokens, &mut out)
                .await;
        }
        if !args.show_tokens {
            return output.table(table(&networks.list(args.sort, args.state).await?));
        }
        let mut text = Vec::new();
        networks
            .write_json(args.sort, args.state, true, &mut text)
            .await?;
        let list: NetworkList = serde_json::from_slice(&text)?;
        output.table(table(&list.networks))
    };
    let shown = shown.await;
    networks.close().await.and(shown)
}

/// The last column is the token, where there are tokens.
fn table(rows: &[NetworkInfo]) -> Table {
    let with_tokens = rows.iter().any(|row| row.token.is_some());
    let row = |row: &NetworkInfo| {
        let seen = row
            .last_seen
            .map_or_else(|| "-".to_owned(), |at| at.to_string());
        let token = row.token.as_ref().map(|token| plain(token.expose()));
        let mut cells = vec![
            plain(&row.fingerprint),
            plain(&row.name),
            state(row.state),
            plain(&row.clusters.as_ref().map_or(0, Vec::len)),
            plain(&row.workers()),
            plain(&row.failures),
            plain(&seen),
            plain(if row.publish_token { "yes" } else { "no" }),
            plain(row.last_error.as_deref().unwrap_or("-")),
        ];
        cells.extend(token);
        cells
    };
    let header: &[&str] = &[
        "network", "name", "state", "clusters", "workers", "failures", "seen", "public", "error",
        "token",
    ];
    let columns = if with_tokens {
        header.len()
    } else {
        header.len() - 1
    };
    Table {
        header: header.get(..columns).unwrap_or(header),
        rows: rows.iter().map(row).collect(),
        empty: "no networks",
    }
}

fn state(state: State) -> (String, Tone) {
    let tone = match state {
        State::Active => Tone::Good,
        State::Stale => Tone::Plain,
        State::New => Tone::Faint,
        State::Hidden => Tone::Bad,
    };
    (state.to_string(), tone)
}

async fn add(args: AddNetworkArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let token = token(args.token, args.token_file.as_deref())?;
    let asked = AddNetwork {
        token: TokenLine::new(token.expose().to_owned()),
        name: args.name,
        description: args.description,
        bootstrap: args.bootstrap,
        publish_token: args.publish,
    };
    let networks = Networks::open(config, true).await?;
    let added = networks.add(asked).await;
    networks.close().await?;
    let added = added?;
    match output.json {
        true => output.document(&added),
        false => output.line(format!("{} is new", added.fingerprint)),
    }
}

fn token(given: Option<SecretText>, file: Option<&Path>) -> Result<SecretText, Failure> {
    match (given, file) {
        (Some(text), _) if text.expose() != "-" => {
            tracing::warn!("a token on the command line shows in the list of processes");
            Ok(text)
        }
        (_, file) => Ok(read_token_file(file.unwrap_or("-".as_ref()))?),
    }
}

async fn edit(args: EditNetworkArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let bootstrap = args.no_bootstrap || !args.bootstrap.is_empty();
    let asked = EditNetwork {
        fingerprint: args.network,
        name: args.name,
        description: args.description,
        bootstrap: bootstrap.then_some(args.bootstrap),
        publish_token: args.publish,
    };
    let networks = Networks::open(config, false).await?;
    let edited = networks.edit(asked).await;
    networks.close().await?;
    let edited = edited?;
    match output.json {
        true => output.document(&edited),
        false => Ok(()),
    }
}

async fn rm(keys: Vec<NetworkKey>, config: &Config, output: Output) -> Result<(), Failure> {
    let networks = Networks::open(config, false).await?;
    let removed = networks.remove(&keys).await;
    networks.close().await?;
    removed?;
    match output.json {
        true => output.document(&RemoveNetworks { removed: keys }),
        false => Ok(()),
    }
}

async fn import(args: &ImportNetworksArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let document = files::read(&args.file, MAX_DOCUMENT_BYTES as u64)?;
    let options = NetworkImport {
        read: Options {
            skip_bad: args.skip_bad,
        },
        replace: args.replace,
        dry_run: args.dry_run,
    };
    let networks = Networks::open(config, true).await?;
    let imported = networks.import(document, options).await;
    networks.close().await?;
    // Only here is it known which file was meant.
    let imported = imported.map_err(|failure| failure.about(&files::place(&args.file)))?;
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

fn summary(done: &NetworksImported) -> String {
    let mut text = format!("{} added, {} known", done.added, done.known);
    for (count, what) in [
        (done.changed, "changed"),
        (done.removed, "gone"),
        (done.merged, "there twice and merged"),
        (done.skipped, "bad and left out"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if done.dry_run {
        text.push_str("; nothing was stored");
    }
    text
}

async fn export(args: &ExportNetworksArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let networks = Networks::open(config, false).await?;
    let written = write(&networks, args).await;
    networks.close().await?;
    written?;
    let exported = |file: &Path| -> Value { json!({ "exported": file.to_string_lossy() }) };
    match &args.file {
        Some(file) if !files::is_standard(file) => match output.json {
            true => output.document(&exported(file)),
            false => output.line(format!(
                "the networks were written to {}",
                files::place(file)
            )),
        },
        _ => Ok(()),
    }
}

async fn write(networks: &Networks, args: &ExportNetworksArgs) -> Result<(), Failure> {
    let file = args
        .file
        .as_deref()
        .filter(|file| !files::is_standard(file));
    let Some(file) = file else {
        return networks.export(args.all, &mut io::stdout().lock()).await;
    };
    let mut new = NewFile::create_private(file)?;
    let written = networks.export(args.all, &mut new).await;
    written.map_err(|failure| failure.about(&files::place(file)))?;
    new.flush()?;
    new.finish()
}
