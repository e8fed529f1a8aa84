//! What a watcher is told: first the state it asked for, then each change, as it happens. Both
//! servers stream from here. Decides nothing and keeps nothing but what this one watcher was told.
//!
//! A slow watcher holds nobody up. Changes of the state wait for it in one place each, the newest
//! only; of events it may miss some, and is told how many.

mod told;
mod wanted;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Control;
use super::shapes::{State, Update};
use crate::mesh::event::Event;
use crate::mesh::view::View;
use told::{NodesTold, ServicesTold};
pub(super) use wanted::{KindQuery, Wanted};
use wanted::{NODES, SERVICES};

/// How often counts of requests, which change with each of them, are compared while somebody
/// watches services.
const COUNTS_INTERVAL: Duration = Duration::from_millis(250);

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Told {
    /// Something of the state.
    State(Update),
    /// Something that happened.
    Event(Event),
}

impl Told {
    /// The kind, as the field `event` has it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::State(update) => update.state.kind(),
            Self::Event(event) => event.what.kind(),
        }
    }
}

/// What a feed says next.
pub(super) enum Next {
    /// Something.
    Told(Told),
    /// Nothing, but that it goes on.
    Alive,
    /// Nothing, any more: the node ends.
    End,
}

/// One watcher's feed.
pub(super) struct Feed {
    control: Arc<dyn Control>,
    ending: CancellationToken,
    wanted: Wanted,
    view: watch::Receiver<Arc<View>>,
    events: Option<broadcast::Receiver<Event>>,
    nodes: Option<NodesTold>,
    services: Option<ServicesTold>,
    waiting: VecDeque<Told>,
    alive: Interval,
    counts: Interval,
}

impl Feed {
    /// A feed that ends with `ending`. It misses nothing that happens after this call, and says
    /// every `alive` that it goes on.
    pub(super) fn new(
        control: Arc<dyn Control>,
        ending: CancellationToken,
        wanted: Wanted,
        alive: Duration,
    ) -> Self {
        // Before the state is read: what happens in between is told twice rather than never.
        let events = wanted.any_event().then(|| control.events());
        let mut feed = Self {
            view: control.watch(),
            events,
            control,
            ending,
            wanted,
            nodes: None,
            services: None,
            waiting: VecDeque::new(),
            alive: ticks(alive),
            counts: ticks(COUNTS_INTERVAL),
        };
        feed.begin();
        feed
    }

    /// What comes next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if self.ending.is_cancelled() {
                return Next::End;
            }
            if let Some(told) = self.waiting.pop_front() {
                return Next::Told(told);
            }
            tokio::select! {
                () = self.ending.cancelled() => return Next::End,
                _ = self.alive.tick() => return Next::Alive,
                _ = self.counts.tick(), if self.services.is_some() => self.catch_up(),
                changed = self.view.changed(), if self.follows_state() => match changed {
                    Ok(()) => self.catch_up(),
                    Err(_) => return Next::End,
                },
                received = receive(&mut self.events) => match received {
                    Ok(event) => self.event(event),
                    Err(RecvError::Lagged(missed)) => {
                        self.say(State::Lagged { missed });
                        self.begin();
                    }
                    Err(RecvError::Closed) => return Next::End,
                },
            }
        }
    }

    fn follows_state(&self) -> bool {
        self.nodes.is_some() || self.services.is_some()
    }

    /// Tells all of the state that is wanted.
    fn begin(&mut self) {
        let view = Arc::clone(&self.view.borrow_and_update());
        if self.wanted.has(NODES) {
            let (told, all) = NodesTold::begin(&view, self.control.now().unix_ms);
            self.nodes = Some(told);
            self.say(all);
        }
        if self.wanted.has(SERVICES) {
            let (told, all) = ServicesTold::begin(view, self.control.usage());
            self.services = Some(told);
            self.say(all);
        }
    }

    /// Tells what of the state has changed.
    fn catch_up(&mut self) {
        let view = Arc::clone(&self.view.borrow_and_update());
        let now_ms = self.control.now().unix_ms;
        let nodes = self.nodes.as_mut();
        let mut changes = nodes.map_or_else(Vec::new, |told| told.catch_up(&view, now_ms));
        if let Some(told) = &mut self.services {
            changes.extend(told.catch_up(&view, self.control.usage()));
        }
        for change in changes {
            self.say(change);
        }
    }

    /// The state in which an event resulted is told before it.
    fn event(&mut self, event: Event) {
        if !self.wanted.event(&event) {
            return;
        }
        if self.follows_state() && self.view.has_changed().unwrap_or(false) {
            self.catch_up();
        }
        self.waiting.push_back(Told::Event(event));
    }

    fn say(&mut self, state: State) {
        let at_ms = self.control.now().unix_ms;
        let update = Update { at_ms, state };
        self.waiting.push_back(Told::State(update));
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn receive(events: &mut Option<broadcast::Receiver<Event>>) -> Result<Event, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => pending().await,
    }
}
