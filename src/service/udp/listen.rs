//! The local listener of a UDP ingress: one socket, and a task for each flow.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flow::Flow;
use super::side::with_scratch;
use super::{FLOW_TIMEOUT, MAX_FLOWS, MAX_FLOWS_PER_CLIENT};
use crate::mesh::flows::{FlowNumber, FlowTable, Limits};
use crate::net::flow::{Budget, Lost, MAX_WAITING, Parcel};
use crate::service::connection::Shared;
use crate::service::until::until;

/// Bytes of all flows of an ingress that wait for their nodes.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Datagrams taken before other tasks of the thread have their turn.
const AT_ONCE: usize = 64;
/// Pause after an error of the socket that is not about one datagram.
const PAUSE: Duration = Duration::from_millis(10);

type Table = FlowTable<SocketAddr, IpAddr, mpsc::Sender<Parcel>>;

/// What the flows of one listener share.
pub(in crate::service) struct Listener {
    pub(super) shared: Arc<Shared>,
    pub(super) socket: UdpSocket,
    /// No new flows; running ones end when they are quiet.
    pub(super) stop: CancellationToken,
    flows: Mutex<Table>,
    budget: Budget,
}

impl Listener {
    /// Listens on a bound socket.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub(in crate::service) fn new(
        socket: std::net::UdpSocket,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let timeout = shared.spec.flow_timeout_ms.map(Duration::from_millis);
        let limits = Limits {
            idle: timeout.unwrap_or(FLOW_TIMEOUT),
            per_owner: MAX_FLOWS_PER_CLIENT,
            total: MAX_FLOWS,
        };
        Ok(Arc::new(Self {
            shared,
            socket: UdpSocket::from_std(socket)?,
            stop,
            flows: Mutex::new(FlowTable::new(limits)),
            budget: Budget::new(MAX_WAITING_BYTES),
        }))
    }

    /// Takes datagrams until it is stopped and every flow has ended; `abort` ends the flows.
    pub(in crate::service) async fn run(self: Arc<Self>, abort: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let due = self.lock().next_expiry();
            let due = due.map(|due| due.saturating_sub(self.now()));
            let stopped = self.stop.is_cancelled();
            if stopped {
                tasks.close();
            }
            tokio::select! {
                ready = self.socket.readable() => match ready {
                    Ok(()) => self.take_all(&tasks, &abort).await,
                    Err(error) => return tracing::error!(%error, "the UDP ingress has ended"),
                },
                () = sleep(due.unwrap_or_default()), if due.is_some() => self.expire(),
                () = self.stop.cancelled(), if !stopped => {}
                () = tasks.wait(), if stopped => return,
            }
        }
    }

    async fn take_all(self: &Arc<Self>, tasks: &TaskTracker, abort: &CancellationToken) {
        for _ in 0..AT_ONCE {
            let read = with_scratch(|scratch| {
                let (len, from) = self.socket.try_recv_from(scratch)?;
                Ok::<_, io::Error>((self.budget.take(&scratch[..len]), from))
            });
            match read {
                Ok((Some(parcel), from)) => {
                    if let Some(flow) = self.sort(parcel, from) {
                        // On the heap once: a task moves its future several times.
                        let flow = Box::pin(flow.run());
                        let abort = abort.clone();
                        tasks.spawn(async move { until(&abort, flow).await });
                    }
                }
                Ok((None, _)) => self.shared.counters.lose(Lost::Overflow),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(%error, "cannot read from the UDP ingress");
                    return sleep(PAUSE).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }

    /// Gives a datagram to its flow; a new one if that has just begun.
    fn sort(self: &Arc<Self>, parcel: Parcel, from: SocketAddr) -> Option<Flow> {
        let now = self.now();
        let mut flows = self.lock();
        let parcel = match flows.touch(now, &from) {
            None => parcel,
            Some(inbox) => match inbox.try_send(parcel) {
                Ok(()) => return None,
                Err(TrySendError::Full(_)) => {
                    self.shared.counters.lose(Lost::Overflow);
                    return None;
                }
                // It is just ending.
                Err(TrySendError::Closed(parcel)) => parcel,
            },
        };
        if self.stop.is_cancelled() {
            self.shared.counters.lose(Lost::NoNode);
            return None;
        }
        let (tell, inbox) = mpsc::channel(MAX_WAITING);
        // It is empty, so there is room.
        let _ = tell.try_send(parcel);
        let (number, _) = flows.insert(now, from, from.ip().to_canonical(), tell);
        Some(Flow::new(Arc::clone(self), from, number, inbox))
    }

    fn expire(&self) {
        let now = self.now();
        let mut flows = self.lock();
        // Its task ends when there is nothing more to wait for.
        while flows.expire(now).is_some() {}
    }

    /// An answer came: the flow is in use.
    pub(super) fn touch(&self, client: &SocketAddr) {
        let now = self.now();
        self.lock().touch(now, client);
    }

    /// A flow has ended by itself.
    pub(super) fn forget(&self, client: &SocketAddr, number: FlowNumber) {
        self.lock().remove(client, number);
    }

    fn now(&self) -> Duration {
        self.shared.clock.now().mono
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
