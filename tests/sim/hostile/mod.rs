//! A member that holds the token and lies. It may cost itself a link; it costs others nothing.

mod entries;
mod hoard;
mod life;
mod links;
mod minted;
mod offers;
mod sessions;
mod silence;
mod suspicion;

use std::ops::Range;
use std::time::Duration;

use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::entry::{Class, Draft, Entry};
use warren::mesh::event::What;
use warren::mesh::id::Identity;
use warren::mesh::wire::Frame;

use crate::world::{NETWORK, World, ms, secs};

/// Two honest nodes, and a puppet with a link to the first.
struct Siege {
    world: World,
    puppet: usize,
    link: usize,
}

const VICTIM: usize = 0;
const WITNESS: usize = 1;
/// In which boot puppets live.
const BOOT: u64 = 1_800_000_000_000;

impl Siege {
    fn new() -> Self {
        let mut world = World::new(1);
        world.mesh(2);
        world.until("whole", secs(2), World::whole);
        let puppet = world.puppet();
        let hello = alive(&world.nodes[puppet].identity, BOOT, 0, LifeState::Alive);
        let link = world.puppet_link(puppet, VICTIM, hello);
        world.run(ms(100));
        let mut siege = Self {
            world,
            puppet,
            link,
        };
        siege.world.nodes[VICTIM].events.clear();
        siege.world.nodes[WITNESS].events.clear();
        siege
    }

    fn me(&self) -> &Identity {
        &self.world.nodes[self.puppet].identity
    }

    fn say(&mut self, frame: &Frame) {
        self.world.say(self.link, frame);
        self.world.run(ms(50));
    }

    fn refused(&self, reason: &str) -> u64 {
        self.world.refused(VICTIM, reason)
    }

    /// The honest nodes still see and serve each other, and nothing was disturbed.
    fn nobody_else_notices(mut self) {
        assert!(self.world.sees(VICTIM, WITNESS) && self.world.sees(WITNESS, VICTIM));
        self.world.put(VICTIM, "after", Some("v"));
        self.world.expose(WITNESS, "federated", true);
        self.world.run(secs(5));
        assert!(self.world.value(WITNESS, VICTIM, "after").is_some());
        assert_eq!(self.world.usable(VICTIM, "federated").len(), 1);
        assert!(self.world.whole());
        for node in [VICTIM, WITNESS] {
            let other = self.world.id(VICTIM + WITNESS - node);
            let down = |(_, what): &(_, What)| matches!(what, What::NodeDown { id, .. } | What::NodeLeft { id, .. } if *id == other);
            assert!(!self.world.nodes[node].events.iter().any(down));
        }
        assert_eq!(self.world.brain(WITNESS).refused().len(), 0);
    }
}

/// Honest nodes that know each other, the first `honest` machines; and puppets, each with a link
/// to every one of them.
struct Crowd {
    world: World,
    honest: usize,
    puppets: Range<usize>,
    /// The links of each puppet, by honest node.
    links: Vec<Vec<usize>>,
}

impl Crowd {
    fn new(mut world: World, honest: usize, puppets: usize) -> Self {
        world.crowd(honest, secs(1));
        world.settle(secs(20)).expect("all know all");
        world.run(secs(3));
        let mut links = Vec::new();
        for _ in 0..puppets {
            let puppet = world.puppet();
            let hello = alive(&world.nodes[puppet].identity, BOOT, 0, LifeState::Alive);
            let all = (0..honest).map(|node| world.puppet_link(puppet, node, hello.clone()));
            links.push(all.collect());
        }
        let mut crowd = Self {
            world,
            honest,
            puppets: honest..honest + puppets,
            links,
        };
        crowd.world.run(secs(1));
        crowd.forget_events();
        crowd
    }

    fn identity(&self, puppet: usize) -> Identity {
        self.world.nodes[self.puppets.start + puppet]
            .identity
            .clone()
    }

    fn forget_events(&mut self) {
        self.world
            .nodes
            .iter_mut()
            .for_each(|node| node.events.clear());
    }

    /// A puppet says the same to every honest node.
    fn tell(&mut self, puppet: usize, frame: &Frame) {
        for link in self.links[puppet].clone() {
            self.world.say(link, frame);
        }
    }

    /// How often an honest node refused something for `reason`, all together.
    fn refused(&self, reason: &str) -> u64 {
        let honest = self.world.running().into_iter();
        honest.map(|node| self.world.refused(node, reason)).sum()
    }

    /// Ups and downs of honest nodes as honest nodes told them since the last look.
    fn changes(&self) -> Vec<(Duration, usize, What)> {
        let ids: Vec<_> = (0..self.honest).map(|node| self.world.id(node)).collect();
        let mut all = Vec::new();
        for node in 0..self.honest {
            for (at, what) in &self.world.nodes[node].events {
                match what {
                    What::NodeUp { id, .. }
                    | What::NodeDown { id, .. }
                    | What::NodeLeft { id, .. }
                        if ids.contains(id) =>
                    {
                        all.push((*at, node, what.clone()));
                    }
                    _ => {}
                }
            }
        }
        all
    }

    /// No honest node was shown as anything but online since the last look, and all still hear
    /// each other's writes.
    fn calm(&mut self) {
        assert_eq!(self.changes(), []);
        self.hears_writes();
    }

    fn hears_writes(&mut self) {
        let writer = self.world.running()[0];
        let key = format!("at {:?}", self.world.time);
        self.world.put(writer, &key, Some("v"));
        let there = |w: &World| {
            let mut running = w.running().into_iter();
            running.all(|n| w.value(n, writer, &key).is_some())
        };
        self.world.until("written everywhere", secs(2), there);
    }
}

fn alive(identity: &Identity, boot: u64, incarnation: u32, state: LifeState) -> Alive {
    Alive::sign(NETWORK, identity, boot, incarnation, state)
}

fn entry(author: &Identity, class: Class, key: &str, version: u64, value: &[u8]) -> Entry {
    let draft = Draft {
        bucket: "config".parse().unwrap(),
        key: key.into(),
        class,
        version,
        boot: if class == Class::Live { BOOT } else { 0 },
        deleted: false,
        value: value.to_vec(),
    };
    Entry::sign(NETWORK, author, draft).unwrap()
}
