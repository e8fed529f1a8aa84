//! The server for P2PRC's programs: what it says of this machine, and its end. Unlike the node's
//! own API it is closed first, so that what it still stores finds an open store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Node;
use crate::api::Control;
use crate::api::p2prc::{self, Key};
use crate::formats::p2prc_http::Machine;
use crate::service::frps::Frps;

/// How long requests may take to end, at most; the server cuts them earlier.
const END: Duration = Duration::from_secs(10);
const MIB: u64 = 1024 * 1024;

/// The server's task, and its end.
#[derive(Default)]
pub(super) struct Guests {
    /// No more of them; those that are there may finish.
    leave: CancellationToken,
    /// All of them go.
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// Where its clients come in: bound, not served yet.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    /// FRP servers for them.
    pub(super) frps: Option<Frps>,
}

impl Guests {
    /// Stops accepting, waits for running requests, and ends the FRP servers.
    pub(super) async fn drain(&self, limit: Duration) {
        self.leave.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(limit.min(END), self.tasks.wait()).await;
        self.cut.cancel();
        self.tasks.wait().await;
    }

    /// Cuts running requests.
    pub(super) fn abort(&self) {
        self.cut.cancel();
    }
}

impl Node {
    pub(super) async fn serve_guests(&self, door: Door, key: Option<Key>) {
        let Door { listener, frps } = door;
        let dir = self.inner.data_dir.clone();
        let read = tokio::task::spawn_blocking(move || machine(&dir)).await;
        let mut machine = read.unwrap_or_default();
        machine.hostname = self.inner.name.to_string();
        let control: Arc<dyn Control> = Arc::new(self.clone());
        let guests = &self.inner.guests;
        let leave = guests.leave.clone();
        let serve = p2prc::serve(listener, control, machine, key, frps.clone(), leave);
        let cut = guests.cut.clone();
        guests.tasks.spawn(async move {
            cut.run_until_cancelled(serve).await;
            // A client's connection to its server lasts as long as both: there is no waiting.
            if let Some(frps) = frps {
                frps.stop().await;
            }
        });
    }
}

/// What the system says of this machine; what it does not say is left empty.
fn machine(data_dir: &Path) -> Machine {
    let memory = rustix::system::sysinfo();
    let ram = u64::from(memory.mem_unit).saturating_mul(memory.totalram);
    let disk =
        rustix::fs::statvfs(data_dir).map(|disk| disk.f_frsize.saturating_mul(disk.f_blocks));
    Machine {
        hostname: String::new(),
        platform: std::env::consts::OS.to_owned(),
        cpu: cpu().unwrap_or_default(),
        ram_mib: ram / MIB,
        disk_mib: disk.unwrap_or_default() / MIB,
        gpu: None,
    }
}

/// The processor's name.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, name) = fields.find(|(key, _)| key.trim() == "model name")?;
    Some(name.trim().to_owned())
}
