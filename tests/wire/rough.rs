//! Long and lossy paths, and readers that do not read: bytes arrive whole, and nobody waits for
//! somebody else's.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use warren::mesh::window;

use crate::proxy::Proxy;
use crate::rig::*;

const ONE_WAY: Duration = Duration::from_millis(20);
/// Of a hundred datagrams, so many are lost and as many are overtaken.
const PERCENT: u64 = 2;
const STREAMS: u8 = 6;
const LEN: usize = 700_000;
/// QUIC grants more of a window when an eighth of it was read.
const UNGRANTED: usize = window::STREAM as usize / 8;
/// What the two ends of a tunnel may have read and not written yet.
const IN_HAND: usize = 1 << 20;
/// As small as the kernel lets it be.
const SMALL: u32 = 4 << 10;

/// Bytes of one stream, unlike those of any other.
fn content(stream: u8) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ stream;
    (0..LEN).map(byte).collect()
}

#[tokio::test]
async fn streams_arrive_whole_over_a_long_path_that_loses_and_reorders() {
    let server = start(1, With::default()).await;
    expose(&server, "echo", echo().await).await;
    let proxy = Proxy::start(server.addr(), ONE_WAY).await;
    let connect = [at(server.id(), proxy.addr)];
    let with = With {
        connect: &connect,
        ..With::default()
    };
    let client = start(2, with).await;
    let ingress = ingress(&client, "echo").await;
    proxy.be_rough(PERCENT);
    let mut streams = JoinSet::new();
    for stream in 0..STREAMS {
        streams.spawn(async move {
            let (mut read, mut write) = TcpStream::connect(ingress).await.unwrap().into_split();
            let sent = content(stream);
            let writing = tokio::spawn(async move {
                write.write_all(&content(stream)).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut back = Vec::new();
            read.read_to_end(&mut back).await.unwrap();
            assert!(back == sent, "stream {stream}: {} bytes", back.len());
            writing.await.unwrap();
        });
    }
    let all = async {
        while let Some(done) = streams.join_next().await {
            done.unwrap();
        }
    };
    timeout(DEADLINE, all).await.expect("they all arrive");
    let (lost, overtaken) = proxy.roughness();
    assert!(lost > 0 && overtaken > 0, "the path was smooth");
}

/// Writes until nothing more is taken; gives how much was.
async fn fill(tcp: &mut TcpStream) -> usize {
    let mut taken = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), tcp.write(&[7; 16 * 1024])).await {
        taken += written.unwrap();
    }
    taken
}

/// Bytes that the kernel holds of a connection between two sockets of this machine: it lets fast
/// ones have many times the window.
fn in_kernel(tcp: &TcpStream) -> usize {
    let port = |text: &str| u16::from_str_radix(text.rsplit_once(':')?.1, 16).ok();
    let mut ports = [tcp.local_addr(), tcp.peer_addr()].map(|addr| Some(addr.unwrap().port()));
    ports.sort();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queued = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let mut of = [port(fields[1]), port(fields[2])];
        of.sort();
        let (send, receive) = fields[4].split_once(':').filter(|_| of == ports)?;
        let both = [send, receive].map(|count| usize::from_str_radix(count, 16).unwrap());
        Some(both.iter().sum::<usize>())
    });
    queued.sum()
}

/// A server that takes one byte of each connection and then hands it over.
async fn mute() -> (SocketAddr, mpsc::UnboundedReceiver<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL).unwrap();
    socket.bind(LOOPBACK.parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let addr = listener.local_addr().unwrap();
    let (hand, handed) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            // Who only looks whether the server is there says nothing.
            if tcp.read_u8().await.is_ok() && hand.send(tcp).is_err() {
                return;
            }
        }
    });
    (addr, handed)
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux tells what it holds")]
async fn readers_that_do_not_read_hold_their_window_and_hold_up_nobody() {
    let server = start(1, With::default()).await;
    let (target, mut handed) = mute().await;
    expose(&server, "mute", target).await;
    expose(&server, "echo", echo().await).await;
    let connect = [server.pinned()];
    let with = With {
        connect: &connect,
        ..With::default()
    };
    let client = start(2, with).await;
    let (slow, quick) = (
        ingress(&client, "mute").await,
        ingress(&client, "echo").await,
    );
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SMALL).unwrap();
        let mut tcp = socket.connect(slow).await.unwrap();
        let mut taken = fill(&mut tcp).await;
        let reader = handed.recv().await.unwrap();
        let window = window::STREAM as usize;
        // A busy machine may pause for so long before everything is full.
        for tries in 1.. {
            let held = taken.saturating_sub(in_kernel(&tcp) + in_kernel(&reader));
            if (window - UNGRANTED..window + IN_HAND).contains(&held) {
                break;
            }
            assert!(tries < 20, "{held} of {taken} bytes are held");
            taken += fill(&mut tcp).await;
        }
        stuck.push((tcp, reader, taken));
        let mut tcp = TcpStream::connect(quick).await.unwrap();
        let other = timeout(DEADLINE, round_trip(&mut tcp, &[9; 50_000])).await;
        other.expect("the link is not blocked").unwrap();
    }
    // Who reads at last gets all that was taken.
    for (_tcp, reader, taken) in &mut stuck {
        let mut kept = vec![0; *taken - 1];
        let read = timeout(DEADLINE, reader.read_exact(&mut kept)).await;
        read.expect("it is there").unwrap();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
