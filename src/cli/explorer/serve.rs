//! `warren explorer serve`: runs an explorer until somebody asks it to end. It has no part in any
//! network.
//!
//! Exit code 0 after a clean end; 130 or 143 when a second signal cut it short.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;

use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warren::api::explorer::{Explorer, Setup};

use crate::cli::args::ServeArgs;
use crate::cli::fail::Failure;
use crate::cli::orphaned::Orphaned;
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::cli::supervisor::Supervisor;
use crate::cli::tls;
use crate::config::{Config, PerSecond};

/// LocalAI's `:8080`, IPv4 and IPv6.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);
/// Networks that a client may post in a second.
const ADD_RATE: PerSecond = PerSecond(Some(1.0));

/// `--print-ready`: the contract of `schema/ready.schema.json`, for a process that is no node.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    node_id: Option<String>,
    udp: [String; 0],
    http: Option<String>,
    ingress: [String; 0],
    explorer: String,
}

/// Serves until a signal, `warren stop`, or the end of standard input where that counts; with
/// `--only-sync` serves nothing, and looks once at every network.
pub(super) async fn run(args: &ServeArgs, config: &Config, output: Output) -> Result<u8, Failure> {
    #[cfg(feature = "p2p")]
    if config.set.only_sync == Some(true) {
        return super::sync::once(config, output).await;
    }
    #[cfg(not(feature = "p2p"))]
    if config.set.only_sync == Some(true) || config.set.with_sync == Some(true) {
        return Err(crate::cli::without_mesh());
    }
    let mut signals = Signals::new()?;
    let mut supervisor = Supervisor::new();
    let explorer = Explorer::start(setup(config)?).await?;
    let address = explorer.address();
    match announce(&explorer, config, output) {
        // An explorer whose first lines nobody reads is still one.
        Err(Failure::OutputClosed) => {}
        other => other?,
    }
    supervisor.ready(format!("explorer on {address}"));
    let stop = CancellationToken::new();
    let mut orphaned = Orphaned::new(args.exit_with_stdin);
    let mut running = pin!(explorer.run(stop.clone()));
    tokio::select! {
        ended = &mut running => return Ok(ended.map(|()| 0)?),
        _ = signals.next() => tracing::info!("stopping; a second signal ends at once"),
        () = orphaned.wait() => tracing::info!("standard input closed; stopping"),
        never = supervisor.keep_alive() => never,
    }
    supervisor.stopping();
    stop.cancel();
    tokio::select! {
        ended = timeout(config.drain_timeout(), &mut running) => match ended {
            Ok(ended) => Ok(ended.map(|()| 0)?),
            Err(_) => Err(Failure::failed("timeout", "the explorer did not end in time")),
        },
        asked = signals.next() => Ok(asked.exit_code()),
        never = supervisor.keep_alive() => never,
    }
}

fn setup(config: &Config) -> Result<Setup, Failure> {
    let set = &config.set;
    Ok(Setup {
        dir: config.data_dir()?.to_owned(),
        address: set.address.map_or(ADDRESS, |address| address.0),
        held: config.held(),
        pool: set.pool_database.clone(),
        tls: tls::spec(set)?,
        add_rate: set.add_rate.unwrap_or(ADD_RATE).0,
        publish_tokens: set.never_publish_tokens != Some(true),
        #[cfg(feature = "p2p")]
        looks: super::sync::settings(config)?,
        #[cfg(feature = "p2p")]
        with_sync: set.with_sync == Some(true),
    })
}

fn announce(explorer: &Explorer, config: &Config, output: Output) -> Result<(), Failure> {
    let address = explorer.address();
    if config.set.print_ready == Some(true) || output.json {
        return output.document(&Ready {
            event: "ready",
            node_id: None,
            udp: [],
            http: None,
            ingress: [],
            explorer: address.to_string(),
        });
    }
    let scheme = match tls::spec(&config.set)? {
        Some(_) => "https",
        None => "http",
    };
    let host = match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    output.line(format!("explorer {scheme}://{host}"))?;
    let networks = explorer.networks().networks().len();
    output.line(format!("networks {networks}"))?;
    match config.set.with_sync {
        Some(true) => Ok(()),
        _ => output.line("\nNetworks are listed, and not looked at: --with-sync does that, too."),
    }
}
