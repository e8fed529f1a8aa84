//! `warren status`.

use warren::Client;
use warren::node::Status;

use super::daemon::role_line;
use super::fail::Failure;
use super::output::{Output, Table, clean, plain};

/// Prints how the daemon is; problems come first.
pub(crate) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let status = client.status().await?;
    if output.json {
        return output.document(&status);
    }
    for problem in &status.problems {
        output.line(format!(
            "PROBLEM  {}: {}",
            problem.code,
            clean(&problem.message)
        ))?;
    }
    if !status.problems.is_empty() {
        output.line("")?;
    }
    print_node(&status, output)?;
    print_usage(&status, output)?;
    if !status.refused.is_empty() {
        let refused = status
            .refused
            .iter()
            .map(|(why, count)| format!("{why} {count}"));
        output.line(format!(
            "refused  {}",
            refused.collect::<Vec<_>>().join(", ")
        ))?;
    }
    Ok(())
}

fn print_node(status: &Status, output: Output) -> Result<(), Failure> {
    output.line(format!("node     {} ({})", status.name, status.id.short()))?;
    let up = span(status.uptime_s);
    output.line(format!(
        "state    {} for {up}, process {}",
        status.state, status.pid
    ))?;
    let id = status.network_id.as_ref();
    let group = id
        .map(|id| format!(", network id {id}"))
        .unwrap_or_default();
    output.line(format!("network  {}{group}", status.network))?;
    output.line(format!(
        "nodes    {} online of {} known",
        status.nodes_online, status.nodes_known
    ))?;
    for at in &status.udp {
        output.line(format!("udp      {at}"))?;
    }
    if status.shards > 1 {
        output.line(format!(
            "shards   {}; {} datagrams came to another one's socket",
            status.shards, status.steered
        ))?;
    }
    if let Some(at) = status.http {
        output.line(format!("http     http://{at}"))?;
    }
    if let Some(at) = status.p2prc_http {
        output.line(format!("p2prc    http://{at}"))?;
    }
    for role in &status.roles {
        output.line(format!("role {:<3} {}", role.id, role_line(role)))?;
    }
    output.line(format!("version  {}", clean(&status.version)))
}

fn print_usage(status: &Status, output: Output) -> Result<(), Failure> {
    if status.usage.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let rows = status.usage.iter().map(|usage| {
        vec![
            plain(&usage.service),
            plain(&usage.node.short()),
            plain(&usage.in_flight),
            plain(&usage.served),
        ]
    });
    output.table(Table {
        header: &["service", "node", "in flight", "served"],
        rows: rows.collect(),
        empty: "",
    })
}

/// Seconds as people say them: the two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_have_two_units() {
        assert_eq!(super::span(59), "59 s");
        assert_eq!(super::span(61), "1 min 1 s");
        assert_eq!(super::span(7_200), "2 h 0 min");
        assert_eq!(super::span(90_000), "1 d 1 h");
    }
}
