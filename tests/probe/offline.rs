//! A machine that is cut off blames nobody.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use warren::mesh::probe::{Miss, Undecided, Verdict};
use warren::service::probe::Settings;

use crate::server::{refuses, silent};
use crate::{calm, probe_all, probe_one};

/// A network of its own: a cable to a second machine, 10.9.0.2, at which nothing listens, and an
/// address on it, 10.9.0.7, from which nothing ever comes. Then this program again, inside.
const NETWORK: &str = r#"
set -e
ip link set lo up
ip link add wa type veth peer name wb
unshare -n sleep 60 & other=$!
trap 'kill $other' EXIT
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set wb netns $other
nsenter -t $other -n sh -c 'ip addr add 10.9.0.2/24 dev wb; ip link set wb up'
ip addr add 10.9.0.1/24 dev wa
ip link set wa up
ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev wa nud permanent
echo ready
"$1" --exact offline::inside --ignored --nocapture
"#;

#[tokio::test]
async fn where_there_is_no_way_nobody_is_missed() {
    // No system connects to a group of machines.
    let verdict = probe_one("224.0.0.1:9".parse().unwrap(), calm()).await;
    let no_way = matches!(verdict, Verdict::Undecided(Undecided::NoWay(_)));
    assert!(no_way, "{verdict:?}");
}

#[tokio::test]
async fn own_addresses_need_no_witness() {
    let settings = Settings {
        patience: Duration::from_millis(500),
        witness: Some(Arc::new(|_| false)),
        ..calm()
    };
    let all = probe_all(&[silent().await, refuses().await], settings).await;
    assert_eq!(all[0].verdict, Verdict::Missed(Miss::Silent));
    assert_eq!(all[1].verdict, Verdict::Missed(Miss::Refused));
}

#[test]
fn silence_counts_only_while_somebody_else_is_heard() {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-rn", "sh", "-c", NETWORK, "sh"])
        .arg(program);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return println!("left out: no unshare: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if !said.starts_with("ready") {
        return println!("left out: no network of its own: {complained}");
    }
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}{complained}");
}

#[tokio::test]
#[ignore = "runs inside the network of `silence_counts_only_while_somebody_else_is_heard`"]
async fn inside() {
    let [silent, refusing] = ["10.9.0.7:9", "10.9.0.2:9"].map(|addr| addr.parse().unwrap());
    let settings = Settings {
        patience: Duration::from_secs(1),
        ..calm()
    };
    let offline = Verdict::Undecided(Undecided::Offline);
    let missed = Verdict::Missed(Miss::Silent);
    assert_eq!(probe_one(silent, settings.clone()).await, offline);

    // The second machine refuses, so the cable works: the word of one is the witness of all.
    let all = probe_all(&[silent, refusing, silent], settings.clone()).await;
    let verdicts = all.into_iter().map(|outcome| outcome.verdict);
    let refused = Verdict::Missed(Miss::Refused);
    assert!(verdicts.eq([missed.clone(), refused, missed.clone()]));

    let witnessed = Settings {
        witness: Some(Arc::new(|_| true)),
        ..settings
    };
    assert_eq!(probe_one(silent, witnessed).await, missed);
}
