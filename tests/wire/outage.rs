//! What a path does to tunnels that lasts no longer than people's patience with a network.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use warren::Node;
use warren::mesh::name::Name;
use warren::service::spec::Failover;

use crate::proxy::Proxy;
use crate::rig::*;

/// A server node, a node that reaches it through a proxy, and a connection through both.
async fn joined() -> (Daemon, Daemon, Proxy, TcpStream) {
    let server = start(1, With::default()).await;
    expose(&server, "echo", echo().await).await;
    let proxy = Proxy::start(server.addr(), Duration::ZERO).await;
    let connect = [at(server.id(), proxy.addr)];
    let client = start(
        2,
        With {
            connect: &connect,
            ..With::default()
        },
    )
    .await;
    let ingress = ingress(&client, "echo").await;
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    round_trip(&mut tcp, b"before").await.unwrap();
    (server, client, proxy, tcp)
}

#[tokio::test]
async fn a_tunnel_outlives_five_seconds_without_its_path() {
    let (server, client, proxy, mut tcp) = joined().await;
    let (mut by_client, mut by_server) = (client.events(), server.events());
    proxy.cut(true);
    let outage = tokio::time::sleep(Duration::from_secs(5));
    let lost = async {
        for events in [&mut by_client, &mut by_server] {
            until("the silence is noticed", || !downs(events).is_empty()).await;
        }
    };
    tokio::join!(outage, lost);
    proxy.cut(false);
    let after = timeout(DEADLINE, round_trip(&mut tcp, b"after")).await;
    after.unwrap().unwrap();
    until("they see each other", || client.sees(&server)).await;
    round_trip(&mut tcp, b"and on").await.unwrap();
}

#[tokio::test]
async fn a_tunnel_moves_with_its_node_to_another_port() {
    let (_server, client, proxy, mut tcp) = joined().await;
    let mut events = client.events();
    for _ in 0..3 {
        proxy.forget();
        let moved = timeout(DEADLINE, round_trip(&mut tcp, b"moved")).await;
        moved.unwrap().unwrap();
    }
    assert!(downs(&mut events).is_empty(), "the link was lost");
}

/// Nothing is lost by asking somebody else, and the path may come back without the answer.
#[tokio::test]
async fn a_request_without_answer_does_not_wait_for_a_node_that_fell_silent() {
    let (server, client, proxy, mut other) = joined().await;
    let mute = crate::rig::server(|tcp| async move {
        let _tcp = tcp;
        std::future::pending::<()>().await;
    });
    expose(&server, "chat", mute.await).await;
    let ingress = ingress_with(&client, "chat", Failover::Replay).await;
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    tcp.write_all(b"request").await.unwrap();
    until("the request is there", || in_flight(&client) == 1).await;

    let connect = [client.pinned()];
    let with = With {
        connect: &connect,
        ..With::default()
    };
    let second = start(3, with).await;
    expose(&second, "chat", echo().await).await;
    until("there are two", || providers(&client, "chat") == 2).await;
    proxy.cut(true);
    let mut answer = [0; 7];
    let answered = timeout(DEADLINE, tcp.read_exact(&mut answer)).await;
    answered.unwrap().unwrap();
    assert_eq!(&answer, b"request");
    // It was not the end of the link that moved the request.
    proxy.cut(false);
    let after = timeout(DEADLINE, round_trip(&mut other, b"after")).await;
    after.unwrap().unwrap();
}

fn providers(node: &Node, service: &str) -> usize {
    let bucket = service.parse::<Name>().unwrap().into();
    let view = node.view();
    let usable = view.providers(&bucket).iter().filter(|one| one.usable());
    usable.count()
}

fn in_flight(node: &Node) -> u64 {
    node.usage().iter().map(|one| one.in_flight).sum()
}
