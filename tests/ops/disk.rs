//! A disk that is full, has room again, is read-only; and files of somebody else. Each needs
//! rights: without them the test says so and passes.
//!
//! The test runs itself again in a mount namespace of its own, so nothing outside sees the disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::supervised::Manager;
use crate::world::{DEADLINE, Daemon, World, echo_server, eventually, finish, refusal};

const DISK: &str = "WARREN_TEST_OPS_DISK";
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let can = is_root()
        && Command::new("unshare")
            .args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: mounting a small disk needs root and `unshare -m`");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .arg("-m")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk::small_disk", "--nocapture"])
        .env(DISK, dir.path())
        .stdin(Stdio::null());
    let output = finish(&mut command);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{text}\n{errors}");
}

fn mount(options: &str, at: &Path) {
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at)
        .status();
    assert!(status.unwrap().success());
}

/// Leaves no byte free.
fn fill(disk: &Path) {
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
}

struct Tunnel(BufReader<TcpStream>);

impl Tunnel {
    fn open(ingress: &str) -> Self {
        let stream = TcpStream::connect(ingress).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn echoes(&mut self, text: &str) -> bool {
        let sent = writeln!(self.0.get_mut(), "{text}");
        let mut line = String::new();
        sent.is_ok() && self.0.read_line(&mut line).is_ok() && line.trim() == text
    }
}

/// A daemon on the small disk, with an ingress to a server of a daemon on another disk.
struct Rig {
    world: World,
    data: String,
    token: String,
    manager: Manager,
    _far: Daemon,
    near: Daemon,
}

impl Rig {
    fn new(disk: &Path) -> Self {
        let world = World::new();
        let token = world.said(&["token", "new"]).trim().to_owned();
        let expose = format!("chat={}", echo_server());
        let mut far = world.up("far", &["--expose", &expose]);
        far.env("WARREN_TOKEN", &token);
        let far = Daemon::start(far);

        let manager = Manager::new(&world.path("notify"));
        let data = disk.join("data").to_str().unwrap().to_owned();
        let peer = format!("{}@{}", far.id(), far.udp());
        let mut near = world.up(
            &data,
            &["--ingress", "chat=127.0.0.1:0", "--connect", &peer],
        );
        near.env("WARREN_TOKEN", &token);
        near.env("NOTIFY_SOCKET", world.path("notify"));
        let near = Daemon::start(near);
        let rig = Self {
            world,
            data,
            token,
            manager,
            _far: far,
            near,
        };
        eventually("the service is usable", || {
            Tunnel::open(&rig.near.ingress()).echoes("usable")
        });
        rig
    }

    fn put(&self, key: &str, len: usize) -> Command {
        fs::write(self.world.path("value"), vec![b'v'; len]).unwrap();
        let args = ["ledger", "put", "notes", key, "-", "--data-dir", &self.data];
        let mut command = self.world.command(&args);
        command.stdin(fs::File::open(self.world.path("value")).unwrap());
        command
    }

    fn problems(&self) -> Value {
        let args = ["status", "--json", "--data-dir", &self.data];
        self.world.json(&args)["problems"].clone()
    }

    fn has(&self, key: &str) -> bool {
        let args = ["ledger", "get", "notes", key, "--data-dir", &self.data];
        self.world.run(&args).status.success()
    }
}

/// The child: what happens on the small disk.
#[test]
fn small_disk() {
    let Some(disk) = std::env::var_os(DISK) else {
        return;
    };
    let disk = Path::new(&disk);
    mount("size=4m", disk);
    let mut rig = Rig::new(disk);
    let mut running = Tunnel::open(&rig.near.ingress());
    assert!(running.echoes("before"));

    fill(disk);
    let mut kept = Vec::new();
    let refused = loop {
        let key = format!("k{}", kept.len());
        let output = finish(&mut rig.put(&key, 60_000));
        if !output.status.success() {
            break output;
        }
        kept.push(key);
        assert!(kept.len() < 200, "the disk never fills up");
    };
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    for words in ["error: ", "No space left on device", "make room", "hint: "] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let document = finish(rig.put("json", 60_000).arg("--json"));
    let document: Value = serde_json::from_slice(&document.stdout).unwrap();
    assert_eq!(document["error"]["code"], "store");
    assert!(!rig.has("json"), "what was refused is not there");

    assert_eq!(rig.problems()[0]["code"], "store");
    assert!(
        rig.problems()[0]["message"]
            .as_str()
            .unwrap()
            .contains("make room")
    );
    let said = rig.world.said(&["status", "--data-dir", &rig.data]);
    assert!(said.starts_with("PROBLEM  store: "), "{said}");
    rig.manager
        .wait("STATUS=", |line| line.contains("problem: "));
    assert!(running.echoes("while full"), "running tunnels go on");
    assert!(
        Tunnel::open(&rig.near.ingress()).echoes("new"),
        "new ones, too"
    );
    assert!(rig.near.is_running());

    fs::remove_file(disk.join("ballast")).unwrap();
    eventually("the problem is over", || rig.problems() == json!([]));
    rig.manager
        .wait("STATUS=", |line| !line.contains("problem: "));
    assert!(finish(&mut rig.put("after", 60_000)).status.success());
    kept.push("after".to_owned());
    assert!(running.echoes("after"));

    restart_keeps(rig, &kept);
    starts_refused(disk);
}

/// What was acknowledged is there after `kill -9`.
fn restart_keeps(rig: Rig, kept: &[String]) {
    let Rig {
        world,
        data,
        token,
        near,
        ..
    } = rig;
    drop(near);
    let mut command = world.up(&data, &[]);
    command.env("WARREN_TOKEN", token);
    let _again = Daemon::start(command);
    for key in kept {
        world.said(&["ledger", "get", "notes", key, "--data-dir", &data]);
    }
}

fn starts_refused(disk: &Path) {
    let world = World::new();
    let new = disk.join("new");
    let new = new.to_str().unwrap();
    fill(disk);
    refusal(&mut world.up(new, &[]), 1, &["No space left", "make room"]);
    fs::remove_file(disk.join("ballast")).unwrap();
    assert_eq!(Daemon::start(world.up(new, &[])).end().0, Some(0));
    mount("remount,ro", disk);
    let other = disk.join("other");
    for dir in [new, other.to_str().unwrap()] {
        let words = [
            dir,
            "the disk is read-only",
            "mount it writable",
            "--data-dir",
        ];
        refusal(&mut world.up(dir, &[]), 1, &words);
    }
}

/// The command as a user without rights, from a place that this user can reach.
fn as_nobody(world: &World, command: &Command) -> Command {
    let exe = world.path("warren");
    if !exe.exists() {
        fs::copy(env!("CARGO_BIN_EXE_warren"), &exe).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(world.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut lowly = Command::new(exe);
    lowly
        .args(command.get_args())
        .env_clear()
        .env("HOME", world.path("."))
        .current_dir(world.path("."))
        .stdin(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY);
    lowly
}

#[test]
fn files_and_directories_of_somebody_else_are_named() {
    if !is_root() {
        println!("skipped: giving files away needs root");
        return;
    }
    let world = World::new();
    let mode = |path: &Path, bits| fs::set_permissions(path, fs::Permissions::from_mode(bits));
    let hint = "give this user read and write access";

    let theirs = world.path("theirs");
    fs::create_dir(&theirs).unwrap();
    mode(&theirs, 0o700).unwrap();
    for dir in ["theirs", "theirs/below"] {
        let words = ["theirs", "Permission denied", hint];
        refusal(&mut as_nobody(&world, &world.up(dir, &[])), 1, &words);
    }

    let ours = world.path("ours");
    fs::create_dir(&ours).unwrap();
    chown(&ours, Some(NOBODY), Some(NOBODY)).unwrap();
    let up = world.up("ours", &[]);
    assert_eq!(Daemon::start(as_nobody(&world, &up)).end().0, Some(0));
    for file in ["token", "identity.key", "warren.redb"] {
        let path = ours.join(file);
        chown(&path, Some(0), Some(0)).unwrap();
        mode(&path, 0o600).unwrap();
        refusal(
            &mut as_nobody(&world, &up),
            1,
            &[file, "Permission denied", hint],
        );
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    }

    // Nothing new can be written here: neither the token nor the socket.
    mode(&ours, 0o500).unwrap();
    refusal(
        &mut as_nobody(&world, &up),
        1,
        &["ours", "Permission denied"],
    );
    mode(&ours, 0o700).unwrap();
    assert_eq!(Daemon::start(as_nobody(&world, &up)).end().0, Some(0));
}

#[test]
fn a_token_that_cannot_be_written_is_refused() {
    let world = World::new();
    // Only a directory that is not empty cannot be replaced by a file, whoever asks.
    let data = world.path("data");
    fs::create_dir_all(data.join("token/full")).unwrap();
    let mut command = world.up("data", &[]);
    command.env("WARREN_TOKEN", world.said(&["token", "new"]).trim());
    refusal(
        &mut command,
        1,
        &["token", "is a directory", "move it away"],
    );
    assert!(
        UnixDatagram::bind(data.join("warren.sock")).is_ok(),
        "no socket is left"
    );
}
