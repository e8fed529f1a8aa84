use std::net::{SocketAddr, UdpSocket};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use quinn::{RecvStream, SendStream};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::driver::DriverSetup;
use crate::mesh::alive::{Alive, LifeState};
use crate::mesh::brain::{Brain, LinkUp, Setup, Timing};
use crate::mesh::id::Identity;
use crate::mesh::keys::{NetworkKeys, Secret};
use crate::mesh::records::NodeRecord;
use crate::mesh::token::Token;
use crate::mesh::window::DEFAULT_BUDGET;
use crate::mesh::wire::Frame;
use crate::net::gate::SharedGate;
use crate::net::tunnel::TunnelGuard;
use crate::net::{LinkEvent, Net, NetSetup, TunnelSink};
use crate::store::Store;

/// The link by which the other node was met; it exists in the brain only.
const MET: LinkId = LinkId(u64::MAX);
/// One with a third node, which stays: a node without any link would not know who is online.
const WITNESS: LinkId = LinkId(u64::MAX - 1);

struct NoTunnels;

impl TunnelSink for NoTunnels {
    fn tunnel(
        &self,
        _: NodeId,
        _: SendStream,
        _: RecvStream,
        _: TunnelGuard,
    ) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

fn keys() -> NetworkKeys {
    NetworkKeys::new(&Token::new(Secret::new([7; 32]), 9_000, 360).unwrap())
}

/// This node, and one with a smaller id: the first dial after a lost link is left to that one, so
/// that this node dials only when somebody asks.
fn identities() -> (Identity, Identity) {
    let [a, b] = [1, 2].map(|n| Identity::from_seed(&[n; 32]));
    if a.id() > b.id() { (a, b) } else { (b, a) }
}

fn alive(identity: &Identity, state: LifeState) -> Alive {
    Alive::sign(keys().network_id(), identity, 1, 0, state)
}

fn net(identity: &Identity) -> (Arc<Net>, mpsc::Sender<LinkEvent>, mpsc::Receiver<LinkEvent>) {
    let (events, links) = mpsc::channel(4_096);
    let net = Net::start(NetSetup {
        identity: identity.clone(),
        gate: SharedGate::new(Clock::default(), keys(), identity.id(), true),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        shards: std::num::NonZeroU32::MIN,
        alive: alive(identity, LifeState::Alive),
        events: events.clone(),
        tunnels: Arc::new(NoTunnels),
        knock_used: Arc::new(|_| {}),
        tunnel_memory: DEFAULT_BUDGET,
    });
    (net.unwrap(), events, links)
}

/// A driver that has met one other node.
struct Scene {
    driver: Driver,
    events: mpsc::Sender<LinkEvent>,
    other: NodeId,
    _home: TempDir,
}

impl Scene {
    /// The other node is at `at`, and the link to it is up as far as the brain knows.
    async fn met(at: SocketAddr) -> Self {
        let (me, other) = identities();
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 1).unwrap();
        let (net, events, links) = net(&me);
        let clock = Clock::default();
        let forever = std::time::Duration::from_secs(10_000);
        let setup = Setup {
            identity: me,
            network: keys().network_id(),
            boot: 1,
            record: NodeRecord {
                name: "a".parse().unwrap(),
                version: String::new(),
                addresses: vec![],
                draining: false,
            },
            connect: vec![],
            crypto_interval: 9_000,
            timing: Timing {
                ping_after: forever / 2,
                suspect_after: forever,
                silence_is_death: forever,
                redial_after: forever,
                ..Timing::default()
            },
        };
        let (driver, running) = Driver::new(DriverSetup {
            brain: Brain::new(clock.now(), setup, vec![], vec![], vec![]),
            net,
            links,
            store,
            clock,
            addresses: vec![],
            knockable: vec![],
        })
        .unwrap();
        tokio::spawn(running);
        let scene = Self {
            driver,
            events,
            other: other.id(),
            _home: home,
        };
        let witness = Identity::from_seed(&[3; 32]);
        scene.up(&witness, WITNESS, at).await;
        scene.up(&other, MET, at).await;
        // The first session of a dialler has this number; the witness has nothing to tell.
        let frame = Frame::SyncDone {
            session: 3,
            fresh: true,
        };
        let link = WITNESS;
        scene.tell(Input::Frame { link, frame }).await;
        scene
    }

    async fn tell(&self, input: Input) {
        self.events.send(LinkEvent::Input(input)).await.unwrap();
    }

    async fn up(&self, peer: &Identity, link: LinkId, remote: SocketAddr) {
        let up = LinkUp {
            link,
            peer: peer.id(),
            alive: alive(peer, LifeState::Alive),
            dialled: Some(Dialled::Node(peer.id())),
            remote,
            observed: "127.0.0.1:9".parse().unwrap(),
            again: false,
        };
        self.tell(Input::LinkUp(up)).await;
    }

    /// The link ends: from now on the other node is known, and no link to it is up.
    async fn down(&self) {
        let reason = "not needed".to_owned();
        self.tell(Input::LinkDown {
            link: MET,
            reason,
            let_go: true,
        })
        .await;
        let other = self.other;
        let is_linked = move |brain: &Brain| brain.best_link(other).is_some();
        while self.driver.read(is_linked).await.unwrap() {}
    }

    fn ask(&self) -> JoinHandle<Answer> {
        let (driver, other) = (self.driver.clone(), self.other);
        tokio::spawn(async move { driver.reach(other).await })
    }

    fn waiting(&self) -> usize {
        self.driver.waiting.lock().replies.len()
    }

    /// Resolves when `count` requests wait and the loop has heard of all of them.
    async fn wait_until_waiting(&self, count: usize) {
        while self.waiting() < count {
            tokio::task::yield_now().await;
        }
        self.driver.read(|_| ()).await.unwrap();
        assert_eq!(self.waiting(), count);
    }
}

/// A socket on which nobody answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

#[tokio::test]
async fn a_hundred_requests_share_one_dial() {
    let (_, other) = identities();
    let (far, _, mut met) = net(&other);
    let scene = Scene::met(far.local_addrs()[0]).await;
    scene.down().await;
    let answers = join_all((0..100).map(|_| scene.ask())).await;
    let links: Vec<LinkId> = answers.into_iter().map(|a| a.unwrap().unwrap()).collect();
    assert!(links.iter().all(|link| *link == links[0]));
    assert_eq!(scene.driver.reach(scene.other).await, Ok(links[0]));
    assert_eq!(scene.waiting(), 0);

    scene.driver.net.shutdown(REACH_LIMIT).await;
    far.shutdown(REACH_LIMIT).await;
    let ups = std::iter::from_fn(|| met.try_recv().ok())
        .filter(|event| matches!(event, LinkEvent::Input(Input::LinkUp(_))));
    assert_eq!(ups.count(), 1);
}

#[tokio::test]
async fn a_failed_dial_answers_all_who_wait_with_its_reason() {
    let (_socket, at) = silent();
    let scene = Scene::met(at).await;
    scene.down().await;
    let asked: Vec<_> = (0..100).map(|_| scene.ask()).collect();
    scene.wait_until_waiting(100).await;
    let failed = Input::DialFailed {
        dialled: Dialled::Node(scene.other),
        silent: false,
        reason: "the door is shut".to_owned(),
    };
    scene.tell(failed).await;
    for answer in join_all(asked).await {
        let reason = "the door is shut".to_owned();
        assert_eq!(answer.unwrap(), Err(ReachError::Failed(reason)));
    }
    // Whoever comes now does not wait for one more failure.
    assert!(scene.driver.reach(scene.other).await.is_err());
    assert_eq!(scene.waiting(), 0);
}

/// Its end is on the way to the brain: handing it out would fail the request for nothing.
#[tokio::test]
async fn a_link_that_has_just_ended_is_not_handed_out() {
    let (_, other) = identities();
    let (far, _, _met) = net(&other);
    let scene = Scene::met(far.local_addrs()[0]).await;
    let asked = scene.ask();
    scene.wait_until_waiting(1).await;
    scene.down().await;
    assert_ne!(asked.await.unwrap().unwrap(), MET);
}

#[tokio::test]
async fn a_node_that_leaves_meanwhile_answers_at_once_and_a_stranger_too() {
    let (_socket, at) = silent();
    let scene = Scene::met(at).await;
    scene.down().await;
    let asked = scene.ask();
    scene.wait_until_waiting(1).await;
    let (_, other) = identities();
    let third = Identity::from_seed(&[3; 32]);
    let link = LinkId(7);
    scene.up(&third, link, at).await;
    let frame = Frame::Alive(vec![alive(&other, LifeState::Leave)]);
    scene.tell(Input::Frame { link, frame }).await;
    assert_eq!(asked.await.unwrap(), Err(ReachError::Offline));

    let stranger = Identity::from_seed(&[4; 32]).id();
    let answer = scene.driver.reach(stranger).await;
    assert_eq!(answer, Err(ReachError::Unknown));
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_nothing_behind_and_too_many_are_refused() {
    let (_socket, at) = silent();
    let scene = Scene::met(at).await;
    scene.down().await;
    assert_eq!(scene.driver.reach(scene.other).now_or_never(), None);
    assert_eq!(scene.waiting(), 0);
    let join = |_| scene.driver.waiting.join(scene.other);
    let many: Vec<_> = (0..MAX_WAITING).map(join).collect();
    assert!(many.iter().all(Option::is_some));
    let answer = scene.driver.reach(scene.other).await;
    assert_eq!(answer, Err(ReachError::Busy));
    drop(many);
    assert_eq!(scene.waiting(), 0);
}

#[tokio::test]
async fn a_node_that_stops_keeps_nobody_waiting() {
    let (_socket, at) = silent();
    let scene = Scene::met(at).await;
    scene.down().await;
    let asked = scene.ask();
    scene.wait_until_waiting(1).await;
    scene.driver.net.shutdown(std::time::Duration::ZERO).await;
    assert_eq!(asked.await.unwrap(), Err(ReachError::Stopped));
}
