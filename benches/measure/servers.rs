//! Servers to be probed, each on a thread of its own for as long as the program runs.

use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};

use crate::Result;

/// What P2PRC's `/50` is meant to have.
const FILE_BYTES: usize = 50_000_000;
const INFO: &str = r#"{"Hostname":"h","Platform":"linux","CPU":"c","RAM":1,"Disk":1,"GPU":null}"#;

/// Serves `/server_info`, `/50` and `/upload`.
pub(crate) fn p2prc() -> Result<SocketAddr> {
    let listener = bind()?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let file = || async {
        let piece = bytes::Bytes::from_static(&[7; 65_536]);
        let pieces = FILE_BYTES / piece.len();
        let pieces = stream::iter(std::iter::repeat_n(Ok::<_, Infallible>(piece), pieces));
        Body::from_stream(pieces)
    };
    let upload = |body: Body| async {
        let mut body = body.into_data_stream();
        while let Some(Ok(_)) = body.next().await {}
        "'warren.bin' uploaded!"
    };
    let router = Router::new()
        .route("/server_info", get(|| async { INFO }))
        .route("/50", get(file))
        .route("/upload", post(upload));
    std::thread::spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        });
        served.map_err(|error| error.to_string())
    });
    Ok(addr)
}

/// Accepts and says nothing.
pub(crate) fn silent() -> Result<SocketAddr> {
    let listener = bind()?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        // Kept until the other side closes.
        let mut held = Vec::new();
        for tcp in listener.incoming().flatten() {
            let _ = tcp.set_nonblocking(true);
            held.push(tcp);
            held.retain_mut(|tcp| !matches!(drained(tcp), Some(0)));
        }
    });
    Ok(addr)
}

/// Bytes that came at last; 0 is the end.
fn drained(tcp: &mut std::net::TcpStream) -> Option<usize> {
    let mut buffer = [0; 4096];
    let mut last = None;
    while let Ok(read) = tcp.read(&mut buffer) {
        last = Some(read);
        if read == 0 {
            break;
        }
    }
    last
}

/// Nothing listens there any more.
pub(crate) fn refuses() -> Result<SocketAddr> {
    Ok(bind()?.local_addr()?)
}

fn bind() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
}
