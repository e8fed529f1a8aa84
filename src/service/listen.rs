//! Sockets that clients come to, and why there is none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::spec::Protocol;

/// Clients the kernel keeps waiting while the process is busy.
const BACKLOG: i32 = 1024;
/// Bytes that the kernel keeps of datagrams while the process is busy.
const UDP_BUFFER: usize = 1 << 20;
/// A dead peer that sent no FIN is noticed by TCP keep-alive after this long without traffic.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Why nothing listens at an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("{0} is in use by another program")]
    InUse(SocketAddr),
    /// The system does not allow it.
    #[error("{0} may not be listened on by this user")]
    Forbidden(SocketAddr),
    /// No interface has this address.
    #[error("{0} is not an address of this machine")]
    NotOurs(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {addr}: {cause}")]
    Other {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

impl ListenError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InUse(_) => "stop it, or listen elsewhere; port 0 takes a free one",
            Self::Forbidden(_) => "ports below 1024 need CAP_NET_BIND_SERVICE; take a higher one",
            Self::NotOurs(_) => {
                "0.0.0.0 or [::] listens on all addresses of this machine; `ip address` lists them"
            }
            Self::Other { .. } => "listen on another address",
        }
    }
}

/// Sets what every TCP socket of a tunnel needs: no Nagle delay (it costs 40 ms per small
/// answer), and keep-alive so that a vanished peer does not hold a stream for ever. A peer on the
/// same machine (`is_local`) cannot vanish unnoticed. What a listener accepts has its options.
pub(super) fn prepare(socket: SockRef<'_>, is_local: bool) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    let mut set = socket.set_tcp_nodelay(true);
    if !is_local {
        set = set.and(socket.set_tcp_keepalive(&keepalive));
    }
    if let Err(error) = set {
        tracing::debug!(%error, "socket options not set");
    }
}

/// A socket at `addr` that does not block, and where it is; one of TCP listens.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn bind(
    addr: SocketAddr,
    protocol: Protocol,
) -> Result<(Socket, SocketAddr), ListenError> {
    try_bind(addr, protocol).map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(addr),
        io::ErrorKind::PermissionDenied => ListenError::Forbidden(addr),
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs(addr),
        _ => ListenError::Other { addr, cause },
    })
}

fn try_bind(addr: SocketAddr, protocol: Protocol) -> io::Result<(Socket, SocketAddr)> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (Type::STREAM, socket2::Protocol::TCP),
        Protocol::Udp => (Type::DGRAM, socket2::Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(number))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        // Whatever the system's default: [::] means every address.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    match protocol {
        Protocol::Tcp => {
            socket.set_reuse_address(true)?;
            prepare(SockRef::from(&socket), false);
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
        }
        // Reuse would let two programs share a UDP port, and one of them hear nothing.
        Protocol::Udp => {
            // The system clamps it; less means more loss in a burst.
            let _ = socket.set_recv_buffer_size(UDP_BUFFER);
            socket.bind(&addr.into())?;
        }
    }
    let bound = socket.local_addr()?.as_socket();
    Ok((socket, bound.unwrap_or(addr)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    /// Nothing is set on each client: what the listener has is copied when it is accepted.
    #[test]
    fn what_is_accepted_has_the_options_of_its_listener() {
        let (socket, addr) = bind((Ipv4Addr::LOCALHOST, 0).into(), Protocol::Tcp).unwrap();
        socket.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        let (accepted, _) = TcpListener::from(socket).accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}
