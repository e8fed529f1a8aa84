//! Puppets: members without a brain, led by a test.

use warren::mesh::alive::Alive;
use warren::mesh::brain::{Input, LinkUp};
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
            again: false,
        };
        self.with(to, |brain, now, rng| {
            brain.handle(now, rng, Input::LinkUp(up));
        });
        conn
    }

    /// `puppet` is dialled like any machine from now on, and says `alive` in its Hello.
    pub(crate) fn puppet_answers(&mut self, puppet: usize, alive: Alive) {
        self.nodes[puppet].hello = Some(alive);
    }

    /// What `puppet` says, beside pongs, to each frame it is sent.
    pub(crate) fn teach(&mut self, puppet: usize, manners: fn(&Frame) -> Vec<Frame>) {
        self.nodes[puppet].manners = manners;
    }

    /// A puppet was sent a frame.
    pub(super) fn puppet_hears(&mut self, conn: usize, puppet: usize, frame: Frame) {
        let mut replies = (self.nodes[puppet].manners)(&frame);
        if let Frame::Ping(number) = frame {
            replies.push(Frame::Pong(number));
        }
        for reply in replies {
            self.send(conn, puppet, reply);
        }
        self.nodes[puppet].inbox.push(frame);
    }

    /// The puppet at one end of a connection sends a frame.
    pub(crate) fn say(&mut self, conn: usize, frame: &Frame) {
        if let Some((puppet, _)) = self.puppet_of(conn) {
            self.send(conn, puppet, frame.clone());
        }
    }

    /// Whether the other end closed the puppet's link.
    pub(crate) fn is_closed(&self, conn: usize) -> bool {
        let far = self.puppet_of(conn).map(|(_, far)| far);
        let joined = self.conns[conn].as_ref();
        far.zip(joined).is_none_or(|(far, c)| c.ends[far].closed)
    }

    /// Which puppet has an end of a connection, and which end it has not.
    fn puppet_of(&self, conn: usize) -> Option<(usize, usize)> {
        let ends = &self.conns[conn].as_ref()?.ends;
        let near = usize::from(!self.nodes[ends[0].node].puppet);
        Some((ends[near].node, 1 - near))
    }
}
