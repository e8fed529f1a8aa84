//! A member that breaks the protocol costs itself its link. Others notice nothing.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use warren::mesh::close::CloseCode;
use warren::mesh::entry::{Body, Class, Draft, Entry};
use warren::mesh::event::Event;
use warren::mesh::hello::MAX_HELLO_BYTES;
use warren::mesh::wire::{Frame, decode_frame, kind, max_body};

use crate::puppet::{Link, Puppet, closed_with};
use crate::rig::*;

/// What a peer may send before its Hello was checked (D27), and the Hello that is read of it.
const BEFORE_HELLO: usize = (64 << 10) + MAX_HELLO_BYTES;

/// A victim, a bystander with a transfer from it, and a puppet.
struct Scene {
    victim: Daemon,
    puppet: Puppet,
    bystander: Daemon,
    events: broadcast::Receiver<Event>,
    transfer: JoinHandle<u64>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Scene {
    async fn new() -> Self {
        let victim = start(1, With::default()).await;
        expose(&victim, "echo", echo().await).await;
        let pin = [victim.pinned()];
        let with = With {
            connect: &pin,
            ..With::default()
        };
        let bystander = start(2, with).await;
        let ingress = ingress(&bystander, "echo").await;
        let mut tcp = TcpStream::connect(ingress).await.unwrap();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let transfer = tokio::spawn(async move {
            let mut rounds = 0;
            while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                round_trip(&mut tcp, &[rounds as u8; 4096]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
                rounds += 1;
            }
            rounds
        });
        Self {
            events: bystander.events(),
            puppet: Puppet::new(9, &token(CALM)),
            victim,
            bystander,
            transfer,
            stop,
        }
    }

    async fn link(&self) -> Link {
        self.puppet.link(self.victim.id(), self.victim.addr()).await
    }

    async fn counted(&self, reason: &str, count: u64) {
        until(reason, || self.victim.refused_for(reason) >= count).await;
    }

    async fn nobody_else_noticed(mut self) {
        assert!(self.victim.sees(&self.bystander) && self.bystander.sees(&self.victim));
        self.stop.send(()).unwrap();
        assert!(self.transfer.await.unwrap() > 0);
        let downs = downs(&mut self.events).into_iter();
        let others =
            downs.filter(|what| !format!("{what:?}").contains(&self.puppet.id().to_string()));
        assert_eq!(others.collect::<Vec<_>>(), []);
        let bystander = self.victim.id();
        self.bystander.ping(bystander).await.unwrap();
    }
}

fn frame(kind: u16, len: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn frames_that_are_none_end_the_link() {
    let scene = Scene::new().await;
    let mut link = scene.link().await;
    let long = max_body(kind::PING) as u32 + 1;
    link.send
        .write_all(&frame(kind::PING, long, &[]))
        .await
        .unwrap();
    assert_eq!(closed_with(&link.connection).await, CloseCode::Protocol);
    scene.counted("frame_too_long", 1).await;

    let mut link = scene.link().await;
    let garbage = [0xff; 64];
    link.send
        .write_all(&frame(kind::ENTRIES, 64, &garbage))
        .await
        .unwrap();
    assert_eq!(closed_with(&link.connection).await, CloseCode::Protocol);
    scene.counted("frame_bad", 1).await;

    let mut link = scene.link().await;
    let half = &frame(kind::PING, 8, &[0; 4]);
    link.send.write_all(half).await.unwrap();
    link.send.finish().unwrap();
    assert_eq!(closed_with(&link.connection).await, CloseCode::Protocol);
    scene.nobody_else_noticed().await;
}

#[tokio::test]
async fn who_ends_its_control_stream_in_order_is_let_go() {
    let scene = Scene::new().await;
    let mut link = scene.link().await;
    link.send.finish().unwrap();
    assert_eq!(closed_with(&link.connection).await, CloseCode::Done);
    scene.nobody_else_noticed().await;
}

#[tokio::test]
async fn an_unknown_kind_is_counted_and_skipped() {
    let scene = Scene::new().await;
    let mut link = scene.link().await;
    for kind in [0, 999, u16::MAX] {
        link.send
            .write_all(&frame(kind, 5, b"later"))
            .await
            .unwrap();
    }
    link.send
        .write_all(&Frame::Ping(77).encode())
        .await
        .unwrap();
    let mut heard = Vec::new();
    loop {
        let chunk = link.recv.read_chunk(4096, true).await.unwrap().unwrap();
        heard.extend_from_slice(&chunk.bytes);
        let mut frames = Vec::new();
        while let Some((frame, used)) = decode_frame(&heard).unwrap() {
            heard.drain(..used);
            frames.push(frame);
        }
        if frames.contains(&Frame::Pong(77)) {
            break;
        }
    }
    assert_eq!(scene.victim.refused_for("unknown_kind"), 3);
    scene.nobody_else_noticed().await;
}

fn signed(puppet: &Puppet, key: &str) -> Entry {
    let draft = Draft {
        bucket: "config".parse().unwrap(),
        key: key.to_owned(),
        class: Class::Durable,
        version: 1,
        boot: 0,
        deleted: false,
        value: b"mine".to_vec(),
    };
    Entry::sign(puppet.network.network_id(), &puppet.identity, draft).unwrap()
}

#[tokio::test]
async fn entries_that_their_author_did_not_sign_are_refused_and_their_bearer_is_cut_off() {
    let scene = Scene::new().await;
    let bucket: warren::mesh::name::Bucket = "config".parse().unwrap();
    let ledger = scene.bystander.ledger();
    let theirs = ledger
        .put(bucket.clone(), "theirs".into(), b"true".to_vec())
        .await
        .unwrap();

    let mut link = scene.link().await;
    // Of another author, in another's name and with its own signature.
    let mut stolen = Body::clone(&signed(&scene.puppet, "theirs"));
    stolen.version = theirs.version + 1;
    stolen.slot.author = scene.bystander.id();
    link.send
        .write_all(&Frame::Entries(vec![stolen.into()]).encode())
        .await
        .unwrap();
    scene.counted("bad_signature", 1).await;
    // Its own, and good: taken.
    let good = signed(&scene.puppet, "good");
    link.send
        .write_all(&Frame::Entries(vec![good]).encode())
        .await
        .unwrap();
    // Changed after it was signed, too often.
    for n in 0..16 {
        let mut changed = Body::clone(&signed(&scene.puppet, &format!("changed{n}")));
        changed.value.push(b'!');
        // The link may be closed by now.
        let _ = link
            .send
            .write_all(&Frame::Entries(vec![changed.into()]).encode())
            .await;
    }
    assert_eq!(closed_with(&link.connection).await, CloseCode::Protocol);
    scene.counted("bad_signature", 16).await;
    let kept = scene.victim.ledger().list(Some(&bucket)).await.unwrap();
    let pairs = kept.iter().map(|e| (e.slot.key.clone(), e.value.clone()));
    let mut kept: Vec<(String, Vec<u8>)> = pairs.collect();
    kept.sort();
    let want = [
        ("good".to_owned(), b"mine".to_vec()),
        ("theirs".to_owned(), b"true".to_vec()),
    ];
    assert_eq!(kept, want);
    scene.nobody_else_noticed().await;
}

#[tokio::test]
async fn a_flood_of_frames_ends_the_link() {
    let scene = Scene::new().await;
    let mut link = scene.link().await;
    let pings: Vec<u8> = (0..1_000).flat_map(|n| Frame::Ping(n).encode()).collect();
    let flood = tokio::spawn(async move {
        for _ in 0..200 {
            if link.send.write_all(&pings).await.is_err() {
                break;
            }
        }
        link
    });
    let link = flood.await.unwrap();
    assert_eq!(closed_with(&link.connection).await, CloseCode::Flood);
    scene.counted("flood", 1).await;
    scene.nobody_else_noticed().await;
}

#[tokio::test]
async fn without_a_hello_in_time_there_is_no_link() {
    let scene = Scene::new().await;
    let begun = Instant::now();
    // One says nothing at all, one speaks a byte now and then.
    let (mute, _) = scene
        .puppet
        .connect(scene.victim.id(), scene.victim.addr())
        .await;
    let (slow, _) = scene
        .puppet
        .connect(scene.victim.id(), scene.victim.addr())
        .await;
    let (mut send, _recv) = slow.open_bi().await.unwrap();
    let dribble = tokio::spawn(async move {
        while send.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    });
    assert_eq!(closed_with(&mute).await, CloseCode::Protocol);
    assert_eq!(closed_with(&slow).await, CloseCode::Protocol);
    assert!(
        begun.elapsed() > Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    dribble.await.unwrap();
    scene.counted("hello_slow", 1).await;
    assert!(!scene.victim.view().nodes.contains_key(&scene.puppet.id()));
    scene.nobody_else_noticed().await;
}

#[tokio::test]
async fn before_its_hello_a_peer_has_one_stream_and_a_small_window() {
    let scene = Scene::new().await;
    let to = (scene.victim.id(), scene.victim.addr());
    let (connection, _) = scene.puppet.connect(to.0, to.1).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(500), connection.open_bi());
    assert!(second.await.is_err(), "a second stream was allowed");
    let uni = tokio::time::timeout(Duration::from_millis(200), connection.open_uni());
    assert!(uni.await.is_err(), "a one-way stream was allowed");
    // Datagrams are discarded as they come; they do not even reach what sorts them by flow.
    for _ in 0..10_000 {
        connection.send_datagram("x".into()).unwrap();
    }
    until("the datagrams have left", || {
        connection.stats().frame_tx.datagram > 1_000
    })
    .await;
    assert!(!scene.victim.status().refused.contains_key("udp_no_flow"));
    // A Hello of the greatest length that never ends: nothing is read behind it.
    let mut taken = 0;
    let claim = (MAX_HELLO_BYTES as u16).to_be_bytes();
    send.write_all(&claim).await.unwrap();
    send.write_all(&vec![0; MAX_HELLO_BYTES - 1]).await.unwrap();
    drop(send);
    drop(connection);

    let (connection, _) = scene.puppet.connect(to.0, to.1).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let noise = vec![0xff; 1 << 20];
    while let Ok(Ok(len)) =
        tokio::time::timeout(Duration::from_secs(2), send.write(&noise[..4096])).await
    {
        taken += len;
        assert!(
            taken <= BEFORE_HELLO,
            "{taken} bytes were taken before Hello"
        );
    }
    assert!(taken > 0);
    // 0xffff bytes are announced: refused from the length alone.
    assert_eq!(closed_with(&connection).await, CloseCode::Protocol);
    scene.counted("hello_bad", 1).await;
    scene.nobody_else_noticed().await;
}

/// A client that does not read holds the windows of its tunnel and the buffers of the system, not
/// what the server would like to send.
#[tokio::test]
async fn a_slow_reader_holds_only_its_window() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    const FAR_TOO_MUCH: usize = 256 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let source = server(move |mut tcp| {
        let count = Arc::clone(&count);
        async move {
            let chunk = vec![0; 64 * 1024];
            while count.load(Ordering::Relaxed) < FAR_TOO_MUCH
                && tcp.write_all(&chunk).await.is_ok()
            {
                count.fetch_add(chunk.len(), Ordering::Relaxed);
            }
        }
    });
    let a = start(1, With::default()).await;
    expose(&a, "source", source.await).await;
    let pin = [a.pinned()];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let b = start(2, with).await;
    let ingress = ingress(&b, "source").await;
    written.store(0, Ordering::Relaxed);
    let _client = TcpStream::connect(ingress).await.unwrap();
    let mut before = usize::MAX;
    until("it stands still", || {
        let now = written.load(Ordering::Relaxed);
        // Half a second without a byte: looked at every so often, not slept through.
        std::mem::replace(&mut before, now) == now && now > 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = written.load(Ordering::Relaxed);
    println!("{held} bytes held by a reader that does not read");
    assert!(held < 64 << 20, "{held}");
    assert!(b.sees(&a) && a.sees(&b));
}
