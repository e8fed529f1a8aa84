//! What a measurement asks of a mesh, whatever protocol it speaks.

use crate::Result;
use crate::world::{Micros, Network, Watch};

/// A new entry with its signature.
pub(crate) const ENTRY_BYTES: usize = 300;

/// A mesh in virtual time. It writes what its nodes learn into its [`Watch`].
pub(crate) trait Candidate {
    /// Lets time pass.
    fn run(&mut self, span: Micros) -> Result<()>;

    /// `node` makes a new entry known.
    fn publish(&mut self, node: usize) -> Result<()>;

    /// `node` stops without a word.
    fn kill(&mut self, node: usize);

    /// `node` says goodbye and stops.
    fn leave(&mut self, node: usize) -> Result<()>;

    fn now(&self) -> Micros;

    /// Whether each node lives, by node.
    fn alive(&self) -> &[bool];

    fn network(&self) -> &Network;

    fn watch(&mut self) -> &mut Watch;

    /// The links that stand, for a protocol that has lasting ones.
    fn overlay(&self) -> Option<Overlay>;
}

/// The overlay of the living.
pub(crate) struct Overlay {
    /// Neighbours of the node that has fewest.
    pub(crate) fewest: usize,
    /// Neighbours on average.
    pub(crate) mean: f64,
    /// Parts that are not connected to each other; 1 is whole.
    pub(crate) parts: usize,
}
