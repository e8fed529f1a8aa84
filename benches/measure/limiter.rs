//! Lets through so many bytes a second each way, on a thread of its own: what is measured must not
//! slow down what it is measured against. It keeps to a schedule, so that the mean holds although
//! timers are late, and saves up no more than [`LATE`]: there are no bursts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::Result;

/// Longest queue of datagrams, as time: beyond it they are dropped, as routers do.
const QUEUE: Duration = Duration::from_millis(100);
/// Shortest queue, in bytes.
const QUEUE_BYTES: f64 = 65_536.0;
/// How late a timer may be without loss: that much is made up for.
const LATE: Duration = Duration::from_millis(10);
/// Bytes of a TCP stream let through at once.
const PIECE: usize = 8 * 1024;

/// A running limiter. Its thread ends with the handle.
pub(crate) struct Limiter {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    through: Arc<AtomicU64>,
    _alive: oneshot::Sender<()>,
}

impl Limiter {
    /// Bytes let through, both ways together.
    pub(crate) fn bytes(&self) -> u64 {
        self.through.load(Ordering::Relaxed)
    }
}

/// Before a UDP socket.
pub(crate) fn udp(to: SocketAddr, mbps: f64) -> Result<Limiter> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let addr = socket.local_addr()?;
    start(addr, move |through| async move {
        let Ok(front) = UdpSocket::from_std(socket) else {
            return;
        };
        relay(Arc::new(front), to, mbps, through).await;
    })
}

/// Before a TCP server.
pub(crate) fn tcp(to: SocketAddr, mbps: f64) -> Result<Limiter> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    start(addr, move |through| async move {
        let Ok(listener) = TcpListener::from_std(listener) else {
            return;
        };
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else {
                return;
            };
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(pour(near.0, far.1, mbps, Arc::clone(&through)));
            tokio::spawn(pour(far.0, near.1, mbps, Arc::clone(&through)));
        }
    })
}

fn start<F>(
    addr: SocketAddr,
    work: impl FnOnce(Arc<AtomicU64>) -> F + Send + 'static,
) -> Result<Limiter>
where
    F: Future<Output = ()>,
{
    let through = Arc::<AtomicU64>::default();
    let counter = Arc::clone(&through);
    let (alive, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = work(counter) => {}
                _ = ended => {}
            }
        });
    });
    Ok(Limiter {
        addr,
        through,
        _alive: alive,
    })
}

/// When the next bytes may go.
struct Schedule {
    bytes_per_second: f64,
    next: Instant,
}

impl Schedule {
    fn new(mbps: f64) -> Self {
        Self {
            bytes_per_second: mbps * 1e6 / 8.0,
            next: Instant::now(),
        }
    }

    /// Waits until `bytes` have gone.
    async fn go(&mut self, bytes: usize) {
        #[allow(clippy::cast_precision_loss)]
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(LATE).unwrap_or(now)) + takes;
        sleep_until(self.next).await;
    }
}

async fn pour(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mbps: f64, through: Arc<AtomicU64>) {
    let mut schedule = Schedule::new(mbps);
    let mut piece = vec![0; PIECE];
    while let Ok(len @ 1..) = from.read(&mut piece).await {
        schedule.go(len).await;
        if to.write_all(&piece[..len]).await.is_err() {
            return;
        }
        through.fetch_add(len as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

async fn relay(front: Arc<UdpSocket>, to: SocketAddr, mbps: f64, through: Arc<AtomicU64>) {
    let mut diallers: HashMap<SocketAddr, Queue> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = front.recv_from(&mut buffer).await {
        let forth = match diallers.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(back) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else {
                    return;
                };
                let back = Arc::new(back);
                let forth = Queue::new(Arc::clone(&back), to, mbps, Arc::clone(&through));
                let answers = Queue::new(Arc::clone(&front), from, mbps, Arc::clone(&through));
                tokio::spawn(listen(back, answers));
                new.insert(forth)
            }
        };
        forth.push(&buffer[..len]);
    }
}

async fn listen(back: Arc<UdpSocket>, answers: Queue) {
    let mut buffer = vec![0; 65_536];
    while let Ok(len) = back.recv(&mut buffer).await {
        answers.push(&buffer[..len]);
    }
}

/// Datagrams that wait for their turn.
struct Queue {
    waiting: mpsc::UnboundedSender<Vec<u8>>,
    bytes: Arc<AtomicU64>,
    most: u64,
}

impl Queue {
    fn new(socket: Arc<UdpSocket>, to: SocketAddr, mbps: f64, through: Arc<AtomicU64>) -> Self {
        let (waiting, mut queued) = mpsc::unbounded_channel::<Vec<u8>>();
        let bytes = Arc::<AtomicU64>::default();
        let left = Arc::clone(&bytes);
        let mut schedule = Schedule::new(mbps);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let most = (schedule.bytes_per_second * QUEUE.as_secs_f64()).max(QUEUE_BYTES) as u64;
        tokio::spawn(async move {
            while let Some(datagram) = queued.recv().await {
                schedule.go(datagram.len()).await;
                left.fetch_sub(datagram.len() as u64, Ordering::Relaxed);
                through.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                let _ = socket.send_to(&datagram, to).await;
            }
        });
        Self {
            waiting,
            bytes,
            most,
        }
    }

    fn push(&self, datagram: &[u8]) {
        let len = datagram.len() as u64;
        if self.bytes.fetch_add(len, Ordering::Relaxed) + len > self.most {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
        } else {
            let _ = self.waiting.send(datagram.to_vec());
        }
    }
}
