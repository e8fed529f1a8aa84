//! Readers that read nothing, beside others on the same link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use warren::node::NodeBuilder;

use crate::rig::*;

/// What is said to the server for bytes without end; to anything else it answers the same.
const POUR: &[u8] = b"p";
const ASK: &[u8] = b"a";

/// An ingress of one node, before a server of another one that pours bytes on who asks for them.
struct Scene {
    _nodes: [Daemon; 2],
    ingress: SocketAddr,
    poured: Arc<AtomicU64>,
}

impl Scene {
    async fn start(more: fn(NodeBuilder) -> NodeBuilder) -> Self {
        let poured = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&poured);
        let target = server(move |tcp| pour(tcp, Arc::clone(&counter))).await;
        let egress = start(1, With::default()).await;
        expose(&egress, "pour", target).await;
        let connect = [egress.pinned()];
        let with = With {
            connect: &connect,
            more,
            ..With::default()
        };
        let node = start(2, with).await;
        let ingress = ingress(&node, "pour").await;
        Self {
            _nodes: [egress, node],
            ingress,
            poured,
        }
    }

    /// Readers that read one byte of what they have asked for.
    async fn stopped(&self, count: usize) -> Vec<TcpStream> {
        let mut stopped = Vec::new();
        for _ in 0..count {
            let mut tcp = TcpStream::connect(self.ingress).await.unwrap();
            tcp.write_all(POUR).await.unwrap();
            tcp.read_u8().await.unwrap();
            stopped.push(tcp);
        }
        stopped
    }

    async fn ask(&self) {
        let asking = async {
            let mut tcp = TcpStream::connect(self.ingress).await.unwrap();
            round_trip(&mut tcp, ASK).await.unwrap();
        };
        let answered = timeout(DEADLINE, asking).await;
        answered.expect("no answer beside readers that have stopped");
    }

    /// Waits until all buffers on the way are full.
    async fn filled(&self) {
        let (mut before, mut calm) = (0, 0);
        until("everything is full", || {
            let now = self.poured.load(Ordering::Relaxed);
            calm = if now == before { calm + 1 } else { 0 };
            before = now;
            calm == 50
        })
        .await;
    }
}

async fn pour(mut tcp: TcpStream, poured: Arc<AtomicU64>) {
    let mut asked = [0];
    while tcp.read_exact(&mut asked).await.is_ok() {
        if asked != POUR {
            let _ = tcp.write_all(&asked).await;
            continue;
        }
        while tcp.write_all(&[0; 16 * 1024]).await.is_ok() {
            poured.fetch_add(16 * 1024, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn readers_that_stop_hold_up_nobody_else() {
    let scene = Scene::start(|builder| builder).await;
    let _stopped = scene.stopped(24).await;
    scene.filled().await;
    for _ in 0..10 {
        scene.ask().await;
    }
}

#[tokio::test]
async fn where_memory_is_used_up_readers_that_stop_are_given_up_before_others_wait() {
    // Twelve may leave their windows unread, beside four megabytes for the others.
    let scene = Scene::start(|builder| builder.tunnel_memory(64_000_000)).await;
    let mut stopped = scene.stopped(24).await;
    scene.filled().await;
    scene.ask().await;
    let mut given_up = 0;
    for tcp in &mut stopped {
        let mut bytes = vec![0; 1 << 16];
        let reading = async { while !matches!(tcp.read(&mut bytes).await, Ok(0) | Err(_)) {} };
        // Who was not has bytes without end.
        given_up += usize::from(timeout(Duration::from_millis(300), reading).await.is_ok());
    }
    assert!((1..24).contains(&given_up), "{given_up}");
}
