//! A real nginx that is told who its clients are.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::common::{DEADLINE, Daemon, Mesh, Process, until};

/// nginx that answers every request with whom it was told of, and expects to be told.
struct Nginx {
    at: SocketAddr,
    _process: Process,
}

impl Nginx {
    fn start(mesh: &Mesh) -> Self {
        // Nobody can tell nginx to take any port, so the one it gets may be taken meanwhile.
        until("nginx", || Self::try_start(mesh))
    }

    fn try_start(mesh: &Mesh) -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let dir = mesh.home().join(format!("nginx-{}", at.port()));
        fs::create_dir(&dir).unwrap();
        let config = dir.join("nginx.conf");
        let told = "$proxy_protocol_addr $proxy_protocol_port \
                    $proxy_protocol_server_addr $proxy_protocol_server_port";
        let here = dir.display();
        let text = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/log info;
             events {{ worker_connections 64; }}
             http {{
               access_log off;
               client_body_temp_path {here}/b; proxy_temp_path {here}/p;
               fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;
               server {{ listen {at} proxy_protocol; return 200 \"{told}\"; }}
             }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(&dir).arg("-c").arg(&config);
        nginx.arg("-e").arg(dir.join("early"));
        nginx.env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin");
        nginx.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::start(nginx);
        until("nginx listens or has ended", || {
            let up = TcpStream::connect(at).is_ok();
            (up || !process.is_running()).then_some(())
        });
        process.is_running().then_some(Self {
            at,
            _process: process,
        })
    }
}

/// What the server was told of a client, and what is true.
fn told(ingress: SocketAddr) -> (String, String) {
    let mut client = TcpStream::connect(ingress).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let answer = read(&mut client).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let (from_ip, to_ip) = (from.ip(), to.ip());
    let truth = format!("{from_ip} {} {to_ip} {}", from.port(), to.port());
    (body.to_owned(), truth)
}

fn read(client: &mut TcpStream) -> io::Result<String> {
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

fn check(node: &Daemon) {
    for ingress in node.ready["ingress"].as_array().unwrap() {
        let at: SocketAddr = ingress["listen"].as_str().unwrap().parse().unwrap();
        let at = match at.ip().is_unspecified() {
            // An IPv4 client of a socket for both.
            true => SocketAddr::from((Ipv4Addr::LOCALHOST, at.port())),
            false => at,
        };
        let (told, truth) = told(at);
        assert_eq!(told, truth);
    }
}

#[test]
fn nginx_is_told_who_its_clients_are() {
    let mesh = Mesh::new();
    let nginx = Nginx::start(&mesh);
    let listeners = [
        "--ingress",
        "web=127.0.0.1:0",
        "--ingress",
        "web=[::1]:0",
        "--ingress",
        "web=:0",
    ];
    let server = mesh.node("server").args(&listeners).start();
    let target = nginx.at.to_string();
    let flags = ["expose", "web", &target, "--proxy-protocol", "v2"];
    let mut role = server.running(&flags);
    role.line();
    let other = mesh.node("other").args(&listeners).connect(&server).start();
    // One that may repeat what the client has said.
    let replay = ["federated", "--address", "127.0.0.1:0", "--service", "web"];
    let replay = mesh.daemon("replay", &replay).connect(&server).start();
    for node in [&server, &other, &replay] {
        node.wait_ready("web", 1);
        check(node);
    }
}

/// Off unless asked for; then nginx gets a header that it does not expect and says so.
#[test]
fn a_server_is_told_nothing_unless_it_is_exposed_so() {
    let mesh = Mesh::new();
    let nginx = Nginx::start(&mesh);
    let node = mesh.node("node").expose("web", nginx.at);
    let node = node.args(&["--ingress", "web=127.0.0.1:0"]).start();
    node.wait_ready("web", 1);
    let mut client = TcpStream::connect(node.ingress()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    // It expected a header first: no answer, one way or the other.
    assert!(read(&mut client).unwrap_or_default().is_empty());
}

#[test]
fn datagrams_have_no_place_for_the_header() {
    let mesh = Mesh::new();
    let node = mesh.node("node").start();
    let flags = [
        "expose",
        "dns",
        "udp:127.0.0.1:53",
        "--proxy-protocol",
        "v2",
    ];
    let error = node.refused(2, &flags);
    assert!(
        error["message"].as_str().unwrap().contains("TCP"),
        "{error}"
    );
}
