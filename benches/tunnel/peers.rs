//! The tunnels: how each is found and started. Settings are each program's defaults.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::options::Options;
use crate::place::{Place, Side};
use crate::process::{Process, free_port, on_path, output};

const WARREN: &str = env!("CARGO_BIN_EXE_warren");
/// How long a process may take until it says that it is ready. dumbpipe first waits 5 s for a
/// relay, which may be out of reach.
const PATIENCE: Duration = Duration::from_secs(20);
/// bore's control port is fixed. An address of loopback that nobody else has keeps it apart.
const BORE_CONTROL: Ipv4Addr = Ipv4Addr::new(127, 77, 18, 35);

/// A kind of tunnel.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) encrypted: bool,
    /// What it needs on the `PATH`.
    programs: &'static [&'static str],
    install: &'static str,
    start: fn(&Site<'_>) -> Result<Tunnel>,
}

const RATHOLE: &str = "cargo install rathole (without --locked: its lock file is too old)";
const FRP: &str = "frps and frpc from https://github.com/fatedier/frp/releases";

/// In the order of the table's columns.
pub(crate) const ALL: &[Peer] = &[
    peer("direct", false, &[], "", direct),
    peer("warren", true, &[], "", warren),
    peer("rathole", false, &["rathole"], RATHOLE, rathole_plain),
    peer("rathole-noise", true, &["rathole"], RATHOLE, rathole_noise),
    peer("bore", false, &["bore"], "cargo install bore-cli", bore),
    peer(
        "dumbpipe",
        true,
        &["dumbpipe"],
        "cargo install dumbpipe",
        dumbpipe,
    ),
    peer("frp", true, &["frps", "frpc"], FRP, frp_tcp),
    peer("frp-quic", true, &["frps", "frpc"], FRP, frp_quic),
    peer(
        "chisel",
        true,
        &["chisel"],
        "https://github.com/jpillora/chisel/releases",
        chisel,
    ),
    peer(
        "edgevpn",
        true,
        &["edgevpn"],
        "https://github.com/mudler/edgevpn/releases",
        edgevpn,
    ),
];

const fn peer(
    name: &'static str,
    encrypted: bool,
    programs: &'static [&'static str],
    install: &'static str,
    start: fn(&Site<'_>) -> Result<Tunnel>,
) -> Peer {
    Peer {
        name,
        encrypted,
        programs,
        install,
        start,
    }
}

impl Peer {
    /// Starts it towards `target`, in directory `dir` that nobody else uses. It may take a while
    /// yet until it carries anything.
    pub(crate) fn start(&self, place: &Place, target: SocketAddr, dir: &Path) -> Result<Tunnel> {
        fs::create_dir_all(dir)?;
        (self.start)(&Site { place, target, dir })
    }

    /// Why it cannot run there, if it cannot.
    pub(crate) fn unfit(&self, place: &Place, options: &Options) -> Option<&'static str> {
        match self.name {
            "edgevpn" if !place.is_closed() => {
                Some("finds its peers by multicast: only with --veth")
            }
            // A benchmark must not speak to the internet unasked.
            "dumbpipe" if !place.is_closed() && !options.names_tunnel(self.name) => {
                Some("looks for its relays on the internet: with --veth, or named by --only")
            }
            _ => None,
        }
    }

    /// The first word that its program prints and that looks like one.
    fn version(&self) -> Option<String> {
        let program = match self.name {
            "direct" => return None,
            "warren" => PathBuf::from(WARREN),
            _ => on_path(self.programs.first()?)?,
        };
        let mut command = Command::new(program);
        command.arg("--version");
        let text = output(&mut command, PATIENCE).ok()?;
        text.split_whitespace()
            .find(|word| is_version(word))
            .map(str::to_owned)
    }
}

/// Three numbers with dots; anything may follow.
fn is_version(word: &str) -> bool {
    let parts: Vec<&str> = word.trim_start_matches('v').splitn(3, '.').collect();
    matches!(parts[..], [major, minor, _] if [major, minor].iter().all(|n| n.parse::<u32>().is_ok()))
}

/// Who runs, and who does not.
pub(crate) struct Lineup {
    pub(crate) present: Vec<&'static Peer>,
    /// Name and version of those present that have one.
    pub(crate) versions: Vec<(&'static str, String)>,
    /// Name of those missing and how to install them.
    pub(crate) missing: Vec<(&'static str, &'static str)>,
}

impl Lineup {
    pub(crate) fn found(options: &Options) -> Result<Self> {
        let mut lineup = Self {
            present: Vec::new(),
            versions: Vec::new(),
            missing: Vec::new(),
        };
        for peer in ALL {
            let always = matches!(peer.name, "direct" | "warren");
            if !always && !options.wants_tunnel(peer.name) {
                continue;
            }
            if peer
                .programs
                .iter()
                .any(|program| on_path(program).is_none())
            {
                lineup.missing.push((peer.name, peer.install));
                continue;
            }
            lineup.present.push(peer);
            if let Some(version) = peer.version() {
                lineup.versions.push((peer.name, version));
            }
        }
        Ok(lineup)
    }
}

/// A tunnel that runs until it is dropped.
pub(crate) struct Tunnel {
    /// Where clients at the near end connect.
    pub(crate) entry: SocketAddr,
    pub(crate) processes: Vec<Process>,
}

impl Tunnel {
    /// An error if one of its processes has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// A sum or a maximum over its processes.
    pub(crate) fn over(
        &self,
        measure: fn(&Process) -> Result<f64>,
        fold: fn(f64, f64) -> f64,
    ) -> Result<f64> {
        self.processes
            .iter()
            .try_fold(0.0, |so_far, process| Ok(fold(so_far, measure(process)?)))
    }
}

/// What a tunnel is started with.
struct Site<'a> {
    place: &'a Place,
    target: SocketAddr,
    dir: &'a Path,
}

impl Site<'_> {
    fn command(&self, side: &Side, program: &str) -> Result<Command> {
        let file = on_path(program).ok_or_else(|| format!("{program} has gone"))?;
        Ok(side.command(&file, self.dir))
    }

    fn near<const N: usize>(&self, name: &str, program: &str, args: [&str; N]) -> Result<Process> {
        let mut command = self.command(&self.place.near, program)?;
        command.args(args);
        Process::start(name, command, self.dir)
    }

    fn far<const N: usize>(&self, name: &str, program: &str, args: [&str; N]) -> Result<Process> {
        let mut command = self.command(&self.place.far, program)?;
        command.args(args);
        Process::start(name, command, self.dir)
    }

    /// Writes a configuration file and returns its path.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        path.into_os_string()
            .into_string()
            .map_err(|path| format!("not UTF-8: {}", path.display()).into())
    }
}

/// An address for clients, on loopback of the near end.
fn new_entry() -> Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

fn direct(site: &Site<'_>) -> Result<Tunnel> {
    Ok(Tunnel {
        entry: site.target,
        processes: Vec::new(),
    })
}

fn warren(site: &Site<'_>) -> Result<Tunnel> {
    let mut command = site.place.near.command(Path::new(WARREN), site.dir);
    command.args(["token", "new"]);
    let token = output(&mut command, PATIENCE)?;
    let up = |side: &Side, name: &str, role: [&str; 2], connect: Option<&str>| {
        let mut command = side.command(Path::new(WARREN), site.dir);
        command
            .args([
                "up",
                "--print-ready",
                "--no-mdns",
                "--http",
                "off",
                "--data-dir",
            ])
            .arg(site.dir.join(name))
            .args(["--listen", &format!("{}:0", side.ip)])
            .args(role)
            .args(
                connect
                    .map(|peer| ["--connect", peer])
                    .into_iter()
                    .flatten(),
            )
            .env("WARREN_TOKEN", token.trim());
        let mut process = Process::start(name, command, site.dir)?;
        let ready = process.line(PATIENCE, |line| serde_json::from_str::<Value>(line).ok())?;
        Ok::<_, crate::Failure>((process, ready))
    };
    let expose = format!("bench={}", site.target);
    let (egress, ready) = up(&site.place.far, "egress", ["--expose", &expose], None)?;
    let id = ready["node_id"].as_str().ok_or("no node id")?;
    let address = ready["udp"][0].as_str().ok_or("no UDP address")?;
    let (ingress, ready) = up(
        &site.place.near,
        "ingress",
        ["--ingress", "bench=127.0.0.1:0"],
        Some(&format!("{id}@{address}")),
    )?;
    let entry = ready["ingress"][0]["listen"].as_str().ok_or("no ingress")?;
    Ok(Tunnel {
        entry: entry.parse()?,
        processes: vec![egress, ingress],
    })
}

fn rathole_plain(site: &Site<'_>) -> Result<Tunnel> {
    rathole(site, "", "")
}

fn rathole_noise(site: &Site<'_>) -> Result<Tunnel> {
    let mut command = site.command(&site.place.near, "rathole")?;
    command.arg("--genkey");
    let text = output(&mut command, PATIENCE)?;
    let mut keys = text
        .lines()
        .filter(|line| !line.ends_with(':') && !line.is_empty());
    let mut key = || keys.next().map(str::trim).ok_or("rathole printed no key");
    let (private, public) = (key()?, key()?);
    let transport = |half: &str, key: &str| {
        format!("[{half}.transport]\ntype = \"noise\"\n[{half}.transport.noise]\n{key}\n")
    };
    rathole(
        site,
        &transport("server", &format!("local_private_key = \"{private}\"")),
        &transport("client", &format!("remote_public_key = \"{public}\"")),
    )
}

fn rathole(site: &Site<'_>, server: &str, client: &str) -> Result<Tunnel> {
    let entry = new_entry()?;
    let control = SocketAddr::from((site.place.near.ip, free_port()?));
    let server = site.file(
        "server.toml",
        &format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n{server}\
             [server.services.bench]\nbind_addr = \"{entry}\"\n"
        ),
    )?;
    let client = site.file(
        "client.toml",
        &format!(
            "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n{client}\
             [client.services.bench]\nlocal_addr = \"{}\"\n",
            site.target
        ),
    )?;
    Ok(Tunnel {
        entry,
        processes: vec![
            site.near("rathole-server", "rathole", ["--server", &server])?,
            site.far("rathole-client", "rathole", ["--client", &client])?,
        ],
    })
}

fn bore(site: &Site<'_>) -> Result<Tunnel> {
    let entry = new_entry()?;
    let near = site.place.near.ip;
    let control = if near.is_loopback() {
        BORE_CONTROL
    } else {
        near
    }
    .to_string();
    let mut server = site.near(
        "bore-server",
        "bore",
        [
            "server",
            "--bind-addr",
            &control,
            "--bind-tunnels",
            "127.0.0.1",
        ],
    )?;
    server.line(PATIENCE, |line| line.contains("listening").then_some(()))?;
    let (host, port) = (site.target.ip().to_string(), site.target.port().to_string());
    let client = site.far(
        "bore-local",
        "bore",
        [
            "local",
            &port,
            "--local-host",
            &host,
            "--to",
            &control,
            "--port",
            &entry.port().to_string(),
        ],
    )?;
    Ok(Tunnel {
        entry,
        processes: vec![server, client],
    })
}

fn dumbpipe(site: &Site<'_>) -> Result<Tunnel> {
    let entry = new_entry()?;
    let bind = |side: &Side| format!("{}:0", side.ip);
    let mut far = site.far(
        "dumbpipe-listen",
        "dumbpipe",
        [
            "listen-tcp",
            "--host",
            &site.target.to_string(),
            "--ipv4-addr",
            &bind(&site.place.far),
        ],
    )?;
    let ticket = far.line(PATIENCE, |line| {
        let ticket = line.strip_prefix("dumbpipe connect-tcp ")?;
        Some(ticket.to_owned())
    })?;
    let near = site.near(
        "dumbpipe-connect",
        "dumbpipe",
        [
            "connect-tcp",
            "--addr",
            &entry.to_string(),
            "--ipv4-addr",
            &bind(&site.place.near),
            &ticket,
        ],
    )?;
    Ok(Tunnel {
        entry,
        processes: vec![far, near],
    })
}

fn frp_tcp(site: &Site<'_>) -> Result<Tunnel> {
    frp(site, "tcp")
}

fn frp_quic(site: &Site<'_>) -> Result<Tunnel> {
    frp(site, "quic")
}

fn frp(site: &Site<'_>, protocol: &str) -> Result<Tunnel> {
    let entry = new_entry()?;
    let (near, port, quic) = (site.place.near.ip, free_port()?, free_port()?);
    let server = site.file(
        "frps.toml",
        &format!(
            "bindAddr = \"{near}\"\nbindPort = {port}\nquicBindPort = {quic}\n\
             proxyBindAddr = \"127.0.0.1\"\n"
        ),
    )?;
    let port = if protocol == "quic" { quic } else { port };
    let client = site.file(
        "frpc.toml",
        &format!(
            "serverAddr = \"{near}\"\nserverPort = {port}\nloginFailExit = false\n\
             transport.protocol = \"{protocol}\"\n[[proxies]]\nname = \"bench\"\ntype = \"tcp\"\n\
             localIP = \"{}\"\nlocalPort = {}\nremotePort = {}\n",
            site.target.ip(),
            site.target.port(),
            entry.port()
        ),
    )?;
    Ok(Tunnel {
        entry,
        processes: vec![
            site.near("frps", "frps", ["-c", &server])?,
            site.far("frpc", "frpc", ["-c", &client])?,
        ],
    })
}

fn chisel(site: &Site<'_>) -> Result<Tunnel> {
    let entry = new_entry()?;
    let (near, port) = (site.place.near.ip.to_string(), free_port()?.to_string());
    let url = format!("http://{near}:{port}");
    let remote = format!("R:{entry}:{}", site.target);
    Ok(Tunnel {
        entry,
        processes: vec![
            site.near(
                "chisel-server",
                "chisel",
                ["server", "--reverse", "--host", &near, "--port", &port],
            )?,
            site.far("chisel-client", "chisel", ["client", &url, &remote])?,
        ],
    })
}

fn edgevpn(site: &Site<'_>) -> Result<Tunnel> {
    let entry = new_entry()?;
    let mut generate = site.command(&site.place.near, "edgevpn")?;
    generate.args(["-g", "-b"]);
    let token = output(&mut generate, PATIENCE)?;
    let start = |side: &Side, name: &str, address: SocketAddr| {
        let mut command = site.command(side, "edgevpn")?;
        command
            .args([name, "bench", &address.to_string()])
            .env("EDGEVPNTOKEN", token.trim())
            .env("EDGEVPNDHT", "false");
        Process::start(name, command, site.dir)
    };
    Ok(Tunnel {
        entry,
        processes: vec![
            start(&site.place.far, "service-add", site.target)?,
            start(&site.place.near, "service-connect", entry)?,
        ],
    })
}
