//! The loop itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::rngs::StdRng;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::problems::wrong_node_code;
use super::reach::{FailedDial, Waiting};
use super::writes::Commit;
use super::{PING_LIMIT, Reply, Request, Shown, lock};
use crate::clock::{self, Clock};
use crate::mesh::brain::{Brain, Effect, Input, Save};
use crate::mesh::event::{Event, What};
use crate::mesh::id::NodeId;
use crate::mesh::members::LinkId;
use crate::mesh::view::View;
use crate::mesh::wire::{Frame, UNANSWERED};
use crate::net::{LinkEvent, Net};
use crate::store::{Change, Health, Store};

/// Events taken in one turn before effects are carried out and timers looked at.
const EVENTS_PER_TURN: usize = 256;
/// Sleep while the brain has nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);
/// Pings of people under way at once.
const MAX_PINGS: usize = 1_024;

/// A ping that waits for its answer.
pub(super) struct Ping {
    sent: Duration,
    link: LinkId,
    reply: Reply<Duration>,
}

/// What the loop works with.
pub(super) struct Turn {
    pub(super) brain: Brain,
    pub(super) net: Arc<Net>,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) knockable: Vec<SocketAddr>,
    pub(super) rng: StdRng,
    pub(super) commits: FuturesUnordered<Commit>,
    /// When links were last asked what came over them.
    pub(super) looked: Duration,
    pub(super) pings: HashMap<u64, Ping>,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) shown: Arc<Mutex<Shown>>,
    pub(super) waiting: Waiting,
}

impl Turn {
    pub(super) async fn run(
        mut self,
        mut links: mpsc::Receiver<LinkEvent>,
        mut inbox: mpsc::Receiver<Request>,
        mut health: watch::Receiver<Health>,
    ) {
        loop {
            let wake = self
                .brain
                .poll_timeout()
                .map(|at| self.clock.instant_at(at));
            let wake = wake.map_or_else(|| clock::deadline(IDLE), Instant::from_std);
            tokio::select! {
                event = links.recv() => {
                    let Some(event) = event else { return };
                    self.link_event(event);
                    for _ in 1..EVENTS_PER_TURN {
                        let Some(event) = links.try_recv().ok() else { break };
                        self.link_event(event);
                    }
                }
                request = inbox.recv() => {
                    let Some(request) = request else { return };
                    self.request(request);
                }
                Some((what, result)) = self.commits.next() => self.committed(what, result),
                Ok(()) = health.changed() => {
                    let now = health.borrow_and_update().clone();
                    self.store_health(&now);
                }
                () = until(wake) => {
                    // Bytes served count as life: ask before judging. What is heard at the next
                    // look answers pings of this one, so that both have one time.
                    let now = self.clock.now();
                    let since = std::mem::replace(&mut self.looked, now.mono);
                    for (link, rtt) in self.net.heard() {
                        let heard = Input::Heard { link, rtt, since };
                        self.brain.handle(now, &mut self.rng, heard);
                    }
                    self.brain.handle_timeout(now, &mut self.rng);
                }
            }
            self.carry_out();
        }
    }

    pub(super) fn link_event(&mut self, event: LinkEvent) {
        let now = self.clock.now();
        match event {
            LinkEvent::Clock { peer, ahead_s } => self.clock_problem(peer, ahead_s),
            LinkEvent::WrongNode { dialled, reason } => {
                self.problem(&wrong_node_code(&dialled), &reason);
            }
            LinkEvent::Input(input) => {
                match &input {
                    Input::Frame {
                        frame: Frame::Pong(number),
                        ..
                    } => {
                        if let Some(ping) = self.pings.remove(number) {
                            let _ = ping.reply.send(now.mono.saturating_sub(ping.sent));
                        }
                    }
                    Input::LinkUp(up) => self.reached(up.peer, up.dialled.as_ref()),
                    Input::DialFailed {
                        dialled, reason, ..
                    } => self.dial_problem(dialled, reason),
                    // Dropped, so that whoever waits hears of it.
                    Input::LinkDown { link, .. } => self.pings.retain(|_, ping| ping.link != *link),
                    _ => {}
                }
                let failed = FailedDial::of(&input);
                self.brain.handle(now, &mut self.rng, input);
                if let Some(failed) = failed {
                    self.settle_failed(failed);
                }
            }
        }
    }

    pub(super) fn request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            Request::Write {
                bucket,
                key,
                value,
                reply,
            } => {
                self.write(bucket, key, value, reply);
            }
            Request::Import { entries, reply } => self.import(entries, reply),
            Request::Service { bucket, record } => {
                self.brain.set_service(now, bucket, record.as_ref());
            }
            Request::Draining(on) => self.brain.set_draining(now, on),
            Request::Leave { reply } => {
                self.brain.leave(now);
                self.settle_all();
                self.carry_out();
                let _ = reply.send(());
            }
            Request::Ping { node, reply } => self.ping(node, reply),
            Request::Reach { node } => self.settle(node),
            Request::Read(read) => read(&self.brain),
        }
    }

    pub(super) fn ping(&mut self, node: NodeId, reply: Reply<Duration>) {
        let now = self.clock.now().mono;
        self.pings
            .retain(|_, ping| now.saturating_sub(ping.sent) < PING_LIMIT);
        let route = self
            .brain
            .best_link(node)
            .filter(|link| self.net.is_up(*link) && self.pings.len() < MAX_PINGS);
        if let Some(link) = route {
            let number = rand::random_range(UNANSWERED + 1..=u64::MAX);
            let sent = now;
            self.pings.insert(number, Ping { sent, link, reply });
            self.net.send(link, &Frame::Ping(number));
        }
    }

    /// Carries out what the brain decided, and shows what changed.
    pub(super) fn carry_out(&mut self) {
        if let Some(view) = self.brain.take_view(self.clock.now()) {
            let nodes = view.nodes.keys();
            let routes = nodes.filter_map(|node| Some((*node, self.brain.best_link(*node)?)));
            lock(&self.shown).routes = routes.collect();
            self.view.send_replace(view);
            self.settle_all();
        }
        while let Some(effect) = self.brain.poll_effect() {
            self.effect(effect);
        }
        lock(&self.shown).refused.clone_from(self.brain.refused());
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { link, frame } => self.net.send(link, &frame),
            Effect::Dial { dialled, targets } => self.net.dial(dialled, targets),
            Effect::Close { link, code } => self.net.close(link, code),
            Effect::Lose { link } => self.net.lose(link),
            Effect::Finish { link } => self.net.finish(link),
            Effect::Retire { link } => self.net.retire(link),
            Effect::Trim { link } => self.net.trim(link),
            Effect::Save(save) => self.store.later(match save {
                Save::Entry(entry) => Change::PutEntry(entry),
                Save::Drop(slot) => Change::DropEntry(slot),
                Save::Floor(floor) => Change::PutFloor(floor),
                Save::ForgetFloor(author) => Change::DropFloor(author),
                Save::Peer(peer) => Change::Peer(peer),
            }),
            Effect::Event(what) => self.tell(what),
            Effect::SearchClock { peer, targets } => {
                tracing::info!(peer = %peer.short(), "every peer is silent; looking for a clock difference");
                self.net.search_clock(peer, targets);
            }
            Effect::OwnAddresses(agreed) => {
                self.net
                    .gate()
                    .lock()
                    .set_own([self.knockable.clone(), agreed.clone()].concat());
                let mut all = self.addresses.clone();
                all.extend(
                    agreed
                        .into_iter()
                        .filter(|addr| !self.addresses.contains(addr)),
                );
                self.brain.set_addresses(self.clock.now(), all);
            }
            Effect::OwnAlive(alive) => self.net.set_alive(alive),
            Effect::Cloned => {
                let text = "another process uses this node's identity.key; stop one of them, or \
                            give one its own data directory";
                self.problem("cloned", text);
            }
        }
    }

    pub(super) fn tell(&self, what: What) {
        match &what {
            What::NodeUp { id, name } => {
                let name = name.as_ref().map(tracing::field::display);
                tracing::info!(node = %id.short(), name, "node up");
            }
            What::NodeDown { id, reason, .. } => {
                tracing::info!(node = %id.short(), %reason, "node down");
            }
            What::NodeLeft { id, .. } => tracing::info!(node = %id.short(), "node left"),
            other => tracing::debug!(?other, "event"),
        }
        // Nobody may be watching.
        let _ = self.events.send(Event {
            at_ms: self.clock.now().unix_ms,
            what,
        });
    }
}

/// Sleeps; what is due already waits for nothing but the other tasks' turn, not for the next tick of
/// the timer.
async fn until(wake: Instant) {
    match wake <= clock::instant() {
        true => tokio::task::yield_now().await,
        false => sleep_until(wake).await,
    }
}
