//! Many nodes on this machine: how soon they know each other, and what they cost while idle.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Daemon, new_token};
use crate::process::until;
use crate::{Result, pause};

/// Nodes that do not all see each other after this long never will.
const PATIENCE: Duration = Duration::from_secs(180);
/// Links that were only dialled on the way are closed after this, and records are through.
const CALM: Duration = Duration::from_secs(30);
/// Nodes a newcomer is told of, at most.
const CONTACTS: usize = 3;

/// Processor time and memory of `count` idle nodes.
pub(crate) fn measure(scratch: &Path, count: usize, span: Duration) -> Result<Value> {
    let token = new_token()?;
    let mut nodes: Vec<Daemon> = Vec::new();
    for index in 0..count {
        let args = contacts(&nodes.iter().collect::<Vec<_>>())?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let dir = scratch.join(format!("crowd-{index}"));
        nodes.push(Daemon::start(&dir, &token, &args)?);
    }
    let settled = settle(&nodes.iter().collect::<Vec<_>>())?;
    pause(CALM)?;
    let spent = || -> Result<f64> {
        let each = nodes.iter().map(|node| node.process.cpu_seconds());
        each.sum()
    };
    let before = spent()?;
    pause(span)?;
    let percent = (spent()? - before) / span.as_secs_f64() * 100.0;
    let mut pss = nodes
        .iter()
        .map(|node| node.process.proportional_mib())
        .collect::<Result<Vec<_>>>()?;
    pss.sort_by(f64::total_cmp);
    let rss = nodes
        .iter()
        .map(|node| node.process.resident_mib())
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "nodes": count,
        "seconds": span.as_secs(),
        "settled_ms": settled.as_secs_f64() * 1000.0,
        "cpu_percent_all": percent,
        "pss_mib_p50": pss.get(count / 2),
        "pss_mib_max": pss.last(),
        "rss_mib_max": rss.iter().copied().fold(0.0, f64::max),
    }))
}

/// What tells a newcomer of some of those that run.
pub(crate) fn contacts(running: &[&Daemon]) -> Result<Vec<String>> {
    let mut args = Vec::new();
    for _ in 0..CONTACTS.min(running.len()) {
        let contact = running[rand::random_range(0..running.len())];
        args.extend(["--connect".to_owned(), contact.peer()?]);
    }
    Ok(args)
}

/// Waits until every node counts all as online; how long that took.
pub(crate) fn settle(nodes: &[&Daemon]) -> Result<Duration> {
    let start = Instant::now();
    let mut content = 0;
    until("all nodes see all", PATIENCE, || {
        while let Some(node) = nodes.get(content) {
            if node.online()? < nodes.len() {
                return Ok(None);
            }
            content += 1;
        }
        Ok(Some(()))
    })?;
    Ok(start.elapsed())
}
