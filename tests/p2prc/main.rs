//! P2PRC's routes as its programs meet them: real daemons, asked by clients that write what curl
//! and P2PRC write. Nothing here leaves the machine.
#![cfg(all(target_os = "linux", feature = "p2p"))]
// clippy.toml's allowance ends at the test functions; the helpers here are tests too.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    missing_docs
)]

#[path = "../common/mod.rs"]
mod common;
mod frps;
mod limits;
mod probed;
mod routes;
mod star;

use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use common::http::{self, Answer};
use common::{Daemon, Mesh, until, warren};

const KIND: &str = "Content-Type: multipart/form-data; boundary=X\r\n";

/// A daemon of a network of its own that answers P2PRC's routes, and where.
struct Node {
    mesh: Mesh,
    daemon: Option<Daemon>,
    name: &'static str,
    at: SocketAddr,
}

impl Node {
    fn start(name: &'static str) -> Self {
        Self::with(name, &[])
    }

    fn with(name: &'static str, flags: &[&str]) -> Self {
        let mesh = Mesh::new();
        let recipe = mesh.node(name).args(&["--p2prc-http", "127.0.0.1:0"]);
        let daemon = recipe.args(flags).start();
        let status = daemon.json(&["status"]);
        let at = status["p2prc_http"].as_str().unwrap();
        Self {
            at: at.parse().unwrap(),
            daemon: Some(daemon),
            mesh,
            name,
        }
    }

    fn warren(&self, args: &[&str]) -> Value {
        let dir = self.mesh.dir(self.name);
        let output = warren(&dir, &[args, &["--json"]].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Its table.
    fn rows(&self) -> Vec<Value> {
        let list = self.warren(&["iptable", "ls", "--sort", "address"]);
        list["ip_table"].as_array().unwrap().clone()
    }

    fn row(&self, address: &str) -> Option<Value> {
        let mut rows = self.rows().into_iter();
        rows.find(|row| row["address"] == address)
    }

    fn get(&self, path: &str) -> Answer {
        http::get(self.at, path).unwrap()
    }

    /// A request with a body, and what is answered.
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.begin(method, path, headers, body.len()).unwrap();
        // Whoever is refused early may be answered before everything is sent.
        let _ = stream.write_all(body);
        http::read_answer(&mut stream).unwrap()
    }

    fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        len: usize,
    ) -> io::Result<std::net::TcpStream> {
        let mut stream = http::connect(self.at)?;
        let headers = format!("{headers}Content-Length: {len}\r\n");
        stream.write_all(http::head(method, path, &headers).as_bytes())?;
        Ok(stream)
    }

    /// Sends a table as P2PRC's client does.
    fn post_table(&self, document: &str) -> Answer {
        self.post_table_with("", document)
    }

    fn post_table_with(&self, headers: &str, document: &str) -> Answer {
        let body = form("json", "/home/ann/p2p/iptable/ip_table.json", document);
        self.send("POST", "/IpTable", &format!("{KIND}{headers}"), &body)
    }
}

fn form(field: &str, file: &str, content: &str) -> Vec<u8> {
    format!(
        "--X\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n{content}\r\n--X--\r\n"
    )
    .into_bytes()
}

/// A table with rows of P2PRC's newest form.
fn document(rows: &[Value]) -> String {
    json!({ "ip_address": rows }).to_string()
}

fn row(name: &str, ip: &str, port: &str, text: &str) -> Value {
    json!({
        "Name": name, "MachineUsername": "ann", "IPV4": ip, "IPV6": "", "Latency": 14_981_051,
        "Download": 34, "Upload": 50, "ServerPort": port, "UDPServerPort": "",
        "BareMetalSSHPort": "22", "NAT": false, "EscapeImplementation": "None",
        "ProxyServer": false, "UnSafeMode": true, "PublicKey": "ssh-rsa AAAA evil\n",
        "CustomInformation": text,
    })
}

/// Names in an answered table.
fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let table = answer.json();
    let rows = table["ip_address"].as_array().unwrap();
    rows.iter()
        .map(|row| row["Name"].as_str().unwrap().to_owned())
        .collect()
}
