//! What a test can ask a world.

use warren::mesh::entry::Entry;
use warren::mesh::id::NodeId;
use warren::mesh::name::Bucket;

use super::World;
use super::links::{Conn, End};

impl World {
    /// Whether `a` counts `b` as online.
    pub(crate) fn sees(&self, a: usize, b: usize) -> bool {
        let view = self.nodes[a].view.as_ref().expect("a view");
        view.nodes.get(&self.id(b)).is_some_and(|node| node.online)
    }

    /// The same without a view, which a large world does not keep.
    pub(crate) fn online(&self, a: usize, b: usize) -> bool {
        self.brain(a).is_online(&self.id(b))
    }

    /// Whether `a` shows `b` at all.
    pub(crate) fn shows(&self, a: usize, b: usize) -> bool {
        let view = self.nodes[a].view.as_ref().expect("a view");
        view.nodes.contains_key(&self.id(b))
    }

    /// Nodes that `node` may send work of `service` to.
    pub(crate) fn usable(&self, node: usize, service: &str) -> Vec<NodeId> {
        let view = self.nodes[node].view.as_ref().expect("a view");
        let bucket: Bucket = service.parse().unwrap();
        let all = view.providers(&bucket).iter();
        all.filter(|p| p.usable()).map(|p| p.id).collect()
    }

    /// Value of a durable key as `node` has it; `None` if removed or unknown.
    pub(crate) fn value(&self, node: usize, author: usize, key: &str) -> Option<Vec<u8>> {
        let author = self.id(author);
        let bucket: Bucket = "config".parse().unwrap();
        let ledger = self.brain(node).ledger();
        let mut entries = ledger.bucket(&bucket);
        let entry = entries.find(|e| e.slot.author == author && e.slot.key == key)?;
        (!entry.deleted).then(|| entry.value.clone())
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.runs(*n)).collect()
    }

    /// Connections that are up at both ends and not about to close.
    pub(crate) fn kept(&self, a: usize, b: usize) -> Vec<usize> {
        let joins = |conn: &Conn| {
            let ends = [conn.ends[0].node, conn.ends[1].node];
            let up = conn.ends.iter().all(|end| end.up && !end.closed);
            (ends == [a, b] || ends == [b, a]) && up && !conn.retired
        };
        let links = self.nodes[a].links.iter().copied();
        links
            .filter(|conn| self.conns[*conn].as_deref().is_some_and(joins))
            .collect()
    }

    /// The connection `a` would use towards `b`.
    pub(crate) fn best(&self, a: usize, b: usize) -> Option<usize> {
        let link = self.brain(a).best_link(self.id(b))?;
        self.conn_of(a, link)
    }

    /// Whether every running node sees every other over one link that both ends would use.
    pub(crate) fn whole(&self) -> bool {
        let running = self.running();
        running.iter().all(|a| {
            let mut others = running.iter().filter(|b| *b != a);
            others.all(|b| {
                let kept = self.kept(*a, *b);
                self.sees(*a, *b) && kept.len() == 1 && self.best(*a, *b) == Some(kept[0])
            })
        })
    }

    /// What is up, for a message.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("at {:?}\n", self.time);
        let conns = self.conns.iter().enumerate();
        for (number, conn) in conns.filter_map(|(n, conn)| Some((n, conn.as_ref()?))) {
            let [d, a] = &conn.ends;
            let side = |end: &End| (end.node, end.up, end.closed, end.queue.len());
            let retired = conn.retired;
            text += &format!("{number}: {:?} {:?} retired {retired}\n", side(d), side(a));
        }
        for node in self.running() {
            text += &format!("node {node} {:?}\n", self.nodes[node].dials);
            text += &format!("{:?}\n", self.nodes[node].events);
        }
        text
    }

    /// Everything `node` holds.
    pub(crate) fn ledger(&self, node: usize) -> Vec<Entry> {
        self.brain(node).ledger().entries().cloned().collect()
    }

    pub(crate) fn refused(&self, node: usize, reason: &str) -> u64 {
        self.brain(node).refused().get(reason).copied().unwrap_or(0)
    }
}
