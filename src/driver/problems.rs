//! What the operator should look at, until it is over.

use super::lock;
use super::turn::Turn;
use crate::mesh::brain::Dialled;
use crate::mesh::event::What;
use crate::mesh::id::NodeId;
use crate::store::Health;

/// Problems with single peers shown at once: identities cost nothing, and must not hide the
/// problems of this node.
const MAX_PROBLEMS: usize = 64;

impl Turn {
    pub(super) fn reached(&mut self, peer: NodeId, dialled: Option<&Dialled>) {
        let solved = [
            Some("unreachable".to_owned()),
            Some(clock_code(peer)),
            dialled.map(wrong_node_code),
        ];
        let mut shown = lock(&self.shown);
        shown
            .problems
            .retain(|code, _| !solved.iter().flatten().any(|solved| solved == code));
    }

    pub(super) fn dial_problem(&mut self, dialled: &Dialled, reason: &str) {
        let alone = lock(&self.shown).routes.is_empty();
        if alone {
            let text = format!("{} does not answer: {reason}", dialled_text(dialled));
            self.problem("unreachable", &text);
        }
    }

    pub(super) fn clock_problem(&mut self, peer: NodeId, ahead_s: i64) {
        let (by, way) = (
            ahead_s.unsigned_abs(),
            if ahead_s > 0 { "behind" } else { "ahead of" },
        );
        let text = format!(
            "this machine's clock is {by} s {way} that of node {}; set the wrong one right (NTP)",
            peer.short()
        );
        self.problem(&clock_code(peer), &text);
    }

    pub(super) fn store_health(&mut self, health: &Health) {
        match health {
            Health::Healthy => {
                if lock(&self.shown).problems.remove("store").is_some() {
                    tracing::info!("the store takes writes again");
                    let code = "store".to_owned();
                    self.tell(What::Resolved { code });
                }
            }
            Health::Failing { reason } => self.problem("store", reason),
        }
    }

    /// Notes a problem; it is logged and told once, not each time it is seen again.
    pub(super) fn problem(&self, code: &str, message: &str) {
        let text = message.to_owned();
        let before = {
            let problems = &mut lock(&self.shown).problems;
            let of_one = |code: &str| code.contains(' ');
            let full = problems.keys().filter(|code| of_one(code)).count() >= MAX_PROBLEMS;
            if full && of_one(code) && !problems.contains_key(code) {
                return;
            }
            problems.insert(code.to_owned(), text)
        };
        if before.as_deref() != Some(message) {
            tracing::warn!(code, "{message}");
            // A problem with one peer is kept under `word peer`; programs see the word.
            let code = code.split(' ').next().unwrap_or_default().to_owned();
            let message = message.to_owned();
            self.tell(What::Warning { code, message });
        }
    }
}

/// One problem per dial that meets the wrong node.
pub(super) fn wrong_node_code(dialled: &Dialled) -> String {
    format!("wrong_node {}", dialled_text(dialled))
}

fn dialled_text(dialled: &Dialled) -> String {
    match dialled {
        Dialled::Node(id) => format!("node {}", id.short()),
        Dialled::Host(at) => at.to_string(),
    }
}

/// One clock problem per peer: two peers may differ from this node in two ways.
fn clock_code(peer: NodeId) -> String {
    format!("clock {}", peer.short())
}
