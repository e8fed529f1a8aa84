//! Nodes whose bytes are carried by several threads: everybody reaches the right one, also from
//! another address than before.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use warren::Node;
use warren::mesh::close::CloseCode;
use warren::node::NodeBuilder;

use crate::limits::MAX_LINKS_PER_PEER;
use crate::proxy::Proxy;
use crate::puppet::{Link, Puppet, closed_with};
use crate::rig::*;

/// Bytes of one transfer: several windows, and no multiple of anything.
const BYTES: usize = 3_000_001;

fn with(connect: &[String], more: fn(NodeBuilder) -> NodeBuilder) -> With<'_> {
    With {
        connect,
        more,
        ..With::default()
    }
}

fn in_two(builder: NodeBuilder) -> NodeBuilder {
    builder.shards(NonZeroU32::new(2).unwrap())
}

fn in_one(builder: NodeBuilder) -> NodeBuilder {
    builder.shards(NonZeroU32::MIN)
}

/// Sends bytes that nobody else sends, and checks that exactly those come back.
async fn exchange(ingress: SocketAddr, seed: u64) {
    let mut sent = vec![0; BYTES];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut sent);
    let tcp = TcpStream::connect(ingress).await.unwrap();
    let (mut from, mut to) = tcp.into_split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = tokio::join!(write, from.read_to_end(&mut back));
    read.unwrap();
    assert!(back == sent, "{} bytes came back of {BYTES}", back.len());
}

/// Four transfers at once through each of six nodes, and from the server through those again.
async fn all_exchange(more: fn(NodeBuilder) -> NodeBuilder) -> (Daemon, Vec<Daemon>) {
    let server = start(1, with(&[], in_three)).await;
    expose(&server, "echo", echo().await).await;
    let connect = [server.pinned()];
    let mut clients = Vec::new();
    let mut ingresses = Vec::new();
    for n in 2..8 {
        let client = start(n, with(&connect, more)).await;
        ingresses.push(ingress(&client, "echo").await);
        clients.push(client);
    }
    let all = (0..24).map(|n: u64| exchange(ingresses[n as usize % 6], n));
    timeout(DEADLINE, join_all(all)).await.unwrap();
    (server, clients)
}

#[tokio::test]
async fn a_node_with_three_shards_serves_six_that_have_one() {
    let (server, clients) = all_exchange(in_one).await;
    assert_eq!(server.status().shards, 3);
    assert!(clients.iter().all(|one| one.status().shards == 1));
    assert!(clients.iter().all(|one| one.status().steered == 0));
    assert_eq!(server.refused_for("datagrams"), 0);
}

#[tokio::test]
async fn a_node_with_three_shards_serves_six_that_have_two() {
    let (server, clients) = all_exchange(in_two).await;
    // The other way: the node that was dialled sends into the mesh, its own server included.
    expose(&clients[0], "back", echo().await).await;
    let back = ingress(&server, "back").await;
    let own = ingress(&server, "echo").await;
    let all = (0..8).map(|n| exchange(if n % 2 == 0 { back } else { own }, n));
    timeout(DEADLINE, join_all(all)).await.unwrap();
    assert_eq!(clients[0].status().shards, 2);
}

/// The kernel gives what comes from another port to another socket than before, two times of
/// three; the connection stays on its shard.
#[tokio::test]
async fn a_tunnel_survives_that_its_datagrams_come_to_other_shards() {
    let server = start(1, with(&[], in_three)).await;
    expose(&server, "echo", echo().await).await;
    let proxy = Proxy::start(server.addr(), Duration::ZERO).await;
    let connect = [at(server.id(), proxy.addr)];
    let client = start(2, with(&connect, in_one)).await;
    let ingress = ingress(&client, "echo").await;
    let mut events = client.events();
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    for _ in 0..10 {
        proxy.forget();
        let moved = timeout(DEADLINE, round_trip(&mut tcp, b"moved")).await;
        moved.unwrap().unwrap();
    }
    exchange(ingress, 1).await;
    assert!(downs(&mut events).is_empty(), "the link was lost");
    assert_eq!(server.refused_for("datagrams"), 0);
}

/// What hears of a link and closes it is not the thread that sends this side's Hello, and that may
/// wait behind a probe of the path: peers with too many links took it that the dial had failed.
#[tokio::test]
async fn a_peer_is_greeted_before_its_link_is_closed() {
    let node = start(1, with(&[], in_three)).await;
    let puppet = Puppet::new(9, &token(CALM));
    let mut links = Vec::new();
    for _ in 0..MAX_LINKS_PER_PEER {
        links.push(puppet.link(node.id(), node.addr()).await);
    }
    for _ in 0..16 {
        let one_more = puppet.link(node.id(), node.addr()).await;
        let code = closed_with(&one_more.connection).await;
        assert_eq!(code, CloseCode::Duplicate);
    }
    let open = |link: &Link| link.connection.close_reason().is_none();
    assert!(links.iter().all(open), "those before were closed");
}

#[tokio::test]
async fn a_node_that_stops_lets_tunnels_on_its_shards_end() {
    let server = start(1, with(&[], in_three)).await;
    expose(&server, "echo", echo().await).await;
    let connect = [server.pinned()];
    let client = start(2, with(&connect, in_two)).await;
    let ingress = ingress(&client, "echo").await;
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    round_trip(&mut tcp, b"before").await.unwrap();
    let stopping: Node = server.node.clone();
    let stopped = tokio::spawn(async move { stopping.shutdown(false).await });
    until("it stops", || server.status().state == "leaving").await;
    round_trip(&mut tcp, b"still").await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
    timeout(DEADLINE, stopped).await.unwrap().unwrap();
    timeout(DEADLINE, client.shutdown(false)).await.unwrap();
}
