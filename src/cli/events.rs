//! `warren events`.

use warren::Client;
use warren::formats::timestamp::Timestamp;
use warren::mesh::event::{Event, What};
use warren::mesh::id::NodeId;
use warren::mesh::name::Name;

use super::fail::Failure;
use super::output::{Output, clean};

/// Prints what happens until nobody reads, or the daemon stops.
pub(crate) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let mut lines = client.events().await?;
    while let Some(line) = lines.next().await? {
        match output.json {
            true => output.line(line)?,
            false => output.line(describe(&line))?,
        }
    }
    Err(daemon_stopped())
}

/// A stream of events has no end of its own.
pub(crate) fn daemon_stopped() -> Failure {
    Failure::failed("stopped", "the daemon stopped")
}

/// A newer daemon may send kinds that this version does not know: they are shown as they are.
fn describe(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Event>(line) else {
        return clean(line);
    };
    let what = match &event.what {
        What::NodeUp { id, name } => format!("node up       {}", who(id, name.as_ref())),
        What::NodeDown { id, name, reason } => {
            format!("node down     {}: {reason}", who(id, name.as_ref()))
        }
        What::NodeLeft { id, name } => format!("node left     {}", who(id, name.as_ref())),
        What::ServiceUp { service, id } => format!("service up    {service} at {}", id.short()),
        What::ServiceDown { service, id } => format!("service down  {service} at {}", id.short()),
        What::Ledger {
            bucket,
            key,
            author,
            deleted,
            ..
        } => {
            let change = if *deleted { "removed" } else { "written" };
            format!(
                "ledger        {bucket} {key} {change} by {}",
                author.short()
            )
        }
        What::Warning { code, message } => format!("warning       {code}: {message}"),
        What::Resolved { code } => format!("resolved      {code}"),
        _ => line.to_owned(),
    };
    clean(&format!("{}  {what}", Timestamp(event.at_ms)))
}

fn who(id: &NodeId, name: Option<&Name>) -> String {
    match name {
        Some(name) => format!("{name} ({})", id.short()),
        None => id.short(),
    }
}
