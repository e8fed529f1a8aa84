//! Two namespaces with a path between them.

use std::net::Ipv4Addr;
use std::path::Path as Dir;
use std::process::Command;

use tappers::Tun;

use crate::Result;
use crate::impairer::{Impairer, Path};
use crate::namespace::{Namespace, ip};

pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const MTU: &str = "1500";
/// Packets a device keeps until the path takes them: the path has the queue that counts.
const DEVICE_QUEUE: &str = "10000";

/// Fields are dropped in this order: a namespace takes its device with it.
pub(crate) struct Line {
    pub(crate) impairer: Impairer,
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

impl Line {
    pub(crate) fn new(path: &'static Path, seed: u64) -> Result<Self> {
        let near = Namespace::new("near")?;
        let far = Namespace::new("far")?;
        let ends = [end(&near, NEAR)?, end(&far, FAR)?];
        Ok(Self {
            impairer: Impairer::start(path, seed, ends),
            near,
            far,
        })
    }
}

/// A device inside a namespace, whose packets come here.
fn end(namespace: &Namespace, address: Ipv4Addr) -> Result<Tun> {
    let mut tun = Tun::new().map_err(|error| format!("/dev/net/tun: {error}; it needs root"))?;
    tun.set_nonblocking(true)?;
    let device = tun.name()?;
    let device = device.name();
    let device = device.to_str().ok_or("a device whose name is no text")?;
    let name = namespace.0.as_str();
    ip(&["link", "set", device, "netns", name])?;
    let address = format!("{address}/24");
    ip(&["-n", name, "address", "add", &address, "dev", device])?;
    let up = ["mtu", MTU, "txqueuelen", DEVICE_QUEUE, "up"];
    ip(&[&["-n", name, "link", "set", device], &up[..]].concat())?;
    ip(&["-n", name, "link", "set", "lo", "up"])?;
    // A transfer must not know what the one before it found.
    let mut command = namespace.command(Dir::new("sysctl"));
    let set = command.args(["-qw", "net.ipv4.tcp_no_metrics_save=1"]);
    crate::process::output(set, crate::PATIENCE)?;
    Ok(tun)
}

/// This program again, inside a namespace.
pub(crate) fn ourselves(namespace: &Namespace) -> Result<Command> {
    Ok(namespace.command(&std::env::current_exe()?))
}
