//! Nodes and servers that die or freeze under traffic: who notices, and when.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::http::{self, Answer};
use crate::common::server::Backend;
use crate::common::{Mesh, Process, until};

/// Clients that ask again and again.
const CLIENTS: usize = 50;
/// What the mesh promises for a node that is gone or frozen.
const NOTICED: Duration = Duration::from_secs(3);
/// What a machine may add that runs much else.
const SLACK: Duration = Duration::from_secs(3);

/// Clients that loop, each request on a connection of its own.
struct Crowd {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn start(to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let clients = (0..CLIENTS).map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut wronged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match ask(to) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(wrong) => wronged.extend(wrong),
                    }
                }
                wronged
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            answered,
        }
    }

    /// Waits until every client, on average, was answered that often from now on.
    fn wait_rounds(&self, rounds: u64) {
        let target = self.answered.load(Ordering::Relaxed) + rounds * CLIENTS as u64;
        until("answers to the crowd", || {
            (self.answered.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// Failures that nobody may have.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        clients.flat_map(|client| client.join().unwrap()).collect()
    }
}

/// `Err(None)` for a failure that is allowed: something had come back before it.
fn ask(to: SocketAddr) -> Result<(), Option<String>> {
    let mut bytes = Vec::new();
    let mut exchange = || -> io::Result<()> {
        let mut stream = http::connect(to)?;
        stream.write_all(http::head("GET", "/", "").as_bytes())?;
        stream.read_to_end(&mut bytes)?;
        Ok(())
    };
    let done = exchange();
    match (done, Answer::parse(&bytes)) {
        (Ok(()), Ok(answer)) if answer.status == 200 => Ok(()),
        (Ok(()), Ok(answer)) => Err(Some(answer.head)),
        (Err(error), _) if bytes.is_empty() => Err(Some(error.to_string())),
        (_, Err(error)) if bytes.is_empty() => Err(Some(error.to_string())),
        _ => Err(None),
    }
}

/// Requests that the servers hold, ten at each of three.
fn hold(to: SocketAddr, backends: &[Backend]) -> Vec<JoinHandle<Answer>> {
    let clients = (0..30).map(|_| thread::spawn(move || http::get(to, "/hold").unwrap()));
    let clients = clients.collect();
    for backend in backends {
        backend.wait_held(10);
    }
    clients
}

/// How long a node takes to be seen going down, from `since`.
fn time_to_down(events: &mut Process, id: &str, since: Instant) -> Duration {
    events.find(|event| event["event"] == "node_down" && event["id"] == id);
    since.elapsed()
}

#[test]
fn a_node_that_is_killed_costs_nobody_an_answer() {
    let backends = Backend::several(3);
    let mesh = Mesh::new();
    let (mut nodes, gateway) = mesh.served_by(&backends);
    let at = gateway.ingress();
    let mut events = gateway.events();
    let held = hold(at, &backends);
    let dripping: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = http::connect(at).unwrap();
            stream
                .write_all(http::head("GET", "/drip", "").as_bytes())
                .unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream
        })
        .collect();
    let crowd = Crowd::start(at);
    crowd.wait_rounds(3);

    let killed = Instant::now();
    nodes[1].kill();
    let noticed = time_to_down(&mut events, &nodes[1].id, killed);
    assert!(noticed < NOTICED + SLACK, "{noticed:?}");
    assert_eq!(gateway.usable("federated"), ["n0", "n2"]);
    // Ten of the thirty have moved; each of those left has one that drips.
    until("the held requests have moved", || {
        (backends[0].held() + backends[2].held() == 32).then_some(())
    });
    crowd.wait_rounds(3);

    for backend in &backends {
        backend.release();
    }
    assert_eq!(crowd.end(), Vec::<String>::new());
    for client in held {
        let answer = client.join().unwrap();
        assert!(matches!(answer.text(), "b0" | "b2"), "{answer:?}");
    }
    // A connection with a byte back is never repeated, so one of them is lost, and only one.
    let ends = dripping.into_iter().map(|mut stream| {
        let mut rest = Vec::new();
        stream
            .read_to_end(&mut rest)
            .is_ok_and(|_| rest.ends_with(b"b0") || rest.ends_with(b"b2"))
    });
    assert_eq!(ends.filter(|whole| *whole).count(), 2);
}

#[test]
fn a_node_that_freezes_is_left_out_until_it_thaws() {
    let backends = Backend::several(3);
    let mesh = Mesh::new();
    let (nodes, gateway) = mesh.served_by(&backends);
    let at = gateway.ingress();
    let mut events = gateway.events();
    let held = hold(at, &backends);
    let crowd = Crowd::start(at);
    crowd.wait_rounds(3);

    let frozen = Instant::now();
    nodes[0].signal(Signal::STOP);
    let noticed = time_to_down(&mut events, &nodes[0].id, frozen);
    assert!(noticed < NOTICED + SLACK, "{noticed:?}");
    until("the held requests have moved", || {
        (backends[1].held() + backends[2].held() == 30).then_some(())
    });
    assert_eq!(gateway.usable("federated"), ["n1", "n2"]);
    crowd.wait_rounds(3);

    let before = backends[0].requests();
    nodes[0].signal(Signal::CONT);
    gateway.wait_ready("federated", 3);
    until("requests at the node that thawed", || {
        (backends[0].requests() > before).then_some(())
    });
    crowd.wait_rounds(1);
    for backend in &backends {
        backend.release();
    }
    assert_eq!(crowd.end(), Vec::<String>::new());
    for client in held {
        assert!(matches!(client.join().unwrap().text(), "b1" | "b2"));
    }
}

#[test]
fn a_server_that_is_killed_is_left_out_until_it_is_back() {
    let mut backends = Backend::several(3);
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by(&backends);
    let crowd = Crowd::start(gateway.ingress());
    crowd.wait_rounds(3);

    backends[2].die();
    until("two servers left", || {
        (gateway.usable("federated") == ["n0", "n1"]).then_some(())
    });
    let down = gateway.providers("federated");
    assert_eq!(down.len(), 3, "its node is still there: {down:?}");
    crowd.wait_rounds(3);

    let before = backends[2].requests();
    backends[2].revive();
    gateway.wait_ready("federated", 3);
    until("requests at the server that is back", || {
        (backends[2].requests() > before).then_some(())
    });
    assert_eq!(crowd.end(), Vec::<String>::new());
}

/// One server that takes a request and dies before it answers, and one that is well.
fn one_bad_one_good() -> [Backend; 2] {
    let bad = Backend::new("bad", |mut stream, shared| {
        if stream.read(&mut [0; 1024])? > 0 {
            shared.count();
        }
        Ok(())
    });
    [bad, Backend::http("good")]
}

#[test]
fn replay_repeats_a_request_that_got_no_answer() {
    let backends = one_bad_one_good();
    let mesh = Mesh::new();
    let (_nodes, gateway) = mesh.served_by_with(&backends, &["--failover", "replay"]);
    for _ in 0..4 {
        let answer = http::post(gateway.ingress(), "/", b"again".to_vec()).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "again"));
    }
    assert!(backends[0].requests() > 0, "the bad server was never asked");
}

#[test]
fn connect_and_off_never_repeat_a_request() {
    for failover in ["connect", "off"] {
        let backends = one_bad_one_good();
        let mesh = Mesh::new();
        let (_nodes, gateway) = mesh.served_by_with(&backends, &["--failover", failover]);
        let ask = |_| http::get(gateway.ingress(), "/").is_ok();
        let answered = (0..4).map(ask).filter(|ok| *ok).count();
        assert_eq!(answered, 2, "{failover}");
        assert_eq!((backends[0].requests(), backends[1].requests()), (2, 2));
    }
}

#[test]
fn connect_moves_away_from_a_node_that_is_silent_and_off_does_not() {
    for (failover, statuses) in [("connect", [200, 200]), ("off", [200, 503])] {
        let backends = Backend::several(2);
        let mesh = Mesh::new();
        let (nodes, gateway) = mesh.served_by_with(&backends, &["--failover", failover]);
        let at = gateway.ingress();
        nodes[0].signal(Signal::STOP);
        // Two at once go to two nodes.
        let clients = [(); 2].map(|()| thread::spawn(move || http::get(at, "/hold").unwrap()));
        backends[1].wait_held(if failover == "connect" { 2 } else { 1 });
        backends[1].release();
        let mut got = clients.map(|client| client.join().unwrap().status);
        got.sort_unstable();
        assert_eq!(got, statuses, "{failover}");
    }
}
