//! Looks at a network by somebody who is no member (D28): what an observer is shown, what it is
//! not, and what it takes in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use tokio::net::UdpSocket;
use warren::clock::Clock;
use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::close::CloseCode;
use warren::mesh::hello::OBSERVES;
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::keys::{NetworkKeys, observer_identity};
use warren::mesh::networks::{Cluster, ClusterKind};
use warren::mesh::observer::{MAX_BYTES, MAX_NODES, Seen};
use warren::mesh::records::display_id;
use warren::mesh::restraint::{MAX_INITIALS, Restraint};
use warren::mesh::wire::{Frame, MAX_ALIVE};
use warren::net::hello::{Greeter, Greeting};
use warren::net::observe::{ObserveError, Observer, Target};

use crate::puppet::{Puppet, closed_with};
use crate::rig::*;

const EXPLORER: u8 = 77;

/// How the explorer of these tests looks at the network of [`token`].
async fn look(allow_private: bool, targets: &[Target]) -> Result<Seen, ObserveError> {
    let restraint = std::sync::Mutex::new(Restraint::new(allow_private));
    let observer = Observer {
        explorer: &identity(EXPLORER),
        keys: NetworkKeys::new(&token(CALM)),
        clock: &Clock::default(),
        leave: Arc::new(move |addr| restraint.lock().unwrap().ask(Duration::ZERO, addr)),
        silence: Duration::from_secs(3),
        limit: DEADLINE,
    };
    observer.look(targets).await.map(|(seen, _)| seen)
}

fn target(id: Option<NodeId>, addr: SocketAddr) -> Target {
    let at = addr.into();
    Target { id, at, addr }
}

fn in_lab(builder: warren::NodeBuilder) -> warren::NodeBuilder {
    builder.network_id(Some("gpu_lab".parse().unwrap()))
}

#[tokio::test]
async fn an_observer_sees_the_workers_and_nobody_sees_it() {
    let a = start(1, With::default()).await;
    let connect = [a.pinned()];
    let with = With {
        connect: &connect,
        more: in_lab,
        ..With::default()
    };
    let b = start(2, with).await;
    until("they are linked", || a.sees(&b) && b.sees(&a)).await;
    let mut events = (a.events(), b.events());
    for service in ["worker", "chat"] {
        expose(&a, service, echo().await).await;
    }
    for service in ["federated", "mlx_worker"] {
        expose(&b, service, echo().await).await;
    }
    until("all is known", || {
        let both = [a.view(), b.view()];
        both.iter().all(|view| view.services.len() == 4)
    })
    .await;

    let cluster = |kind, network_id: &str, node: &Daemon| {
        let own = node.view().nodes[&node.id()].name.clone();
        Cluster {
            kind,
            network_id: network_id.to_owned(),
            workers: vec![display_id(&own, &node.id())],
        }
    };
    let clusters = [
        cluster(ClusterKind::Worker, "", &a),
        cluster(ClusterKind::MlxWorker, "gpu_lab", &b),
        cluster(ClusterKind::Federated, "gpu_lab", &b),
    ];
    for targets in [
        vec![target(Some(a.id()), a.addr())],
        vec![target(None, b.addr())],
        vec![
            target(Some(a.id()), b.addr()),
            target(Some(b.id()), b.addr()),
        ],
    ] {
        let seen = look(true, &targets).await.unwrap();
        assert_eq!((seen.nodes, seen.fresh), (2, true));
        assert_eq!(seen.clusters, clusters);
    }

    let network = NetworkKeys::new(&token(CALM)).network_id();
    let observer = observer_identity(&identity(EXPLORER), network).id();
    for (node, events) in [(&a, &mut events.0), (&b, &mut events.1)] {
        assert!(!node.view().nodes.contains_key(&observer));
        assert_eq!(node.view().nodes.len(), 2);
        let told = format!("{:?}", told(events));
        assert!(!told.contains(&observer.short()), "{told}");
        assert_eq!(node.status().refused.get("observer_spoke"), None);
    }
}

#[tokio::test]
async fn workers_of_a_node_that_is_gone_are_not_shown() {
    let a = start(1, With::default()).await;
    let connect = [a.pinned()];
    let with = With {
        connect: &connect,
        ..With::default()
    };
    let b = start(2, with).await;
    expose(&b, "worker", echo().await).await;
    let bucket = "worker".parse().unwrap();
    until("its worker is known", || {
        a.view().services.contains_key(&bucket)
    })
    .await;
    let id = b.id();
    b.stop().await;
    until("it is gone", || !a.sees_id(id)).await;
    let seen = look(true, &[target(Some(a.id()), a.addr())]).await.unwrap();
    assert_eq!((seen.nodes, seen.clusters), (1, vec![]));
}

/// An observer made by hand, which may do as it likes.
async fn observe(puppet: &Puppet, node: &Daemon) -> (Connection, Greeting) {
    let (connection, knock) = puppet.connect(node.id(), node.addr()).await;
    let network = puppet.network.network_id();
    let greeter = Greeter {
        gate: &puppet.gate,
        me: puppet.id(),
        alive: Alive::sign(network, &puppet.identity, puppet.boot, 0, LifeState::Leave),
        knock: &knock,
        features: OBSERVES,
    };
    let greeting = greeter.dial(&connection).await.unwrap();
    (connection, greeting)
}

#[tokio::test]
async fn an_observer_that_speaks_is_cut_off_and_not_heard() {
    let node = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let (connection, mut greeting) = observe(&puppet, &node).await;
    // A sign of life that would make it a member.
    let word = Frame::Alive(vec![puppet.alive()]).encode();
    greeting.send.write_all(&word).await.unwrap();
    assert_eq!(closed_with(&connection).await, CloseCode::Protocol);
    assert_eq!(node.refused_for("observer_spoke"), 1);
    assert_eq!(node.view().nodes.len(), 1);

    let (connection, _greeting) = observe(&puppet, &node).await;
    let tunnel = tokio::time::timeout(Duration::from_secs(1), connection.open_bi()).await;
    assert!(
        !matches!(tunnel, Ok(Ok(_))),
        "an observer may open streams of its own"
    );
}

#[tokio::test]
async fn who_signs_that_it_is_here_cannot_pass_for_an_observer() {
    let node = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let (connection, knock) = puppet.connect(node.id(), node.addr()).await;
    let proof = puppet.proof_input(&connection, node.id(), &knock);
    let mut hello = puppet.hello(knock.keys.proof(&proof));
    hello.features = OBSERVES;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello.encode()).await.unwrap();
    assert_eq!(closed_with(&connection).await, CloseCode::Proof);
}

#[tokio::test]
async fn a_network_that_shows_too_much_is_seen_as_far_as_there_is_room() {
    let puppet = Puppet::new(9, &token(CALM));
    let network = puppet.network.network_id();
    let crowd = (0..MAX_NODES + 300).map(|n| {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        Alive::sign(network, &Identity::from_seed(&seed), 1, 0, LifeState::Alive)
    });
    let crowd: Vec<Alive> = crowd.collect();
    let targets = [target(Some(puppet.id()), puppet.addr())];
    let showing = tokio::spawn(async move {
        let (_connection, mut greeting) = puppet.accept().await;
        for some in crowd.chunks(MAX_ALIVE) {
            let frame = Frame::Alive(some.to_vec()).encode();
            greeting.send.write_all(&frame).await.unwrap();
        }
        // Kinds that nobody knows, without end.
        let mut header = vec![0x7f, 0xff];
        header.extend(60_000_u32.to_be_bytes());
        header.resize(header.len() + 60_000, 0);
        let mut sent = 0;
        while greeting.send.write_all(&header).await.is_ok() {
            sent += header.len();
        }
        sent
    });
    let seen = look(true, &targets).await.unwrap();
    assert_eq!((seen.nodes as usize, seen.fresh), (MAX_NODES, false));
    let sent = showing.await.unwrap();
    // What was on its way when the observer had enough.
    assert!(sent < 2 * MAX_BYTES, "{sent} bytes");
}

#[tokio::test]
async fn an_address_that_does_not_answer_gets_three_packets_and_a_forbidden_one_none() {
    let silent = UdpSocket::bind(LOOPBACK).await.unwrap();
    let addr = silent.local_addr().unwrap();
    let targets = [
        target(None, addr),
        target(Some(identity(1).id()), addr),
        target(Some(identity(2).id()), addr),
    ];
    let received = || {
        let mut buffer = [0; 2_000];
        std::iter::from_fn(|| silent.try_recv(&mut buffer).ok()).count()
    };

    let forbidden = look(false, &targets).await.unwrap_err();
    assert_eq!(forbidden, ObserveError::Forbidden(addr.into()));
    assert_eq!(received(), 0);

    let unanswered = look(true, &targets).await.unwrap_err();
    assert!(
        matches!(unanswered, ObserveError::Silent(_)),
        "{unanswered}"
    );
    let received = received();
    assert_eq!(received, MAX_INITIALS as usize, "datagrams to one address");
}
