//! Puppets: members without a brain, led by a test.

use warren::mesh::brain::{Input, LinkUp};
use warren::mesh::entry::Alive;
use warren::mesh::wire::Frame;

use super::World;

impl World {
    /// A machine that holds the token and does what the test says; it answers pings.
    pub(crate) fn puppet(&mut self) -> usize {
        let node = self.machine();
        self.nodes[node].puppet = true;
        node
    }

    /// A link from `puppet` to `to`, with `alive` as its Hello says; the link's number for
    /// [`World::say`].
    pub(crate) fn puppet_link(&mut self, puppet: usize, to: usize, alive: Alive) -> usize {
        let (p, t) = (self.nodes[puppet].process, self.nodes[to].process);
        let far = self.brain(to).alive();
        let conn = self.connect((puppet, p, alive.clone()), (to, t, far), None);
        let joined = self.conns[conn].as_mut().expect("just made");
        joined.ends.iter_mut().for_each(|end| end.up = true);
        let far = joined.ends[1].link;
        self.nodes[puppet].links.insert(conn);
        self.nodes[to].links.insert(conn);
        let up = LinkUp {
            link: far,
            peer: alive.node,
            alive,
            dialled: None,
            remote: self.nodes[puppet].addr,
            observed: self.nodes[to].addr,
        };
        self.with(to, |brain, now, rng| {
            brain.handle(now, rng, Input::LinkUp(up));
        });
        conn
    }

    /// `puppet` sends a frame.
    pub(crate) fn say(&mut self, conn: usize, frame: &Frame) {
        if let Some(joined) = self.conns[conn].as_ref() {
            let puppet = joined.ends[0].node;
            self.send(conn, puppet, frame.clone());
        }
    }

    /// Whether the other end closed the puppet's link.
    pub(crate) fn is_closed(&self, conn: usize) -> bool {
        self.conns[conn].as_ref().is_none_or(|c| c.ends[1].closed)
    }
}
