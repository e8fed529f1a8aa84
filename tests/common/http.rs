//! An HTTP client that does what tests need: one request on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// From everything that a server sent before it closed.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut off");
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .ok_or_else(cut)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = bytes[end + 4..].to_vec();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let answer = Self {
            status: status.ok_or_else(cut)?,
            head,
            body,
        };
        match answer.header("content-length") {
            Some(length) if length != answer.body.len().to_string() => Err(cut()),
            _ => Ok(answer),
        }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Connects, with a limit for every read.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// The head of a request.
pub(crate) fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

/// `GET`, answered.
pub(crate) fn get(to: SocketAddr, path: &str) -> io::Result<Answer> {
    get_with(to, path, "")
}

/// `GET` with more headers, each with its line end.
pub(crate) fn get_with(to: SocketAddr, path: &str, headers: &str) -> io::Result<Answer> {
    let mut stream = connect(to)?;
    stream.write_all(head("GET", path, headers).as_bytes())?;
    read_answer(&mut stream)
}

/// `POST` of a body that is written while the answer is read.
pub(crate) fn post(to: SocketAddr, path: &str, body: Vec<u8>) -> io::Result<Answer> {
    post_with(to, path, "", body)
}

/// The same with more headers, each with its line end.
pub(crate) fn post_with(
    to: SocketAddr,
    path: &str,
    headers: &str,
    body: Vec<u8>,
) -> io::Result<Answer> {
    let mut stream = connect(to)?;
    let mut writer = stream.try_clone()?;
    let length = format!("{headers}Content-Length: {}\r\n", body.len());
    let head = head("POST", path, &length);
    let writing = std::thread::spawn(move || {
        writer.write_all(head.as_bytes())?;
        writer.write_all(&body)
    });
    let answer = read_answer(&mut stream);
    writing.join().unwrap()?;
    answer
}

/// Everything until the server closes.
pub(crate) fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Answer::parse(&bytes)
}
