//! Where a tunnel's two ends are: both on loopback, or in two network namespaces with one cable.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::namespace::{Namespace, ip};

/// What ordinary Ethernet carries.
const MTU: &str = "1500";
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The near end has the clients, the far end the servers.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) near: Side,
    pub(crate) far: Side,
}

impl Place {
    pub(crate) fn loopback() -> Self {
        let side = || Side {
            ip: Ipv4Addr::LOCALHOST,
            namespace: None,
        };
        Self {
            name: "loopback",
            near: side(),
            far: side(),
        }
    }

    /// Makes the namespaces and the cable; needs root.
    pub(crate) fn veth() -> Result<Self> {
        let near = Namespace::new("near")?;
        let far = Namespace::new("far")?;
        ip(&[
            "link", "add", "name", "cable", "mtu", MTU, "netns", &near.0, "type", "veth", "peer",
            "name", "cable", "mtu", MTU, "netns", &far.0,
        ])?;
        for (namespace, address) in [(&near, NEAR), (&far, FAR)] {
            let name = &namespace.0;
            let address = format!("{address}/24");
            ip(&["-n", name, "address", "add", &address, "dev", "cable"])?;
            ip(&["-n", name, "link", "set", "cable", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let side = |ip, namespace| Side {
            ip,
            namespace: Some(namespace),
        };
        Ok(Self {
            name: "veth",
            near: side(NEAR, near),
            far: side(FAR, far),
        })
    }

    /// Whether the two ends are in namespaces of their own: they hear each other's multicast,
    /// and nothing leads anywhere else.
    pub(crate) fn is_closed(&self) -> bool {
        self.near.namespace.is_some()
    }
}

/// One end.
pub(crate) struct Side {
    /// Its address on the path between the ends.
    pub(crate) ip: Ipv4Addr,
    namespace: Option<Namespace>,
}

impl Side {
    /// A command that runs at this end, with a home of its own and no environment but `PATH`.
    pub(crate) fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => namespace.command(program),
        };
        command.env_clear().env("HOME", home);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }
}
