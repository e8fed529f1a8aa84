//! Datagrams go before streams in every packet: those of one client must leave room for others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use warren::node::{ExposeSpec, IngressSpec, Protocol, RoleKind};

use crate::rig::*;

/// Bytes per second of the narrow path, each way.
const RATE: f64 = 500_000.0;
/// Packets that wait for it; more are lost.
const WAITING: usize = 8;
/// What a connection sends through it beside the flood.
const BULK: usize = 300_000;

/// A path that takes [`RATE`] and no more.
async fn narrow(node: SocketAddr, tasks: &mut JoinSet<()>) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind(LOOPBACK).await.unwrap());
    let back = Arc::new(UdpSocket::bind(LOOPBACK).await.unwrap());
    back.connect(node).await.unwrap();
    let addr = front.local_addr().unwrap();
    let (forth, forth_queue) = mpsc::channel(WAITING);
    let (answers, answer_queue) = mpsc::channel::<(Vec<u8>, SocketAddr)>(WAITING);
    let (told, asked) = tokio::sync::watch::channel(None);
    let (one, other) = (Arc::clone(&front), Arc::clone(&back));
    tasks.spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = one.recv_from(&mut buffer).await {
            told.send_replace(Some(from));
            let _ = forth.try_send((buffer[..len].to_vec(), node));
        }
    });
    tasks.spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(len) = other.recv(&mut buffer).await {
            let dialler: Option<SocketAddr> = *asked.borrow();
            let _ = answers.try_send((buffer[..len].to_vec(), dialler.unwrap()));
        }
    });
    tasks.spawn(pass(forth_queue, move |bytes, _| {
        let back = Arc::clone(&back);
        async move {
            let _ = back.send(&bytes).await;
        }
    }));
    tasks.spawn(pass(answer_queue, move |bytes, to| {
        let front = Arc::clone(&front);
        async move {
            let _ = front.send_to(&bytes, to).await;
        }
    }));
    addr
}

async fn pass<F: Future<Output = ()>>(
    mut queue: mpsc::Receiver<(Vec<u8>, SocketAddr)>,
    send: impl Fn(Vec<u8>, SocketAddr) -> F,
) {
    let mut free = Instant::now();
    while let Some((bytes, to)) = queue.recv().await {
        free = free.max(Instant::now()) + Duration::from_secs_f64(bytes.len() as f64 / RATE);
        send(bytes, to).await;
        tokio::time::sleep_until(free).await;
    }
}

async fn listen(node: &Daemon, service: &str, protocol: Protocol) -> SocketAddr {
    let spec = IngressSpec {
        protocol,
        ..IngressSpec::new(service.parse().unwrap(), LOOPBACK.parse().unwrap())
    };
    let role = node.ingress(spec, false).await.unwrap();
    let RoleKind::Ingress { listen, .. } = role.kind else {
        panic!("{role:?}");
    };
    listen
}

#[tokio::test]
async fn a_flood_of_datagrams_leaves_room_for_connections() {
    let mut tasks = JoinSet::new();
    let a = start(1, With::default()).await;
    let path = narrow(a.addr(), &mut tasks).await;
    let pin = [at(a.id(), path)];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let b = start(2, with).await;
    let sink = UdpSocket::bind(LOOPBACK).await.unwrap();
    let target = sink.local_addr().unwrap().into();
    let drain = ExposeSpec {
        protocol: Protocol::Udp,
        ..ExposeSpec::new("drain".parse().unwrap(), target)
    };
    a.node.expose(drain, false).await.unwrap();
    expose(&a, "echo", echo().await).await;
    until("both services", || b.view().all_providers().count() == 2).await;
    let requests = listen(&b, "echo", Protocol::Tcp).await;
    let flood = listen(&b, "drain", Protocol::Udp).await;

    let (arrived, mut arrives) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(len) = sink.recv(&mut buffer).await {
            let _ = arrived.send(len);
        }
    });
    tasks.spawn(async move {
        let client = UdpSocket::bind(LOOPBACK).await.unwrap();
        loop {
            // Four times what the path takes.
            for _ in 0..20 {
                let _ = client.send_to(&[7; 1_000], flood).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let lost = || b.refused_for("udp_overflow") > 1_000;
    until("the flood is too much", lost).await;
    while arrives.try_recv().is_ok() {}
    let client = TcpStream::connect(requests).await.unwrap();
    let (mut answers, mut asks) = client.into_split();
    tasks.spawn(async move {
        asks.write_all(&[1; BULK]).await.unwrap();
    });
    let mut answer = vec![0; BULK];
    let answered = tokio::time::timeout(DEADLINE, answers.read_exact(&mut answer));
    answered.await.expect("starved").unwrap();
    let bytes: usize = std::iter::from_fn(|| arrives.try_recv().ok()).sum();
    assert!(bytes > 0, "nothing of the flood arrived");
    // Without its part of the path the connection waits until the flood has sent 18 times as much.
    assert!(bytes < 6 * BULK, "{bytes} bytes of the flood came first");
    assert!(a.sees(&b) && b.sees(&a), "the flood looked like a death");
}
