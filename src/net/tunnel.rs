//! A tunnel on a link: what counts it, and what it hears of the link and tells it.

use std::sync::Arc;
use std::task::Context;

use quinn::{Connection, SendStream, VarInt};
use tokio::sync::watch;

use crate::mesh::datagram::FlowId;

use super::flow::{FlowEnd, Flows};
use super::link::Link;
use super::window::Place;

/// Counts one tunnel on a link for as long as it is held.
pub struct TunnelGuard {
    link: Arc<Link>,
    /// While what it brings is left unread.
    slow: Option<Place>,
}

impl TunnelGuard {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, slow: None }
    }

    /// Makes the tunnel a flow of datagrams: those that name its stream `send`.
    pub fn flow(self, send: &SendStream) -> FlowEnd {
        // A stream's id is always a number that can be written.
        let id = FlowId::new(VarInt::from(send.id()).into_inner()).unwrap_or(FlowId::ZERO);
        FlowEnd::new(self, id)
    }

    pub(super) fn flows(&self) -> &Flows {
        &self.link.flows
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.link.connection
    }

    /// Tells when the peer has been silent for too long.
    pub fn silence(&self) -> Silence {
        Silence(self.link.lost.subscribe())
    }

    /// What the tunnel brings is left unread, though some was read meanwhile if it `has_read`.
    /// Whether it may be: where the link has no room for that and for others, who has read nothing
    /// for longest is given up, and woken to hear of it.
    pub fn may_wait(&mut self, has_read: bool, cx: &Context<'_>) -> bool {
        self.slow = self.link.windows.wait(self.slow, has_read, cx);
        self.slow.is_some()
    }

    /// All of it has been read.
    pub fn caught_up(&mut self) {
        if let Some(place) = self.slow.take() {
            self.link.windows.caught_up(place);
        }
    }
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.caught_up();
        self.link.give_back();
    }
}

/// Tells when the peer of a link has been silent for too long: who has no answer yet need not wait
/// for one any longer. What is under way may be carried on all the same.
#[derive(Clone, Debug)]
pub struct Silence(watch::Receiver<bool>);

impl Silence {
    /// Resolves when it is so. Cancel-safe.
    pub async fn fell(&mut self) {
        if self.0.wait_for(|lost| *lost).await.is_err() {
            // The link is gone, which everything on it is told otherwise.
            std::future::pending::<()>().await;
        }
    }
}
