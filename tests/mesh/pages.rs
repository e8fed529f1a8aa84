//! What clients get when nobody serves, which node a target is, and TLS in front.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;

use crate::common::http::{self, Answer};
use crate::common::server::Backend;
use crate::common::{Daemon, Mesh, Process, until};

/// A role of a running daemon, and where it listens.
fn federated(of: &Daemon, flags: &[&str]) -> (Process, SocketAddr) {
    let base = ["federated", "--address", "127.0.0.1:0", "--print-ready"];
    let mut role = of.running(&[&base, flags].concat());
    let ready: Value = serde_json::from_str(&role.line()).unwrap();
    let at = ready["ingress"][0]["listen"].as_str().unwrap();
    (role, at.parse().unwrap())
}

#[test]
fn without_nodes_clients_are_told_to_come_back() {
    let mesh = Mesh::new();
    let gateway = mesh.federated("gateway").start();
    let answer = http::get(gateway.ingress(), "/v1/models").unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(
        answer.header("content-length"),
        Some(&*answer.body.len().to_string())
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let error = &answer.json()["error"];
    assert_eq!(error["message"], "Sorry, waiting for nodes to connect");
    assert!(
        error["type"].is_string() && error["code"].is_string(),
        "{error}"
    );

    let page = http::get_with(gateway.ingress(), "/", "Accept: text/html\r\n").unwrap();
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(
        page.text()
            .contains("<h1>Sorry, waiting for nodes to connect</h1>")
    );

    // The request is read first: no reset destroys the answer.
    let answer = http::post(gateway.ingress(), "/", vec![b'x'; 500_000]).unwrap();
    assert_eq!(answer.status, 503);
}

#[test]
fn a_target_is_named_by_name_by_id_or_as_localai_does() {
    let backends = Backend::several(2);
    let mesh = Mesh::new();
    let (mut nodes, gateway) = mesh.served_by(&backends);
    let short = nodes[1].short();
    let names = [
        "n1".to_owned(),
        short.clone(),
        nodes[1].id.clone(),
        format!("n1-{short}"),
    ];
    let targets = names.map(|name| federated(&gateway, &["--target-worker", &name]));
    for (_role, at) in &targets {
        for _ in 0..2 {
            assert_eq!(http::get(*at, "/").unwrap().text(), "b1");
        }
    }
    let (_role, unknown) = federated(&gateway, &["--target-worker", "nobody"]);
    let not_found = |at: SocketAddr| {
        let answer = http::get(at, "/").unwrap();
        (answer.status == 404).then(|| answer.json()["error"]["message"].clone())
    };
    assert_eq!(not_found(unknown).unwrap(), "Node not found");
    // A node that dies is found no more, and nobody else takes its place.
    nodes[1].kill();
    for (_role, at) in &targets {
        until("404", || not_found(*at));
    }
    assert_eq!(http::get(gateway.ingress(), "/").unwrap().text(), "b0");

    let (_role, random) = federated(&gateway, &["--random-worker"]);
    assert_eq!(http::get(random, "/").unwrap().text(), "b0");
}

/// Takes any certificate, and shows it: trust is not what is tested here.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// `GET /` over TLS, and the certificate that was shown.
fn get_tls(at: SocketAddr) -> (Answer, Vec<u8>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, http::connect(at).unwrap());
    stream
        .write_all(http::head("GET", "/", "").as_bytes())
        .unwrap();
    // An end without close_notify would be an error here.
    let answer = http::read_answer(&mut stream).unwrap();
    let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
    (answer, shown)
}

/// Writes a new certificate and its key; gives the certificate.
fn renew(cert: &Path, key: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (path, text) in [
        (key, made.signing_key.serialize_pem()),
        (cert, made.cert.pem()),
    ] {
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, path).unwrap();
    }
    made.cert.der().to_vec()
}

#[test]
fn tls_stands_in_front_and_follows_its_files() {
    let backends = Backend::several(1);
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(&backends);

    let (_role, at) = federated(&gateway, &["--tls-self-signed"]);
    assert_eq!(get_tls(at).0.text(), "b0");
    // Whoever speaks no TLS gets nothing of the server.
    let mut plain = TcpStream::connect(at).unwrap();
    plain
        .write_all(http::head("GET", "/", "").as_bytes())
        .unwrap();
    assert!(http::read_answer(&mut plain).is_err());

    let (cert, key) = (mesh.home().join("cert.pem"), mesh.home().join("key.pem"));
    let first = renew(&cert, &key);
    let flags = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let (_role, at) = federated(&gateway, &flags);
    let (answer, shown) = get_tls(at);
    assert!(answer.text() == "b0" && shown == first);
    let second = renew(&cert, &key);
    until("the new certificate is shown", || {
        (get_tls(at).1 == second).then_some(())
    });
    // A broken file changes nothing.
    std::fs::write(&cert, "not a certificate").unwrap();
    until("the broken file is noticed", || {
        assert!(get_tls(at).1 == second);
        gateway.log().contains("the old one stays").then_some(())
    });
}
