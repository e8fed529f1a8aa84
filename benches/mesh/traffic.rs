//! What an idle node sends, counted by the kernel, beside what the simulator says it does.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::crowd::{contacts, settle};
use crate::daemon::{Daemon, new_token};
use crate::namespace::{Namespace, ip};
use crate::pause;
use crate::process::required;
use crate::world::{World, ms, secs};

/// Links that were only dialled on the way are closed, MTU probes and records are through.
const CALM: Duration = Duration::from_secs(30);
/// The same in the simulator, which gets the same links: short ones without loss.
const SIMULATED_SEED: u64 = 1;
const CABLE: &str = "cable";
const BRIDGE: &str = "bridge";
const PORT: u16 = 7717;

/// Machines on one bridge, which is in a namespace of its own: nothing leads anywhere else.
/// Fields are dropped in this order.
struct Lan {
    nodes: Vec<Node>,
    hub: Namespace,
}

struct Node {
    daemon: Daemon,
    /// Removed after its process has ended.
    _namespace: Namespace,
}

/// Whether namespaces can be made here; else why not.
pub(crate) fn obstacle() -> Option<String> {
    let usable = required("ip", "apt install iproute2").and_then(|_| Namespace::new("try"));
    usable.err().map(|error| error.to_string())
}

/// Bytes of an idle network of `count` nodes, each in a namespace of its own.
pub(crate) fn measure(scratch: &Path, count: usize, span: Duration) -> Result<Value> {
    let lan = Lan::start(scratch, count)?;
    let daemons: Vec<&Daemon> = lan.nodes.iter().map(|node| &node.daemon).collect();
    let settled = settle(&daemons)?;
    pause(CALM)?;
    let before = counted(&daemons)?;
    pause(span)?;
    let after = counted(&daemons)?;
    let changed = before.iter().zip(&after);
    let rates = |of: fn(&Sent) -> u64| {
        let each = changed.clone().map(|(b, a)| of(a) - of(b));
        let mut all: Vec<f64> = each.map(|n| n as f64 / span.as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (bytes, packets) = (rates(|sent| sent.bytes), rates(|sent| sent.packets));
    let simulated = simulated(count, span)?;
    let last = |all: &[f64]| all.last().copied().unwrap_or(f64::NAN);
    Ok(json!({
        "nodes": count,
        "seconds": span.as_secs(),
        "settled_ms": settled.as_secs_f64() * 1000.0,
        "bytes_per_s_p50": median(&bytes),
        "bytes_per_s_max": last(&bytes),
        "packets_per_s_p50": median(&packets),
        "simulated_bytes_per_s_p50": median(&simulated),
        "simulated_bytes_per_s_max": last(&simulated),
        "real_to_simulated": median(&bytes) / median(&simulated),
    }))
}

impl Lan {
    fn start(scratch: &Path, count: usize) -> Result<Self> {
        let hub = Namespace::new("hub")?;
        ip(&[
            "-n", &hub.0, "link", "add", "name", BRIDGE, "type", "bridge",
        ])?;
        ip(&["-n", &hub.0, "link", "set", BRIDGE, "up"])?;
        let mut lan = Self {
            nodes: Vec::new(),
            hub,
        };
        let token = new_token()?;
        for index in 0..count {
            let node = lan.node(&scratch.join(format!("{count}-{index}")), &token, index)?;
            lan.nodes.push(node);
        }
        Ok(lan)
    }

    fn node(&self, dir: &Path, token: &str, index: usize) -> Result<Node> {
        let (hub, port) = (&self.hub.0, format!("port{index}"));
        let namespace = Namespace::new(&index.to_string())?;
        let own = &namespace.0;
        ip(&[
            "link", "add", "name", &port, "netns", hub, "type", "veth", "peer", "name", CABLE,
            "netns", own,
        ])?;
        ip(&["-n", hub, "link", "set", &port, "master", BRIDGE, "up"])?;
        let address = Ipv4Addr::new(10, 77, 0, u8::try_from(index + 1)?);
        let with_net = format!("{address}/24");
        ip(&["-n", own, "address", "add", &with_net, "dev", CABLE])?;
        ip(&["-n", own, "link", "set", CABLE, "up"])?;
        let daemons: Vec<&Daemon> = self.nodes.iter().map(|node| &node.daemon).collect();
        let listen = format!("{address}:{PORT}");
        let mut args = vec!["--listen".to_owned(), listen];
        args.extend(contacts(&daemons)?);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let daemon = Daemon::start_in(&namespace, dir, token, &args)?;
        Ok(Node {
            daemon,
            _namespace: namespace,
        })
    }
}

/// What a machine has sent: bytes are UDP payload and 28 for the headers of UDP and IPv4.
struct Sent {
    bytes: u64,
    packets: u64,
}

fn counted(daemons: &[&Daemon]) -> Result<Vec<Sent>> {
    let pids = daemons.iter().map(|daemon| daemon.process.id());
    pids.map(sent).collect()
}

/// The namespace's own IPv4 counters: unlike an interface's they leave out Ethernet headers, ARP
/// and all of IPv6. Nothing but the node sends IPv4 there.
fn sent(pid: u32) -> Result<Sent> {
    Ok(Sent {
        bytes: counter(pid, "netstat", "IpExt:", "OutOctets")?,
        packets: counter(pid, "snmp", "Udp:", "OutDatagrams")?,
    })
}

/// A number from a pair of lines, names and values (proc_pid_net(5)).
fn counter(pid: u32, file: &str, group: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{file}"))?;
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = lines.next().zip(lines.next()).unwrap_or_default();
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs
        .find(|(found, _)| *found == name)
        .ok_or_else(|| format!("the kernel does not count {name}"))?;
    Ok(value.parse()?)
}

/// What each node of the simulator of `tests/sim` sends, in rising order.
fn simulated(count: usize, span: Duration) -> Result<Vec<f64>> {
    let mut world = World::large(SIMULATED_SEED);
    world.net.latency = (ms(0), ms(1));
    world.crowd(count, secs(5));
    if world.settle(secs(300)).is_none() {
        return Err(format!("{count} simulated nodes do not come to know each other").into());
    }
    world.run(CALM);
    world.reset_traffic();
    world.run(span);
    let sent = world.sent().into_iter();
    Ok(sent
        .map(|bytes| bytes as f64 / span.as_secs_f64())
        .collect())
}

/// Of a list in rising order.
fn median(all: &[f64]) -> f64 {
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
