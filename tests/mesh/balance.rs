//! Traffic over a healthy mesh: how it spreads, and that bytes and their end arrive.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::slice;
use std::thread;

use crate::common::server::{Backend, reset};
use crate::common::{Mesh, http, until};

const FULL_BODY: usize = 20 * 1024 * 1024;

#[test]
fn requests_one_after_another_spread_evenly() {
    let backends = Backend::several(3);
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(&backends);
    for _ in 0..300 {
        let answer = http::get(gateway.ingress(), "/").unwrap();
        assert_eq!(answer.status, 200);
    }
    for backend in &backends {
        assert!(
            (99..=101).contains(&backend.requests()),
            "{}",
            backend.requests()
        );
    }
    // What was counted is what was served.
    let served = |one: &serde_json::Value| one["served"].as_u64().unwrap();
    let counted = || -> u64 { gateway.providers("federated").iter().map(served).sum() };
    until("300 requests counted", || (counted() == 300).then_some(()));
}

#[test]
fn slow_requests_side_by_side_spread_evenly() {
    let backends = Backend::several(3);
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(&backends);
    let at = gateway.ingress();
    let clients: Vec<_> = (0..30)
        .map(|_| thread::spawn(move || http::get(at, "/hold").unwrap()))
        .collect();
    for backend in &backends {
        backend.wait_held(10);
    }
    let in_flight = gateway.providers("federated");
    assert!(
        in_flight.iter().all(|one| one["in_flight"] == 10),
        "{in_flight:?}"
    );
    for backend in &backends {
        backend.release();
    }
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    until("nothing in flight", || {
        let nodes = gateway.providers("federated");
        nodes.iter().all(|one| one["in_flight"] == 0).then_some(())
    });
}

#[test]
fn a_large_body_comes_back_as_it_was() {
    let backends = Backend::several(1);
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(&backends);
    // No period that a repeated or lost block could hide in.
    let body: Vec<u8> = (0..FULL_BODY as u64 / 8)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    let answer = http::post(gateway.ingress(), "/", body.clone()).unwrap();
    assert!(answer.body == body, "the body was changed on its way");
}

#[test]
fn a_client_that_has_said_everything_gets_its_answer() {
    let backend = Backend::new("count", |mut stream, shared| {
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        shared.count();
        write!(stream, "{} bytes", said.len())
    });
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(slice::from_ref(&backend));
    let mut client = http::connect(gateway.ingress()).unwrap();
    client.write_all(&[7; 100_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000 bytes");
}

#[test]
fn a_reset_arrives_as_a_reset_both_ways() {
    let (tell, told) = std::sync::mpsc::channel();
    let backend = Backend::new("reset", move |mut stream, _| {
        let mut first = [0];
        stream.read_exact(&mut first)?;
        stream.write_all(b"x")?;
        if first == *b"r" {
            // The client must have its byte before the reset overtakes it.
            stream.read_exact(&mut first)?;
            reset(stream);
        } else {
            let _ = tell.send(stream.read(&mut first));
        }
        Ok(())
    });
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(slice::from_ref(&backend));

    let mut client = http::connect(gateway.ingress()).unwrap();
    let mut byte = [0];
    client.write_all(b"r").unwrap();
    client.read_exact(&mut byte).unwrap();
    client.write_all(b"!").unwrap();
    let ended = client.read(&mut byte).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);

    let mut client = http::connect(gateway.ingress()).unwrap();
    client.write_all(b"c").unwrap();
    client.read_exact(&mut byte).unwrap();
    reset(client);
    let ended = told.recv_timeout(crate::common::DEADLINE).unwrap();
    let ended = ended.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
}
