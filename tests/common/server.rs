//! A real server behind a node: threads and sockets, and a gate that holds answers back.
//!
//! `GET /` says its name. `GET /hold` is answered when the gate opens, `GET /drip` sends its head
//! at once and the rest when the gate opens. `POST` gets its own body back while it arrives.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::{DEADLINE, until};

/// A server; it ends when it is dropped.
pub(crate) struct Backend {
    at: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<thread::JoinHandle<()>>,
}

type Handler = dyn Fn(TcpStream, &Shared) -> io::Result<()> + Send + Sync;

/// What the connections of a server share.
pub(crate) struct Shared {
    name: String,
    /// Requests read.
    requests: AtomicU64,
    /// Requests that wait for the gate.
    held: AtomicU64,
    open: Mutex<bool>,
    opened: Condvar,
    stopping: AtomicBool,
    running: Mutex<BTreeMap<u64, TcpStream>>,
    handler: Box<Handler>,
}

impl Shared {
    /// Waits for the gate.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        let waited = self
            .opened
            .wait_timeout_while(open, DEADLINE, |open| !*open);
        drop(waited);
        self.held.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts a request.
    pub(crate) fn count(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }
}

impl Backend {
    /// An HTTP server.
    pub(crate) fn http(name: &str) -> Self {
        Self::new(name, |stream, shared| serve_http(&stream, shared))
    }

    /// Several of them: `b0`, `b1` and so on.
    pub(crate) fn several(count: usize) -> Vec<Self> {
        (0..count).map(|at| Self::http(&format!("b{at}"))).collect()
    }

    /// A server that does this with every connection.
    pub(crate) fn new(
        name: &str,
        handler: impl Fn(TcpStream, &Shared) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut backend = Self {
            at: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                name: name.to_owned(),
                requests: AtomicU64::new(0),
                held: AtomicU64::new(0),
                open: Mutex::new(false),
                opened: Condvar::new(),
                stopping: AtomicBool::new(false),
                running: Mutex::default(),
                handler: Box::new(handler),
            }),
            listening: None,
        };
        backend.listen(listener);
        backend
    }

    fn listen(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        self.listening = Some(thread::spawn(move || accept_all(&listener, &shared)));
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.at
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Requests that wait for the gate.
    pub(crate) fn held(&self) -> u64 {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Waits until that many requests wait for the gate.
    pub(crate) fn wait_held(&self, count: u64) {
        until("requests at the server", || {
            (self.held() == count).then_some(())
        });
    }

    /// Opens the gate for good.
    pub(crate) fn release(&self) {
        *self.shared.open.lock().unwrap() = true;
        self.shared.opened.notify_all();
    }

    /// What SIGKILL does to a server: nothing listens, and every connection is gone.
    pub(crate) fn die(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.at));
        self.listening.take().unwrap().join().unwrap();
        for stream in self.shared.running.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again where it did.
    pub(crate) fn revive(&mut self) {
        self.shared.stopping.store(false, Ordering::SeqCst);
        let listener = until("the port is free", || TcpListener::bind(self.at).ok());
        self.listen(listener);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.release();
        if self.listening.is_some() {
            self.die();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let stream = stream.unwrap();
        let kept = stream.try_clone().unwrap();
        shared.running.lock().unwrap().insert(number, kept);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Clients that go away are what many of these tests are about.
            let _ = (shared.handler)(stream, &shared);
            shared.running.lock().unwrap().remove(&number);
        });
    }
}

/// Resets a connection: its peer reads an error, not an end.
pub(crate) fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn serve_http(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        // A health check: it only connects.
        return Ok(());
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    shared.count();
    let name = &shared.name;
    let path = request.split(' ').nth(1).unwrap_or_default();
    let head = |length: u64| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match path {
        "/hold" => {
            shared.hold();
            write!(writer, "{}{name}", head(name.len() as u64))
        }
        "/drip" => {
            write!(writer, "{}", head(name.len() as u64))?;
            shared.hold();
            write!(writer, "{name}")
        }
        _ if length > 0 => {
            write!(writer, "{}", head(length))?;
            io::copy(&mut reader.take(length), &mut writer)?;
            Ok(())
        }
        _ => write!(writer, "{}{name}", head(name.len() as u64)),
    }
}
