//! Ten thousand connections that have nothing to say: what it costs to keep a tunnel open.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::own::ECHO;
use crate::place::Place;
use crate::{Result, print};

/// Connections that are to be open at once.
pub(crate) const CONNECTIONS: usize = 10_000;
/// How long they may take to be open, all together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long they stay open, if nobody ends the client before.
const HELD: Duration = Duration::from_secs(60);
/// Connections being opened at a time.
const AT_ONCE: usize = 64;
/// How long a byte may take there and back.
const GRACE: Duration = Duration::from_secs(10);
/// After so many that failed no more are tried.
const FAILURES: usize = AT_ONCE;
/// With this argument the benchmark is the client.
pub(crate) const ROLE: &str = "idle-client";

/// This program again, at the near end, as the client of so many connections. It says how many
/// are open; if they are many it keeps them.
pub(crate) fn client(
    place: &Place,
    entry: SocketAddr,
    count: usize,
    dir: &Path,
) -> Result<Command> {
    let mut command = place.near.command(&std::env::current_exe()?, dir);
    command.args([ROLE, &entry.to_string(), &count.to_string()]);
    Ok(command)
}

/// The client: prints how many are open.
pub(crate) fn role(args: &[String]) -> Result<()> {
    let [entry, count] = args else {
        return Err("an address and a count".into());
    };
    let (entry, count) = (entry.parse()?, count.parse::<usize>()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (open, why) = open(entry, count).await;
        if count == 1 && open.is_empty() {
            return Err(why.into());
        }
        print(&json!({ "open": open.len(), "why": why }))?;
        if count > 1 {
            tokio::time::sleep(HELD).await;
        }
        drop(open);
        Ok(())
    })
}

/// Opens `count` connections; those that are open, and why the others are not.
async fn open(entry: SocketAddr, count: usize) -> (Vec<TcpStream>, String) {
    let mut opening = futures_util::stream::iter(0..count)
        .map(|_| async move { timeout(GRACE, open_one(entry)).await })
        .buffer_unordered(AT_ONCE);
    let (mut open, mut failed, mut why) = (Vec::new(), 0, String::new());
    while let Some(opened) = opening.next().await {
        match opened {
            Ok(Ok(stream)) => {
                open.push(stream);
                continue;
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no byte came back within {} s", GRACE.as_secs()),
        }
        failed += 1;
        if failed == FAILURES {
            break;
        }
    }
    (open, why)
}

/// Opens one, and makes sure that it leads to the server.
async fn open_one(entry: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(entry).await?;
    stream.write_all(&[ECHO, b'x']).await?;
    stream.read_u8().await?;
    Ok(stream)
}
