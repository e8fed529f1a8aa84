//! What a flow runs between. Each side gives datagrams one at a time and takes them without
//! waiting.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::net::UdpSocket;

use crate::mesh::addr::HostPort;
use crate::mesh::stream::Cut;
use crate::net::flow::{FlowEnd, Lost};
use crate::service::end::code;

/// Longest datagram that any socket gives.
const MAX_UDP_BYTES: usize = 1 << 16;

thread_local! {
    /// One buffer serves the whole thread: one for each flow would be most of its memory.
    static SCRATCH: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; MAX_UDP_BYTES].into_boxed_slice());
}

/// Reads one datagram without waiting and gives it to `take`.
pub(super) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// It is on its way.
    Sent,
    /// It is not.
    Lost(Lost),
    /// Nothing listens there, as the system has learnt from an earlier one (ICMP).
    Refused,
}

impl From<Result<(), Lost>> for Took {
    fn from(sent: Result<(), Lost>) -> Self {
        sent.map_or_else(Self::Lost, |()| Self::Sent)
    }
}

/// One side of a flow.
pub trait Side: Send {
    /// The next datagram; `None` when this side has ended the flow. May be cancelled.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;

    /// Sends a datagram, now or never.
    fn take(&mut self, datagram: &[u8]) -> Took;
}

/// A flow on a link to another node.
pub struct Linked {
    /// Towards the other node: a header or a status, then nothing.
    pub send: SendStream,
    /// From the other node, the same.
    pub recv: RecvStream,
    /// The datagrams beside it.
    pub end: FlowEnd,
}

impl Linked {
    /// Ends the flow for the other side, too.
    pub fn finish(mut self) {
        // Either fails only on a stream that has already ended.
        let _ = self.send.finish();
        let _ = self.recv.stop(code(Cut::Unwanted));
    }
}

impl Side for Linked {
    async fn next(&mut self) -> Option<Bytes> {
        let mut end = [0];
        let mut silence = self.end.silence();
        tokio::select! {
            // What came before the end is said before it.
            biased;
            parcel = self.end.recv() => parcel.map(|parcel| parcel.bytes()),
            // Another node can take the flow.
            () = silence.fell() => None,
            // Whatever is read there, or not, is its end.
            _ = self.recv.read(&mut end) => None,
        }
    }

    fn take(&mut self, datagram: &[u8]) -> Took {
        self.end.send(datagram).into()
    }
}

/// A socket of its own towards a real server.
#[derive(Debug)]
pub struct Server {
    socket: UdpSocket,
}

impl Server {
    /// Finds the server's address, anew each time: containers change theirs.
    ///
    /// # Errors
    /// The name has no address, no socket is left, or there is no route.
    pub async fn connect(target: &HostPort) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in tokio::net::lookup_host((target.host(), target.port())).await? {
            let any: SocketAddr = match addr {
                SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            match socket.connect(addr).await {
                Ok(()) => return Ok(Self { socket }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Side for Server {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.socket.readable().await.ok()?;
            let read = with_scratch(|scratch| {
                let len = self.socket.try_recv(scratch)?;
                Ok::<_, io::Error>(Bytes::copy_from_slice(&scratch[..len]))
            });
            match read {
                Ok(datagram) => return Some(datagram),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, "the server takes no datagrams");
                    return None;
                }
            }
        }
    }

    fn take(&mut self, datagram: &[u8]) -> Took {
        match self.socket.try_send(datagram) {
            Ok(_) => Took::Sent,
            Err(error) => refused(&error),
        }
    }
}

/// What a socket's error means for the datagram.
pub(super) fn refused(error: &io::Error) -> Took {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MSGSIZE) => Took::Lost(Lost::TooLarge),
        Some(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) => Took::Refused,
        _ => Took::Lost(Lost::Overflow),
    }
}
