//! `--frps`: P2PRC nodes that ask for a relay get an FRP server.
//!
//! FRP itself is not here. In its place runs this test program, [`stand_in`]: it takes the flags
//! that `frps` documents and refuses others, listens where they say, and opens a port for a client
//! that asks for one, whose visitors it leads to that client. How the two speak is FRP's own
//! business, of which a relay knows nothing; here it is a line.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getppid, test_kill_process};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use warren::service::frps::{Frps, FrpsError, FrpsLimits};

use super::common::{DEADLINE, pid, until};
use super::*;

/// A program for `--frps`, and the processes that ran it.
struct Program {
    dir: TempDir,
}

impl Program {
    /// The stand-in.
    fn new() -> Self {
        Self::that("")
    }

    /// It, after these lines of a shell.
    fn that(lines: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let script = format!(
            "#!/bin/sh\n\
             export -p > {dir}/environment\n\
             printf '%s\\n' \"$@\" > {dir}/flags\n\
             echo > {dir}/$$.pid\n\
             {lines}\n\
             FRPS=\"$(printf '%s\\n' \"$@\")\"\n\
             export FRPS\n\
             exec {test} --exact frps::stand_in --ignored --nocapture\n",
            dir = dir.path().display(),
            test = std::env::current_exe().unwrap().display(),
        );
        let program = Self { dir };
        fs::write(program.path(), script).unwrap();
        fs::set_permissions(program.path(), Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("frps")
    }

    fn flag(&self) -> [String; 2] {
        [
            "--frps".to_owned(),
            self.path().to_str().unwrap().to_owned(),
        ]
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Ids of all processes that there were.
    fn ids(&self) -> Vec<u32> {
        let files = fs::read_dir(self.dir.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| name.strip_suffix(".pid")?.parse().ok())
            .collect()
    }

    fn running(&self) -> usize {
        let ids = self.ids().into_iter();
        ids.filter(|id| test_kill_process(pid(*id)).is_ok()).count()
    }

    fn servers(&self, limits: FrpsLimits) -> Frps {
        Frps::new(&self.path(), Ipv4Addr::LOCALHOST.into(), limits).unwrap()
    }
}

fn node(program: &Program) -> Node {
    node_with(program, &[])
}

fn node_with(program: &Program, flags: &[&str]) -> Node {
    let [flag, path] = program.flag();
    Node::with("relay", &[&[flag.as_str(), path.as_str()], flags].concat())
}

/// The port in an answer, as P2PRC's client reads it.
fn port(answer: &Answer) -> u16 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().parse().unwrap()
}

/// FRP's client: connects to a server and asks it for a port, any for 0.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> io::Result<Self> {
        let stream = http::connect((Ipv4Addr::LOCALHOST, port).into())?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    fn ask(&mut self, port: u16) -> io::Result<String> {
        writeln!(self.stream.get_mut(), "{port}")?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}

/// What stands for FRP's server.
#[test]
#[ignore = "stands for FRP's server in the tests of `--frps`"]
fn stand_in() {
    let flags = std::env::var("FRPS").unwrap();
    let flags: Vec<&str> = flags.split('\n').collect();
    let known = [
        "-c",
        "--bind_addr",
        "--bind_port",
        "--proxy_bind_addr",
        "--allow_ports",
        "--max_ports_per_client",
        "--log_level",
    ];
    for pair in flags.chunks(2) {
        assert!(known.contains(&pair[0]), "Error: unknown flag: {}", pair[0]);
    }
    let value = |name: &str| {
        let at = flags.iter().position(|flag| *flag == name).unwrap();
        flags[at + 1].to_owned()
    };
    assert_eq!(value("-c"), "", "it would read a file");
    let (from, to) = value("--allow_ports")
        .split_once('-')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let allowed = from.parse::<u16>().unwrap()..=to.parse().unwrap();
    let open_at: IpAddr = value("--proxy_bind_addr").parse().unwrap();
    let at: (IpAddr, u16) = (
        value("--bind_addr").parse().unwrap(),
        value("--bind_port").parse().unwrap(),
    );
    let listener = TcpListener::bind(at).unwrap();
    let parent = getppid();
    thread::spawn(move || {
        // The one that asked for it ends it; if it is killed itself, nothing else would.
        while getppid() == parent {
            thread::sleep(Duration::from_millis(100));
        }
        std::process::exit(1);
    });
    for client in listener.incoming() {
        let allowed = allowed.clone();
        thread::spawn(move || {
            serve(client.unwrap(), open_at, |port| {
                port == 0 || allowed.contains(&port)
            })
        });
    }
}

fn serve(client: TcpStream, open_at: IpAddr, is_allowed: impl Fn(u16) -> bool) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let port: u16 = line.trim_end().parse().map_err(io::Error::other)?;
    let mut to_client = &client;
    if !is_allowed(port) {
        return writeln!(to_client, "port not allowed");
    }
    let door = TcpListener::bind((open_at, port))?;
    writeln!(to_client, "{}", door.local_addr()?.port())?;
    let (visitor, _) = door.accept()?;
    let mut from_visitor = visitor.try_clone()?;
    let copying = thread::spawn(move || io::copy(&mut from_visitor, &mut &client));
    io::copy(&mut lines, &mut &visitor)?;
    visitor.shutdown(Shutdown::Both)?;
    copying.join().unwrap().map(drop)
}

#[test]
fn case_32_who_asks_gets_an_frp_server_that_relays_to_it() {
    let program = Program::new();
    let node = node(&program);
    let answer = node.get("/FRPPort");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let first = port(&answer);
    // P2PRC's flow: its FRP client connects there, and others find it at a port of this machine.
    let mut client = Client::connect(first).unwrap();
    let open: u16 = client.ask(0).unwrap().parse().unwrap();
    let mut visitor = http::connect((Ipv4Addr::LOCALHOST, open).into()).unwrap();
    visitor.write_all(b"ping\n").unwrap();
    let mut line = String::new();
    client.stream.read_line(&mut line).unwrap();
    assert_eq!(line, "ping\n");
    client.stream.get_mut().write_all(b"pong").unwrap();
    let mut read = [0; 4];
    visitor.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"pong");
    // When its client goes, its port goes.
    drop(client);
    assert_eq!(visitor.read_to_end(&mut Vec::new()).unwrap(), 0);

    // The other spelling, and P2PRC's question for UDP: one server for each who asks.
    let others = ["/FRPport", "/FRPPort?udp=true"].map(|path| port(&node.get(path)));
    assert!(others[0] != first && others[1] != first && others[0] != others[1]);
    assert_eq!(program.running(), 3);
    assert_eq!(
        Client::connect(others[1]).unwrap().ask(80).unwrap(),
        "port not allowed"
    );
    // It is nobody's business what network this node is of.
    let environment = program.read("environment");
    assert!(!environment.contains("WARREN_"), "{environment}");
    assert!(!program.read("flags").contains(node.mesh.token()));
}

#[test]
fn only_who_asked_for_an_frp_server_may_connect_to_it() {
    let program = Program::new();
    let node = node(&program);
    let open = port(&node.get("/FRPPort"));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let other: SocketAddr = ([127, 0, 0, 2], 0).into();
    socket.bind(&other.into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, open).into();
    socket.connect(&to.into()).unwrap();
    let mut stranger = TcpStream::from(socket);
    let _ = stranger.write_all(b"0\n");
    let read = stranger.read(&mut [0; 16]);
    assert!(!read.is_ok_and(|read| read > 0), "somebody else was let in");
    assert!(
        Client::connect(open)
            .unwrap()
            .ask(0)
            .unwrap()
            .parse::<u16>()
            .is_ok()
    );
    // Behind a proxy everybody is the proxy.
    let answer = http::get_with(node.at, "/FRPPort", "X-Forwarded-For: 192.0.2.1\r\n").unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.text().starts_with("error: "));
    assert_eq!(program.ids().len(), 1);
}

#[test]
fn with_a_key_only_who_has_it_gets_an_frp_server() {
    let program = Program::new();
    let key = program.dir.path().join("key");
    fs::write(&key, "0123456789abcdef\n").unwrap();
    let node = node_with(&program, &["--p2prc-http-key-file", key.to_str().unwrap()]);
    assert_eq!(node.get("/FRPPort").status, 401);
    assert_eq!(program.ids().len(), 0);
    let key = "Authorization: Bearer 0123456789abcdef\r\n";
    port(&http::get_with(node.at, "/FRPPort", key).unwrap());
}

#[test]
fn case_35_a_client_gets_only_so_many_frp_servers() {
    let program = Program::new();
    let node = node(&program);
    let answers: Vec<Answer> = (0..20).map(|_| node.get("/FRPPort")).collect();
    let (given, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 200);
    assert_eq!(given.len(), 4);
    for answer in refused {
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some("60"))
        );
        assert!(answer.text().starts_with("error: too many "));
    }
    assert_eq!(program.ids().len(), 4);
}

#[test]
fn an_frp_server_that_does_not_start_is_an_error_that_only_the_log_explains() {
    let program = Program::that("printf 'bind: \\033[31maddress already in use\\n' >&2; exit 3");
    let mut node = node(&program);
    let answer = node.get("/FRPPort");
    assert_eq!(
        (answer.status, answer.text()),
        (500, "error: the FRP server did not start\n")
    );
    let log = node.daemon.take().unwrap().log();
    assert!(
        log.contains("exit status: 3") && log.contains("address already in use"),
        "{log}"
    );
    assert!(!log.contains("\u{1b}[31maddress"), "{log:?}");
}

#[tokio::test]
async fn an_frp_server_that_never_listens_is_ended() {
    let program = Program::that("while :; do :; done");
    let frps = program.servers(FrpsLimits {
        start: Duration::from_millis(300),
        ..FrpsLimits::default()
    });
    let error = frps.start(|_| true).await.unwrap_err();
    assert!(matches!(error, FrpsError::Silent { .. }), "{error}");
    assert_eq!(program.running(), 0);
}

/// A server with a client. On a busy machine one may be over before anybody has come.
async fn used(frps: &Frps) -> (u16, Client) {
    loop {
        let port = match frps.start(|_| true).await {
            Err(FrpsError::Busy) => {
                tokio::task::yield_now().await;
                continue;
            }
            started => started.unwrap(),
        };
        let client = tokio::task::spawn_blocking(move || {
            let mut client = Client::connect(port)?;
            let open = client.ask(0)?;
            open.parse::<u16>().map_err(io::Error::other)?;
            Ok::<_, io::Error>(client)
        });
        if let Ok(client) = client.await.unwrap() {
            return (port, client);
        }
    }
}

#[tokio::test]
async fn an_frp_server_ends_when_nobody_has_used_it_for_a_while() {
    let program = Program::new();
    let limits = FrpsLimits {
        servers: 1,
        unused: Duration::from_millis(500),
        ..FrpsLimits::default()
    };
    let frps = program.servers(limits);
    let (used, client) = used(&frps).await;
    let busy = frps.start(|_| true).await;
    assert!(matches!(busy, Err(FrpsError::Busy)), "{busy:?}");
    let (told, ended) = tokio::sync::oneshot::channel::<()>();
    let another = program.servers(limits);
    let unused = another.start(move |_| !told.is_closed()).await.unwrap();
    // Whoever asked for it hears of its end.
    assert!(ended.await.is_err());
    assert!(Client::connect(unused).is_err());
    // The other one is older and goes on until its client goes.
    assert_eq!(program.running(), 1);
    assert!(!is_closed(client.stream.get_ref()));
    drop(client);
    let over = tokio::task::spawn_blocking(move || {
        until("it is over", || (program.running() == 0).then_some(()));
        assert!(Client::connect(used).is_err());
    });
    over.await.unwrap();
}

/// Whether the other side has closed, or its end is there to be read.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn the_end_of_the_daemon_is_the_end_of_its_frp_servers() {
    for (lines, what) in [("", "obeys"), ("trap '' TERM", "has to be killed")] {
        let program = Program::that(lines);
        let mut node = node(&program);
        let open = port(&node.get("/FRPPort"));
        let mut client = Client::connect(open).unwrap();
        client.ask(0).unwrap();
        assert_eq!(program.running(), 1);
        let mut daemon = node.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait().code(), Some(0), "{what}");
        assert_eq!(program.running(), 0, "{what}");
        let read = client.stream.read(&mut [0; 16]);
        assert!(!read.is_ok_and(|read| read > 0), "{what}");
        assert!(Client::connect(open).is_err(), "{what}");
    }
}

#[test]
fn an_frp_server_that_cannot_be_run_is_said_at_the_start() {
    let mesh = Mesh::new();
    let dir = mesh.dir("relay");
    fs::create_dir_all(&dir).unwrap();
    let plain = dir.join("plain");
    fs::write(&plain, "no program").unwrap();
    fs::set_permissions(&plain, Permissions::from_mode(0o644)).unwrap();
    let refused = |path: &Path, at: &[&str]| {
        let flags = ["up", "--http", "off", "--frps", path.to_str().unwrap()];
        let output = warren(&dir, &[&flags, at].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let at = ["--p2prc-http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let program = Program::new();
    for (path, at, word) in [
        (dir.join("nothing").as_path(), &at[..], "No such file"),
        (&plain, &at, "Permission denied"),
        (&dir, &at, "not a file"),
        (&program.path(), &at[2..], "--p2prc-http"),
    ] {
        let text = refused(path, at);
        assert!(
            text.contains("error: --frps") && text.contains(word),
            "{text}"
        );
        assert!(text.contains("hint: "), "{text}");
    }
    // Said before the address is bound, which none of this machine's is.
    let flags = [&["--p2prc-http", "192.0.2.1:1"], &at[2..]].concat();
    let [flag, path] = program.flag();
    let open = mesh
        .node("open")
        .args(&[&flag, &path])
        .args(&flags)
        .output();
    let text = String::from_utf8(open.stderr).unwrap();
    assert!(
        text.contains("WARN") && text.contains("--p2prc-http-key-file"),
        "{text}"
    );
}

#[test]
fn a_variable_and_the_config_file_name_the_frp_server_too() {
    let program = Program::new();
    let mesh = Mesh::new();
    let path = program.path();
    let path = path.to_str().unwrap();
    let file = mesh.home().join("warren.toml");
    fs::write(
        &file,
        format!("frps = '{path}'\np2prc-http = '127.0.0.1:0'\n"),
    )
    .unwrap();
    let by_file = mesh
        .node("file")
        .args(&["--config", file.to_str().unwrap()]);
    let by_variable = mesh.node("variable").env("WARREN_FRPS", path);
    let by_variable = by_variable.args(&["--p2prc-http", "127.0.0.1:0"]);
    for recipe in [by_file, by_variable] {
        let daemon = recipe.start();
        let at = daemon.ready["p2prc_http"].as_str().unwrap();
        port(&http::get(at.parse().unwrap(), "/FRPPort").unwrap());
    }
}
