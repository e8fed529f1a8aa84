//! Processes: how they start and end, when their brains are called, and what they ask for.

use rand::RngExt;
use rand::rngs::SmallRng;
use warren::mesh::brain::{Brain, Effect, Input, Setup};
use warren::mesh::entry::Entry;
use warren::mesh::event::What;
use warren::mesh::name::Bucket;
use warren::mesh::records::{NodeRecord, ServiceRecord, display_id};
use warren::mesh::time::Now;

use super::{Event, MAX_SPINS, NETWORK, World, ms};

impl World {
    /// Starts a process on `node` with what its disk holds.
    pub(crate) fn start(&mut self, node: usize) {
        self.nodes[node].started = self.time;
        self.nodes[node].looked = std::time::Duration::ZERO;
        let now = self.now(node);
        let machine = &mut self.nodes[node];
        assert!(machine.brain.is_none() && !machine.puppet, "runs already");
        machine.process += 1;
        machine.disk.boot = now.unix_ms.max(machine.disk.boot + 1);
        let own = Some(machine.addr).filter(|_| machine.advertise);
        let setup = Setup {
            identity: machine.identity.clone(),
            network: NETWORK,
            boot: machine.disk.boot,
            record: NodeRecord {
                name: format!("n{node}").parse().unwrap(),
                version: "1".into(),
                addresses: own.into_iter().collect(),
                draining: false,
            },
            connect: machine.connect.clone(),
            crypto_interval: 9000,
            timing: machine.timing,
        };
        let peers = machine.disk.peers.values().cloned().collect();
        let floors = machine.disk.floors.values().copied().collect();
        let entries = machine.disk.entries.values().cloned().collect();
        machine.brain = Some(Box::new(Brain::new(now, setup, peers, floors, entries)));
        self.with(node, |brain, now, rng| brain.handle_timeout(now, rng));
    }

    /// `kill -9`, or the plug: nobody is told, and what the disk had not committed is lost.
    pub(crate) fn kill(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        self.stats.lost_saves += machine.disk.crash();
        machine.brain = None;
        machine.process += 1;
        machine.turn += 1;
        (machine.due, machine.planned) = (None, None);
        machine.frozen = false;
        machine.backlog.clear();
        machine.view = None;
        for conn in std::mem::take(&mut machine.links) {
            self.shut(conn, node);
        }
    }

    pub(crate) fn restart(&mut self, node: usize) {
        if self.nodes[node].brain.is_some() {
            self.kill(node);
        }
        self.start(node);
    }

    /// Announces the departure; 50 ms later the process closes its links and ends.
    pub(crate) fn leave(&mut self, node: usize) {
        self.announce_leave(node);
        self.run(ms(50));
        self.end(node);
    }

    /// The first half of [`World::leave`]; no time passes.
    pub(crate) fn announce_leave(&mut self, node: usize) {
        self.with(node, |brain, now, _| brain.leave(now));
    }

    /// The orderly end of a process: its links are closed and its disk is committed.
    pub(crate) fn end(&mut self, node: usize) {
        let conns: Vec<usize> = self.nodes[node].links.iter().copied().collect();
        for conn in conns {
            self.close(conn, node);
        }
        self.commit(node);
        self.kill(node);
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self, node: usize) {
        self.nodes[node].frozen = true;
    }

    /// SIGCONT: everything that came meanwhile is there at once; the timer fires before or after.
    pub(crate) fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        let mut backlog = std::mem::take(&mut self.nodes[node].backlog);
        self.stats.slept_through += backlog.len() as u64;
        if self.rng.random() {
            backlog.sort_by_key(|event| !matches!(event, Event::Wake { .. }));
        } else {
            backlog.sort_by_key(|event| matches!(event, Event::Wake { .. }));
        }
        for event in backlog {
            self.push(self.time, event);
        }
    }

    /// Runs `call` on the brain of `node` and carries out what follows.
    pub(crate) fn with<T>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Brain, Now, &mut SmallRng) -> T,
    ) -> T {
        let now = self.now(node);
        let machine = &mut self.nodes[node];
        let mut brain = machine.brain.take().expect("a running node");
        let result = call(&mut brain, now, &mut machine.rng);
        loop {
            while let Some(effect) = brain.poll_effect() {
                self.carry_out(node, &brain, effect);
            }
            let Some(view) = self.detail.views.then(|| brain.take_view(now)).flatten() else {
                break;
            };
            self.nodes[node].view = Some(view);
        }
        let due = brain.poll_timeout();
        let machine = &mut self.nodes[node];
        machine.brain = Some(brain);
        machine.due = due.map(|at| machine.started + machine.clock.world(at));
        if machine.cloned {
            self.kill(node);
        } else {
            self.plan_wake(node);
        }
        result
    }

    /// One wake per node is under way; one that comes too early plans the next.
    fn plan_wake(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(due) = machine.due.map(|due| due.max(self.time)) else {
            return;
        };
        if machine.planned.is_none_or(|planned| due < planned) {
            machine.planned = Some(due);
            machine.turn += 1;
            let turn = machine.turn;
            self.push(due, Event::Wake { node, turn });
        }
    }

    pub(super) fn wake(&mut self, node: usize, turn: u64) {
        let machine = &mut self.nodes[node];
        if machine.turn != turn || machine.brain.is_none() {
            return;
        }
        machine.planned = None;
        if machine.due.is_none_or(|due| due > self.time) {
            return self.plan_wake(node);
        }
        let (at, spins) = &mut machine.spins;
        *spins = if *at == self.time { *spins + 1 } else { 0 };
        *at = self.time;
        assert!(*spins < MAX_SPINS, "node {node} spins at {:?}", self.time);
        // As the driver does: bytes count as life, so ask before judging.
        let looked = self.now(node).mono;
        let since = std::mem::replace(&mut self.nodes[node].looked, looked);
        for (link, rtt) in self.heard(node) {
            let input = Input::Heard { link, rtt, since };
            self.with(node, |brain, now, rng| brain.handle(now, rng, input));
        }
        self.with(node, |brain, now, rng| brain.handle_timeout(now, rng));
    }

    fn carry_out(&mut self, node: usize, brain: &Brain, effect: Effect) {
        match effect {
            Effect::Send { link, frame } => {
                if let Some(conn) = self.conn_of(node, link) {
                    self.send(conn, node, frame);
                }
            }
            Effect::Dial { dialled, targets } => self.dial(node, brain.alive(), dialled, targets),
            // No link of a machine has tunnels that would keep it.
            Effect::Close { link, .. } | Effect::Lose { link } => {
                if let Some(conn) = self.conn_of(node, link) {
                    self.close(conn, node);
                }
            }
            Effect::Retire { link } => self.retire(node, link),
            // No tunnel of a machine is ever on a link that its brain asks about.
            Effect::Trim { link } => {
                if let Some(conn) = self.conn_of(node, link) {
                    self.close(conn, node);
                }
            }
            Effect::Save(save) => self.save(node, save),
            Effect::Event(what) => self.note(node, what),
            Effect::SearchClock { .. } => self.nodes[node].searches.push(self.time),
            Effect::OwnAddresses(_) | Effect::OwnAlive(_) => {}
            Effect::Cloned => self.nodes[node].cloned = true,
            other => panic!("an effect this world does not know: {other:?}"),
        }
    }

    fn note(&mut self, node: usize, what: What) {
        match what {
            What::NodeUp { .. } => self.stats.ups += 1,
            What::NodeDown { .. } => self.stats.downs += 1,
            _ => {}
        }
        if self.detail.history {
            self.nodes[node].events.push((self.time, what));
        }
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.nodes[node].brain.is_some()
    }

    pub(crate) fn brain(&self, node: usize) -> &Brain {
        self.nodes[node].brain.as_ref().expect("a running node")
    }

    /// Writes or removes (`None`) a durable entry, committed before it spreads.
    pub(crate) fn put(&mut self, node: usize, key: &str, value: Option<&str>) -> Entry {
        let value = value.map(|value| value.as_bytes().to_vec());
        let bucket: Bucket = "config".parse().unwrap();
        let draft = self.with(node, |brain, now, _| {
            brain.draft(now, bucket, key.to_owned(), value)
        });
        let entry = draft.unwrap();
        self.commit_now(node, entry.clone());
        let spread = entry.clone();
        self.with(node, |brain, now, _| brain.apply_own(now, spread));
        entry
    }

    /// Announces or withdraws a service.
    pub(crate) fn expose(&mut self, node: usize, service: &str, on: bool) {
        let name: warren::mesh::name::Name = format!("n{node}").parse().unwrap();
        let record = ServiceRecord {
            id: display_id(&name, &self.id(node)),
            name,
            ready: true,
            target: "127.0.0.1:80".into(),
            network_id: None,
            protocol: warren::mesh::records::Protocol::Tcp,
            wants_client: false,
        };
        let bucket: Bucket = service.parse().unwrap();
        self.with(node, |brain, now, _| {
            brain.set_service(now, bucket, on.then_some(&record));
        });
    }
}
