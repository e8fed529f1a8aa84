//! The server of the loads that nginx and iperf3 are no servers for, and what its clients say to
//! it. Like its clients it is this program again, as a process of its own.
//!
//! The first byte of a connection is what it is for:
//!
//! | byte | then |
//! |---|---|
//! | [`ECHO`] | every byte comes back |
//! | [`ASK`] | for each request of [`REQUEST_BYTES`] an answer of [`ANSWER_BYTES`] |
//! | [`UPLOAD`] | bytes are read and thrown away, and one comes back for each [`BLOCK`] of them |
//! | [`DOWNLOAD`] | bytes a second, an `f64` big endian, infinite for as many as go; then they come |

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::Result;
use crate::place::Place;
use crate::process::Process;

pub(crate) const ECHO: u8 = b'e';
pub(crate) const ASK: u8 = b'a';
pub(crate) const UPLOAD: u8 = b'u';
pub(crate) const DOWNLOAD: u8 = b'd';
/// As long as what wrk sends.
pub(crate) const REQUEST_BYTES: usize = 64;
pub(crate) const ANSWER_BYTES: usize = 1024;
pub(crate) const BLOCK: usize = 1 << 20;
/// As fast as it goes.
pub(crate) const FULL: f64 = f64::INFINITY;
/// Bytes of one write of a bulk stream.
const PIECE: usize = 64 << 10;
/// With this argument the benchmark is the server.
pub(crate) const ROLE: &str = "own-server";

/// Starts it at the far end.
pub(crate) fn start(place: &Place, listen: SocketAddr, dir: &Path) -> Result<Process> {
    let mut command = place.far.command(&std::env::current_exe()?, dir);
    command.args([ROLE, &listen.to_string()]);
    Process::start("own-server", command, dir)
}

/// The server, until it is killed.
pub(crate) fn role(args: &[String]) -> Result<()> {
    let [listen] = args else {
        return Err("an address to listen on".into());
    };
    let listen: SocketAddr = listen.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A client that goes in the middle is nobody's failure.
            tokio::spawn(serve(stream));
        }
    })
}

async fn serve(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let kind = stream.read_u8().await?;
    if kind == ECHO {
        // Thousands of these are open at once: no buffer, and no thread.
        loop {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
        }
    }
    // A thread for each, so that a bulk stream is no reason why an answer waits here.
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    std::thread::spawn(move || match kind {
        ASK => answer(&stream),
        UPLOAD => swallow(&stream),
        DOWNLOAD => pour(&stream),
        _ => Ok(()),
    });
    Ok(())
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let (mut request, answer) = ([0; REQUEST_BYTES], [b'x'; ANSWER_BYTES]);
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(&answer)?;
    }
}

fn swallow(mut stream: &TcpStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut since = 0;
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => since += count,
        }
        let blocks = vec![0; since / BLOCK];
        since %= BLOCK;
        stream.write_all(&blocks)?;
    }
}

fn pour(mut stream: &TcpStream) -> io::Result<()> {
    let mut rate = [0; 8];
    stream.read_exact(&mut rate)?;
    send(stream, f64::from_be_bytes(rate))
}

/// Sends `rate` bytes a second, [`FULL`] for as many as go, until the other side has gone. They are
/// spread evenly: a burst would be held against the tunnel.
pub(crate) fn send(mut stream: &TcpStream, rate: f64) -> io::Result<()> {
    let piece = vec![b'x'; PIECE];
    let begun = Instant::now();
    let mut sent = 0_u64;
    loop {
        let due = Duration::from_secs_f64(sent as f64 / rate);
        let early = due.saturating_sub(begun.elapsed());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        stream.write_all(&piece)?;
        sent += piece.len() as u64;
    }
}
