//! Links that nobody uses are closed, and no client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use warren::clock::Clock;
use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::brain::{Dialled, Input};
use warren::mesh::close::CloseCode;
use warren::mesh::entry::{Class, Draft, Entry};
use warren::mesh::id::NodeId;
use warren::mesh::keys::NetworkKeys;
use warren::mesh::members::LinkId;
use warren::mesh::records::{ServiceRecord, display_id};
use warren::mesh::stream::Status;
use warren::mesh::window::DEFAULT_BUDGET;
use warren::mesh::wire::Frame;
use warren::net::gate::SharedGate;
use warren::net::link::ends_only_the_link;
use warren::net::tunnel::TunnelGuard;
use warren::net::{LinkEvent, Net, NetSetup, TunnelSink};
use warren::service::spec::Failover;

use crate::puppet::Puppet;
use crate::rig::*;

/// How long a link is kept after its last tunnel, as `schema/wire.md` says.
const KEPT: Duration = Duration::from_secs(30);

/// Sends back what comes, and counts.
#[derive(Default)]
struct Echo(AtomicUsize);

impl TunnelSink for Echo {
    fn tunnel(
        &self,
        _: NodeId,
        mut send: SendStream,
        mut recv: RecvStream,
        guard: TunnelGuard,
    ) -> BoxFuture<'static, ()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        async move {
            while let Ok(Some(chunk)) = recv.read_chunk(1024, true).await {
                if send.write_all(&chunk.bytes).await.is_err() {
                    break;
                }
            }
            let _ = send.finish();
            drop(guard);
        }
        .boxed()
    }
}

/// A net without a brain.
struct Bare {
    net: Arc<Net>,
    id: NodeId,
    events: mpsc::Receiver<LinkEvent>,
    echo: Arc<Echo>,
}

impl Bare {
    fn start(n: u8) -> Self {
        let identity = identity(n);
        let keys = NetworkKeys::new(&token(CALM));
        let (tell, events) = mpsc::channel(64);
        let echo = Arc::new(Echo::default());
        let net = Net::start(NetSetup {
            gate: SharedGate::new(Clock::default(), keys.clone(), identity.id(), true),
            listen: vec![LOOPBACK.parse().unwrap()],
            shards: std::num::NonZeroU32::MIN,
            alive: Alive::sign(keys.network_id(), &identity, 1, 0, LifeState::Alive),
            events: tell,
            tunnels: Arc::<Echo>::clone(&echo),
            knock_used: Arc::new(|_| {}),
            tunnel_memory: DEFAULT_BUDGET,
            identity,
        });
        Self {
            net: net.unwrap(),
            id: self::identity(n).id(),
            events,
            echo,
        }
    }

    async fn next(&mut self) -> Input {
        match tokio::time::timeout(DEADLINE, self.events.recv()).await {
            Ok(Some(LinkEvent::Input(input))) => input,
            other => panic!("{other:?}"),
        }
    }

    async fn next_up(&mut self) -> LinkId {
        match self.next().await {
            Input::LinkUp(up) => up.link,
            other => panic!("{other:?}"),
        }
    }

    /// Why its link ended.
    async fn next_down(&mut self) -> String {
        match self.next().await {
            Input::LinkDown { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// Two nets and the numbers of their link.
async fn linked() -> (Bare, LinkId, Bare, LinkId) {
    let (mut a, mut b) = (Bare::start(1), Bare::start(2));
    let at = b.net.local_addrs()[0];
    a.net.dial(Dialled::Node(b.id), vec![at.into()]);
    let (link_a, link_b) = (a.next_up().await, b.next_up().await);
    (a, link_a, b, link_b)
}

/// Lets `span` pass for both; a frame now and then keeps QUIC from giving up.
async fn pass(span: Duration, a: (&Bare, LinkId), b: &mut Bare) {
    let step = Duration::from_secs(10);
    let mut passed = Duration::ZERO;
    while passed < span {
        tokio::time::pause();
        tokio::time::advance(step).await;
        tokio::time::resume();
        passed += step;
        a.0.net.send(a.1, &Frame::Ping(1));
        assert!(matches!(b.next().await, Input::Frame { .. }));
    }
}

#[tokio::test]
async fn a_link_is_trimmed_when_no_tunnel_was_open_on_it_for_a_while() {
    let (a, link, mut b, far) = linked().await;
    let trim = |b: &Bare| {
        a.net.trim(link);
        b.net.trim(far);
        a.net.is_up(link) && b.net.is_up(far)
    };
    assert!(trim(&b), "whoever dialled it is about to use it");

    let (mut send, mut recv, guard) = a.net.open(link).await.unwrap();
    for _ in 0..2 {
        let mut back = [0; 4];
        send.write_all(b"ping").await.unwrap();
        recv.read_exact(&mut back).await.unwrap();
        pass(KEPT, (&a, link), &mut b).await;
        assert!(trim(&b), "a tunnel is open on it");
    }
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(9).await.unwrap(), b"");
    drop(guard);
    pass(KEPT / 2, (&a, link), &mut b).await;
    assert!(trim(&b), "a tunnel was open on it a moment ago");

    pass(KEPT, (&a, link), &mut b).await;
    a.net.trim(link);
    assert_eq!(b.next_down().await, CloseCode::Idle.meaning());
    assert!(a.net.open(link).await.is_err());
}

#[tokio::test]
async fn a_link_that_never_had_a_tunnel_is_trimmed_soon() {
    let (a, link, mut b, _) = linked().await;
    pass(KEPT / 3, (&a, link), &mut b).await;
    a.net.trim(link);
    assert_eq!(b.next_down().await, CloseCode::Idle.meaning());
}

/// The stream that crosses the end of its link is served by nobody, and its opener can tell.
#[tokio::test]
async fn a_stream_that_crosses_the_trim_is_not_served() {
    let (a, link, mut b, far) = linked().await;
    pass(KEPT, (&a, link), &mut b).await;
    let (mut send, mut recv, _guard) = b.net.open(far).await.unwrap();
    // Nothing was awaited since, so the stream is not on its way yet.
    a.net.trim(link);
    let _ = send.write_all(b"too late").await;
    let mut byte = [0];
    let end = match recv.read_exact(&mut byte).await.unwrap_err() {
        ReadExactError::ReadError(ReadError::ConnectionLost(end)) => end,
        other => panic!("{other}"),
    };
    assert!(ends_only_the_link(&end), "{end}");
    assert_eq!(a.echo.0.load(Ordering::SeqCst), 0);
}

/// A member that serves `echo`, and lets the first link go under its first tunnel.
async fn let_go_once(puppet: Puppet) {
    let first = accept(&puppet).await;
    let _crossed = first.0.accept_bi().await.unwrap();
    let code = CloseCode::Idle;
    first
        .0
        .close((code as u32).into(), code.meaning().as_bytes());

    let second = accept(&puppet).await;
    let (mut send, mut recv) = second.0.accept_bi().await.unwrap();
    let mut header = [0; 7];
    recv.read_exact(&mut header).await.unwrap();
    assert_eq!(&header[3..], b"echo");
    send.write_all(&[Status::Connected.byte()]).await.unwrap();
    while let Some(chunk) = recv.read_chunk(1024, true).await.unwrap() {
        send.write_all(&chunk.bytes).await.unwrap();
    }
}

/// A link that somebody dialled, with its control stream, on which the service is announced.
async fn accept(puppet: &Puppet) -> (Connection, SendStream, RecvStream) {
    let (connection, mut greeting) = puppet.accept().await;
    connection.set_max_concurrent_bi_streams(8_u32.into());
    let name = "puppet".parse().unwrap();
    let record = ServiceRecord {
        id: display_id(&name, &puppet.id()),
        name,
        ready: true,
        target: "127.0.0.1:1".into(),
        network_id: None,
        protocol: warren::mesh::records::Protocol::Tcp,
        wants_client: false,
    };
    let draft = Draft {
        bucket: "echo".parse().unwrap(),
        key: puppet.id().short(),
        class: Class::Live,
        version: 1,
        boot: puppet.boot,
        deleted: false,
        value: serde_json::to_vec(&record).unwrap(),
    };
    let network = puppet.network.network_id();
    let entry = Entry::sign(network, &puppet.identity, draft).unwrap();
    let frame = Frame::Entries(vec![entry]).encode();
    greeting.send.write_all(&frame).await.unwrap();
    // The first session of a node that dialled has this number; there is nothing else to tell.
    let done = Frame::SyncDone {
        session: 3,
        fresh: true,
    };
    let done = done.encode();
    greeting.send.write_all(&done).await.unwrap();
    (connection, greeting.send, greeting.recv)
}

#[tokio::test]
async fn no_client_notices_that_a_link_is_let_go_under_its_tunnel() {
    for failover in [Failover::Connect, Failover::Replay, Failover::Off] {
        let puppet = Puppet::new(9, &token(CALM));
        let connect = [at(puppet.id(), puppet.addr())];
        let serving = tokio::spawn(let_go_once(puppet));
        let with = With {
            connect: &connect,
            ..With::default()
        };
        let node = start(1, with).await;
        let ingress = ingress_with(&node, "echo", failover).await;
        let mut tcp = TcpStream::connect(ingress).await.unwrap();
        let served = round_trip(&mut tcp, b"hello").await;
        assert!(served.is_ok(), "{failover:?}: {served:?}");
        drop(tcp);
        serving.await.unwrap();
        node.stop().await;
    }
}
