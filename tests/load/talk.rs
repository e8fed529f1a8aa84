//! One end of a stream: says its part, checks what it hears, and knows how it ended.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::plan::{PLAN_BYTES, Plan, Who, fill};

/// Longest piece of one write and of one read.
const PIECE: usize = 16 * 1024;
/// Said by the server when it knows the plan: a reset may destroy what is on its way.
const READY: u8 = b'!';

/// How what a side hears ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saw {
    /// In order.
    End,
    /// By a reset.
    Reset,
    /// It ended the stream itself.
    Own,
    /// By a reset before the other end had said a word: it may never have been there.
    Nobody,
}

/// What one end knows of a stream that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Bytes heard.
    pub(crate) heard: u64,
    /// How that ended.
    pub(crate) saw: Saw,
    /// Whether one of them was not what the other end said.
    pub(crate) corrupt: bool,
}

/// Streams that both ends know of, by number and end.
static RUNNING: Mutex<BTreeMap<(u64, Who), Arc<Progress>>> = Mutex::new(BTreeMap::new());

/// How far an end has come.
#[derive(Debug)]
struct Progress {
    plan: Plan,
    socket: Option<(SocketAddr, SocketAddr)>,
    said: AtomicU64,
    heard: AtomicU64,
    corrupt: AtomicBool,
}

/// Every end that is not through, for people.
pub(crate) fn running() -> String {
    let running = RUNNING.lock().unwrap();
    let lines = running.iter().map(|((id, who), end)| {
        let (said, heard) = (&end.said, &end.heard);
        let (plan, socket) = (end.plan, end.socket);
        format!("{id} {who:?}: said {said:?}, heard {heard:?}; {socket:?} {plan:?}\n")
    });
    lines.collect()
}

/// `beginning` is dropped when the other end is known to be there.
pub(crate) async fn as_client(
    mut tcp: TcpStream,
    plan: Plan,
    beginning: OwnedSemaphorePermit,
) -> Outcome {
    tcp.write_all(&plan.encode()).await.unwrap();
    let ready = tcp.read_u8().await;
    drop(beginning);
    match ready {
        Ok(ready) => {
            assert_eq!(ready, READY);
            talk(tcp, plan, Who::Client).await
        }
        // A reset overtakes what was said before it.
        Err(error) => {
            assert_eq!(reset(&error), Saw::Reset);
            Outcome {
                heard: 0,
                saw: Saw::Nobody,
                corrupt: false,
            }
        }
    }
}

/// `None` for a connection that says nothing: a health check.
pub(crate) async fn as_server(mut tcp: TcpStream) -> Option<(Plan, Outcome)> {
    let mut bytes = [0; PLAN_BYTES];
    tcp.read_exact(&mut bytes).await.ok()?;
    let plan = Plan::decode(&bytes);
    tcp.write_u8(READY).await.ok()?;
    Some((plan, talk(tcp, plan, Who::Server).await))
}

async fn talk(mut tcp: TcpStream, plan: Plan, me: Who) -> Outcome {
    let (mine, theirs) = match me {
        Who::Client => (plan.seed, !plan.seed),
        Who::Server => (!plan.seed, plan.seed),
    };
    let (len, resets) = plan.part(me);
    let progress = Arc::new(Progress {
        plan,
        socket: tcp.local_addr().ok().zip(tcp.peer_addr().ok()),
        said: AtomicU64::new(0),
        heard: AtomicU64::new(0),
        corrupt: AtomicBool::new(false),
    });
    let key = (plan.id, me);
    RUNNING.lock().unwrap().insert(key, progress.clone());
    let (mut read, mut write) = tcp.split();
    let saying = async {
        let said = say(&mut write, mine, len, resets, &progress).await;
        // Who resets does not go on listening.
        match (said, resets) {
            (Ok(()), true) => Err(()),
            (said, _) => Ok(said),
        }
    };
    let hearing = async { Ok(hear(&mut read, theirs, &progress).await) };
    let saw = match tokio::try_join!(saying, hearing) {
        // The system tells of a reset once, to whoever asks first; reading finds the end then.
        Ok((Err(error), Saw::End)) => reset(&error),
        Ok((_, saw)) => saw,
        Err(()) => {
            tcp.set_zero_linger().unwrap();
            Saw::Own
        }
    };
    RUNNING.lock().unwrap().remove(&key);
    Outcome {
        heard: progress.heard.load(Ordering::Relaxed),
        saw,
        corrupt: progress.corrupt.load(Ordering::Relaxed),
    }
}

/// Says `len` bytes with pauses and half-closes, unless a reset is to come.
async fn say(
    to: &mut (impl AsyncWrite + Unpin),
    seed: u64,
    len: u64,
    resets: bool,
    progress: &Progress,
) -> io::Result<()> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        pause(&mut rng).await;
        let some = rng.random_range(1..=PIECE as u64).min(len - at) as usize;
        fill(seed, at, &mut piece[..some]);
        to.write_all(&piece[..some]).await?;
        at += some as u64;
        progress.said.store(at, Ordering::Relaxed);
    }
    pause(&mut rng).await;
    if !resets {
        // Fails where the other side has reset it; reading tells that.
        let _ = to.shutdown().await;
    }
    Ok(())
}

async fn hear(from: &mut (impl AsyncRead + Unpin), seed: u64, progress: &Progress) -> Saw {
    let mut rng = SmallRng::seed_from_u64(!seed);
    let (mut piece, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        pause(&mut rng).await;
        let len = match from.read(&mut piece).await {
            Ok(0) => return Saw::End,
            Ok(len) => len,
            Err(error) => return reset(&error),
        };
        let at = progress.heard.fetch_add(len as u64, Ordering::Relaxed);
        fill(seed, at, &mut expected[..len]);
        if piece[..len] != expected[..len] {
            progress.corrupt.store(true, Ordering::Relaxed);
        }
    }
}

fn reset(error: &io::Error) -> Saw {
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    Saw::Reset
}

/// Now and then a side is slow.
async fn pause(rng: &mut SmallRng) {
    if rng.random_range(0..16) == 0 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
    }
}
