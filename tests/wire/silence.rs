//! An outsider gets nothing back: whatever it sends, whatever it saw, whatever the node does.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::net::TcpStream;

use crate::proxy::{Proxy, Way};
use crate::puppet::Puppet;
use crate::rig::*;

/// Pause after so many datagrams, so that the flood is processed and not only dropped by the
/// kernel.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_micros(800);

/// Somebody without the token, who saw a member join.
struct Outsider {
    socket: UdpSocket,
    rng: SmallRng,
    seen: Vec<Vec<u8>>,
    initial: Vec<u8>,
    own_cids: Vec<[u8; 8]>,
    sent: u64,
    got: Vec<Vec<u8>>,
}

impl Outsider {
    fn new(proxy: &Proxy) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut own_cids = Vec::new();
        for answer in proxy.went(Way::ToDialler) {
            // The node's own id is the source of its long headers.
            if answer.len() > 30 && answer[0] & 0x80 != 0 {
                let at = 6 + usize::from(answer[5]);
                if answer[at] == 8 {
                    own_cids.push(answer[at + 1..at + 9].try_into().unwrap());
                }
            }
        }
        assert!(!own_cids.is_empty(), "no connection id was captured");
        Self {
            socket,
            rng: SmallRng::seed_from_u64(1),
            seen: proxy.captured().into_iter().map(|one| one.bytes).collect(),
            initial: proxy.first(),
            own_cids,
            sent: 0,
            got: Vec::new(),
        }
    }

    fn send(&mut self, to: SocketAddr, count: u32) {
        for n in 0..count {
            let datagram = self.make();
            // A full buffer or a closed port are part of the game.
            if self.socket.send_to(&datagram, to).is_ok() {
                self.sent += 1;
            }
            if n % BURST == 0 {
                std::thread::sleep(PAUSE);
                self.listen();
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        self.listen();
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
            self.got.push(buffer[..len].to_vec());
        }
    }

    fn random(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn long(&mut self, kind: u8, version: u32, cid: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = self.random(len);
        bytes[0] = 0xc0 | kind << 4 | bytes[0] & 0x0f;
        bytes[1..5].copy_from_slice(&version.to_be_bytes());
        bytes[5] = cid.len() as u8;
        bytes[6..6 + cid.len()].copy_from_slice(cid);
        bytes
    }

    fn make(&mut self) -> Vec<u8> {
        let len = self.rng.random_range(0..1500);
        let full = self.rng.random_range(1200..1400);
        let pick = self.rng.random_range(0..self.own_cids.len());
        let own = self.own_cids[pick];
        match self.rng.random_range(0..14) {
            0 => self.random(len),
            1 => {
                let cid = self.random(20);
                self.long(0, 1, &cid, full)
            }
            2 => {
                // One bit beside a knock that was valid.
                let mut near = self.initial.clone();
                let bit = self.rng.random_range(0..160);
                near[6 + bit / 8] ^= 1 << (bit % 8);
                near
            }
            3 => {
                let cid = self.random(20);
                let versions = [0, 2, 0x1a2a_3a4a, 0xff00_001d, 0x6b33_43cf];
                let version = versions[self.rng.random_range(0..5)];
                self.long(0, version, &cid, full)
            }
            4 => {
                let mut short = self.random(len.max(21));
                short[0] = 0x40 | short[0] & 0x3f;
                short
            }
            5 => {
                let short = self.rng.random_range(0..8);
                let cid = self.random(short);
                self.long(0, 1, &cid, full)
            }
            6 => {
                let kind = self.rng.random_range(1..4);
                let size = [8, 20][self.rng.random_range(0..2)];
                let cid = self.random(size);
                self.long(kind, 1, &cid, full)
            }
            7 => {
                let cid = self.random(8);
                self.long(0, 1, &cid, full)
            }
            8 => self.initial.clone(),
            9 => {
                // The knock and another payload.
                let mut forged = self.initial.clone();
                let at = self.rng.random_range(26..forged.len());
                forged[at] ^= 1 << self.rng.random_range(0..8);
                forged
            }
            10 => {
                let mut short = self.random(len.max(21));
                short[0] = 0x40 | short[0] & 0x3f;
                short[1..9].copy_from_slice(&own);
                short
            }
            11 => {
                let kind = self.rng.random_range(0..4);
                self.long(kind, 1, &own, full)
            }
            12 => {
                let kind = self.rng.random_range(0..4);
                let cid: [u8; 20] = self.initial[6..26].try_into().unwrap();
                self.long(kind, 1, &cid, full)
            }
            _ => self.seen[self.rng.random_range(0..self.seen.len())].clone(),
        }
    }
}

/// Sends from a thread of its own.
async fn flood(mut outsider: Outsider, to: SocketAddr, count: u32) -> Outsider {
    let sent = tokio::task::spawn_blocking(move || {
        outsider.send(to, count);
        outsider
    });
    let outsider = sent.await.unwrap();
    assert_eq!(outsider.got, Vec::<Vec<u8>>::new(), "something came back");
    outsider
}

async fn request(ingress: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    round_trip(&mut tcp, b"how are you").await.unwrap();
    begun.elapsed()
}

fn median_and_worst(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

#[tokio::test]
async fn a_hundred_thousand_datagrams_of_an_outsider_are_answered_with_nothing() {
    let a = start(1, With::default()).await;
    let addr = a.addr();
    expose(&a, "echo", echo().await).await;
    let proxy = Proxy::start(addr, Duration::ZERO).await;
    let through = [at(a.id(), proxy.addr)];
    let with = With {
        connect: &through,
        ..With::default()
    };
    let b = start(2, with).await;
    let other_pin = [a.pinned()];
    let with = With {
        connect: &other_pin,
        ..With::default()
    };
    let c = start(3, with).await;
    until("a mesh of three", || a.sees(&b) && a.sees(&c) && b.sees(&c)).await;
    let ingress = ingress(&c, "echo").await;
    let mut calm = Vec::new();
    for _ in 0..50 {
        calm.push(request(ingress).await);
    }

    // While the connection that was captured lives, and members work.
    let dropped = a.refused_for("datagrams");
    let flooding = tokio::spawn(flood(Outsider::new(&proxy), addr, 50_000));
    let mut busy = Vec::new();
    while !flooding.is_finished() {
        busy.push(request(ingress).await);
    }
    let outsider = flooding.await.unwrap();
    let dropped = a.refused_for("datagrams") - dropped;
    let ((calm, _), (busy, worst)) = (median_and_worst(calm), median_and_worst(busy));
    println!("request: median {calm:?}, under flood {busy:?}, worst {worst:?}; dropped {dropped}");
    assert!(dropped > 20_000, "the flood did not get there: {dropped}");
    assert!(
        busy < calm + Duration::from_millis(100),
        "{calm:?} {busy:?}"
    );
    assert!(a.sees(&b) && a.sees(&c));

    // Another member, who has nothing to do with what was captured.
    let outsider = flood(outsider, c.addr(), 10_000).await;

    // After the connection was closed.
    let gone = b.id();
    b.stop().await;
    until("b is gone", || !a.view().nodes.contains_key(&gone)).await;
    let outsider = flood(outsider, addr, 10_000).await;

    // While the node stops and starts, again and again, on its address.
    let mut flooding = tokio::spawn(flood(outsider, addr, 25_000));
    let mut home = Some(a.stop().await);
    let mut starts = 0;
    while !flooding.is_finished() || starts < 3 {
        let with = With {
            listen: addr,
            ..With::default()
        };
        let again = restart(home.take().unwrap(), with).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        starts += 1;
        home = Some(again.stop().await);
    }
    let outsider = (&mut flooding).await.unwrap();
    assert!(starts >= 3);

    // After the restart: what was used before it is not forgotten.
    let with = With {
        listen: addr,
        ..With::default()
    };
    let a = restart(home.take().unwrap(), with).await;
    let outsider = flood(outsider, addr, 5_000).await;
    assert!(outsider.sent >= 95_000, "only {} were sent", outsider.sent);
    assert!(a.refused_for("datagrams") > 1_000);
    let pin = [a.pinned()];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let d = start(4, with).await;
    until("a member still gets in", || d.sees(&a) && a.sees(&d)).await;
}

#[tokio::test]
async fn a_whole_stock_client_gets_nothing() {
    let a = start(1, With::default()).await;
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    let mut transport = quinn::TransportConfig::default();
    let idle = Duration::from_secs(3).try_into().unwrap();
    transport.max_idle_timeout(Some(idle));
    client.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(LOOPBACK.parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(client, proxy.addr, "localhost");
    let error = connecting.unwrap().await.unwrap_err();
    assert_eq!(error, quinn::ConnectionError::TimedOut);
    assert!(!proxy.went(Way::ToNode).is_empty());
    assert!(proxy.went(Way::ToDialler).is_empty());
}

/// A knock that was seen and not used yet: whoever did not make the packet behind it gets
/// nothing, and does not use it up.
#[tokio::test]
async fn a_knock_cannot_be_burnt_by_who_only_saw_it() {
    let a = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let target = warren::mesh::keys::Target::Node(a.id());
    let knock = puppet.gate.knock(&target, 0).unwrap();
    let outsider = UdpSocket::bind(LOOPBACK).unwrap();
    let mut rng = SmallRng::seed_from_u64(3);
    for n in 0..2_000_u32 {
        let mut forged = vec![0; 1200];
        rng.fill_bytes(&mut forged);
        forged[0] = 0xc0 | forged[0] & 0x0f;
        forged[1..6].copy_from_slice(&[0, 0, 0, 1, 20]);
        forged[6..26].copy_from_slice(&knock.dcid);
        // Source id, then a token of another size each time, then the length of the rest.
        let token = (n % 60) as u8;
        forged[26] = 8;
        forged[35] = token;
        let at = 36 + usize::from(token);
        let rest = (1200 - at - 2) as u16;
        forged[at..at + 2].copy_from_slice(&(0x4000 | rest).to_be_bytes());
        outsider.send_to(&forged, a.addr()).unwrap();
    }
    let config =
        puppet
            .factory
            .client_config(&knock, warren::net::verify::Accept::Pinned, a.addr());
    let name = warren::net::verify::pinned_name(&a.id());
    let connecting = puppet.endpoint.connect_with(config, a.addr(), &name);
    connecting.unwrap().await.unwrap();
    outsider
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(outsider.recv_from(&mut [0; 2048]).is_err());
}

/// When an epoch has ended, its nonces are forgotten after three intervals; what was captured in
/// it opens nothing then either.
#[tokio::test]
async fn a_capture_played_back_epochs_later_gets_nothing() {
    let token = || token(1);
    let with = With {
        token: token(),
        ..With::default()
    };
    let a = start(1, with).await;
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let through = [at(a.id(), proxy.addr)];
    let with = With {
        token: token(),
        connect: &through,
        ..With::default()
    };
    let b = start(2, with).await;
    until("joined", || a.sees(&b)).await;
    // Of several dials the last one was answered.
    let initials = proxy.went(Way::ToNode).into_iter();
    let initials: Vec<Vec<u8>> = initials.filter(|bytes| bytes[0] & 0xf0 == 0xc0).collect();
    b.stop().await;
    let outsider = UdpSocket::bind(LOOPBACK).unwrap();
    outsider
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        for initial in &initials {
            outsider.send_to(initial, a.addr()).unwrap();
        }
        assert!(outsider.recv_from(&mut [0; 2048]).is_err());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A closed endpoint of QUIC refuses new connections aloud; a used knock is none to it.
#[tokio::test]
async fn a_replay_at_a_closing_endpoint_gets_nothing() {
    let (puppet, answerer) = (Puppet::new(9, &token(CALM)), Puppet::new(8, &token(CALM)));
    let proxy = Proxy::start(answerer.addr(), Duration::ZERO).await;
    let (connecting, knock) = puppet.connecting(answerer.id(), proxy.addr);
    let incoming = answerer.endpoint.accept().await.unwrap();
    let now = answerer.clock.now().mono;
    assert!(answerer.gate.lock().reserve(now, &knock));
    let (dialled, accepted) = tokio::join!(connecting, incoming.accept().unwrap());
    let (dialled, _accepted) = (dialled.unwrap(), accepted.unwrap());
    answerer.endpoint.close(0_u32.into(), b"");
    dialled.closed().await;
    // Until then the old connection takes the replay in.
    answerer.endpoint.wait_idle().await;

    let outsider = UdpSocket::bind(LOOPBACK).unwrap();
    for _ in 0..20 {
        outsider.send_to(&proxy.first(), answerer.addr()).unwrap();
    }
    // The endpoint works on: what was sent to it before is through when this is.
    tokio::time::sleep(Duration::from_millis(300)).await;
    outsider.set_nonblocking(true).unwrap();
    assert!(outsider.recv_from(&mut [0; 2048]).is_err());
}

/// Who has said that it leaves answers no dial, not even a member's, while its last work ends.
#[tokio::test]
async fn a_node_that_leaves_is_silent_to_new_dials_and_finishes_its_work() {
    let a = start(1, With::default()).await;
    expose(&a, "echo", echo().await).await;
    let pin = [a.pinned()];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let b = start(2, with).await;
    let ingress = ingress(&b, "echo").await;
    let mut tcp = TcpStream::connect(ingress).await.unwrap();
    round_trip(&mut tcp, b"before").await.unwrap();
    let proxy = Proxy::start(a.addr(), Duration::ZERO).await;
    let leaving = tokio::spawn({
        let node = a.node.clone();
        async move { node.shutdown(false).await }
    });
    until("the departure is known", || !b.sees(&a)).await;
    let puppet = Puppet::new(9, &token(CALM));
    let (connecting, _) = puppet.connecting(a.id(), proxy.addr);
    let dial = tokio::time::timeout(Duration::from_secs(1), connecting);
    assert!(dial.await.is_err());
    assert!(proxy.went(Way::ToDialler).is_empty());
    round_trip(&mut tcp, b"after").await.unwrap();
    drop(tcp);
    leaving.await.unwrap();
}
