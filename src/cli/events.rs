//! `warren events`.

use warren::Client;
use warren::api::shapes::{State, Update};
use warren::formats::timestamp::Timestamp;
use warren::mesh::event::{Event, What};
use warren::mesh::id::NodeId;
use warren::mesh::name::Name;

use super::fail::Failure;
use super::output::{Output, clean};
use super::watch;

/// Prints what happens until nobody reads, or the daemon stops.
pub(crate) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let lines = client.events().await?;
    watch::lines(lines, describe, output).await
}

/// An event as people read it. A newer daemon may send kinds that this version does not know: they
/// are shown as they are.
pub(crate) fn describe(line: &str) -> String {
    if let Ok(Update { at_ms, state }) = serde_json::from_str(line)
        && let State::Lagged { missed } = state
    {
        let at = Timestamp(at_ms);
        return format!("{at}  lagged        {missed} events were missed: this reader is too slow");
    }
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
