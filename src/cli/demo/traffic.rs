//! The requests that the demo sends to itself, as any HTTP client would.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};

const BODY: &str = r#"{"model":"warren-demo","messages":[{"role":"user","content":"hello"}]}"#;

/// What was sent, and what became of it. Dropping it gives up what is on the way.
pub(super) struct Traffic {
    to: SocketAddr,
    on_the_way: JoinSet<bool>,
    answered: u32,
    failed: u32,
}

impl Traffic {
    /// Requests to the federated address.
    pub(super) fn new(to: SocketAddr) -> Self {
        Self {
            to,
            on_the_way: JoinSet::new(),
            answered: 0,
            failed: 0,
        }
    }

    /// Sends `count` requests at once.
    pub(super) fn send(&mut self, count: u32) {
        for _ in 0..count {
            let to = self.to;
            self.on_the_way.spawn(async move {
                let answer = ask(to, BODY).await;
                answer.is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
            });
        }
    }

    /// Waits until something has become of a request; for ever while none is on the way. Dropping
    /// the future loses nothing.
    pub(super) async fn settled(&mut self) {
        match self.on_the_way.join_next().await {
            Some(done) => self.count(done),
            None => std::future::pending().await,
        }
    }

    fn count(&mut self, done: Result<bool, JoinError>) {
        match done {
            Ok(true) => self.answered += 1,
            _ => self.failed += 1,
        }
    }

    /// How it went so far, for people.
    pub(super) fn line(&mut self) -> String {
        while let Some(done) = self.on_the_way.try_join_next() {
            self.count(done);
        }
        let waiting = self.on_the_way.len();
        format!(
            "requests: {} answered, {} failed, {waiting} waiting",
            self.answered, self.failed
        )
    }
}

/// One chat request on a connection of its own; the whole answer, head included.
pub(super) async fn ask(to: SocketAddr, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
