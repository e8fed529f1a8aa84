//! What the tunnels lead to: nginx with a file of 1 KiB, iperf3, and a server of our own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::load::{self, Group};
use crate::own;
use crate::place::Place;
use crate::process::{Process, free_port, required};

/// The file that requests ask for.
pub(crate) const FILE: &str = "/kib";
const FILE_BYTES: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// The servers of a place, at its far end.
pub(crate) struct Servers {
    web: SocketAddr,
    bulk: SocketAddr,
    own: SocketAddr,
    _processes: [Process; 3],
}

impl Servers {
    pub(crate) fn start(place: &Place, dir: &Path) -> Result<Self> {
        let web = SocketAddr::from((place.far.ip, free_port()?));
        let bulk = SocketAddr::from((place.far.ip, free_port()?));
        let own = SocketAddr::from((place.far.ip, free_port()?));
        let mut processes = [
            nginx(place, web, dir)?,
            iperf(place, bulk, dir)?,
            own::start(place, own, dir)?,
        ];
        let ready = [
            (Group::Requests, web),
            (Group::Bulk, bulk),
            (Group::Idle, own),
        ];
        for (group, target) in ready {
            load::wait_for_answer(group, place, target, dir, PATIENCE, || {
                processes.iter_mut().try_for_each(Process::check)
            })?;
        }
        Ok(Self {
            web,
            bulk,
            own,
            _processes: processes,
        })
    }

    /// Where loads of this group go.
    pub(crate) fn target(&self, group: Group) -> SocketAddr {
        match group {
            Group::Bulk => self.bulk,
            Group::Requests => self.web,
            Group::Fairness | Group::Idle => self.own,
        }
    }
}

fn nginx(place: &Place, listen: SocketAddr, dir: &Path) -> Result<Process> {
    let root = dir.join("www");
    fs::create_dir_all(&root)?;
    fs::write(
        root.join(FILE.trim_start_matches('/')),
        vec![b'x'; FILE_BYTES],
    )?;
    let config = dir.join("nginx.conf");
    let at = dir.display();
    // One process: a master would leave its worker behind when it is killed.
    fs::write(
        &config,
        format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/nginx.pid;
             error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{
               access_log off; sendfile on; tcp_nodelay on;
               keepalive_requests 1000000000; keepalive_timeout 300s;
               client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;
               uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
               server {{ listen {listen} backlog=4096; root {root}; }}
             }}\n",
            root = root.display()
        ),
    )?;
    let program = required("nginx", "apt install nginx-light")?;
    let mut command = place.far.command(&program, dir);
    command.arg("-p").arg(dir).arg("-c").arg(&config);
    Process::start("nginx", command, dir)
}

fn iperf(place: &Place, listen: SocketAddr, dir: &Path) -> Result<Process> {
    let program = required("iperf3", "apt install iperf3")?;
    let mut command = place.far.command(&program, dir);
    command
        .args(["-s", "-B", &listen.ip().to_string()])
        .args(["-p", &listen.port().to_string()]);
    Process::start("iperf3", command, dir)
}
