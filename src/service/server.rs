//! The way to a real server: its address, the connection, and what it is told of the client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::listen::prepare;
use super::spec::ProxyProtocol;
use crate::mesh::addr::HostPort;
use crate::mesh::stream::{Client, Refusal};

/// What every binary header of the PROXY protocol starts with.
const PROXY_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and a connection that is made for somebody else.
const PROXY_V2: u8 = 0x21;

/// Connects to a server, resolving its name anew each time: containers change addresses.
///
/// # Errors
/// What the system said, `TimedOut` after `limit`.
pub(super) async fn connect(target: &HostPort, limit: Duration) -> io::Result<TcpStream> {
    let known = target.socket_addr();
    let connecting = async {
        match known {
            Some(addr) => TcpStream::connect(addr).await,
            None => TcpStream::connect((target.host(), target.port())).await,
        }
    };
    let tcp = timeout(limit, connecting).await.map_err(|_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", limit.as_secs()),
        )
    })??;
    let is_local = known.is_some_and(|addr| addr.ip().is_loopback());
    prepare(SockRef::from(&tcp), is_local);
    Ok(tcp)
}

/// What a peer is told about a server that was not reached.
pub(super) fn refusal_of(error: &io::Error) -> Refusal {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    match (error.kind(), errno) {
        (_, Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL)) => Refusal::TooMany,
        (io::ErrorKind::TimedOut, _) => Refusal::ServerSilent,
        _ => Refusal::ServerRefused,
    }
}

/// Writes the header of the PROXY protocol. It is the first thing on a new connection, so it
/// never waits for room.
///
/// # Errors
/// The server has closed the connection.
pub(super) async fn tell_client(
    tcp: &mut TcpStream,
    version: ProxyProtocol,
    client: Option<&Client>,
) -> io::Result<()> {
    let ProxyProtocol::V2 = version;
    tcp.write_all(&proxy_header(client)).await
}

/// The header, version 2 (HAProxy's `proxy-protocol.txt` §2.2). Without a client (an older node
/// has the ingress) it says that there is one whose address is not known, and the server takes
/// that of the connection.
fn proxy_header(client: Option<&Client>) -> Vec<u8> {
    let (family, addresses) = match client.map(|client| (client.from(), client.to())) {
        Some((SocketAddr::V4(from), SocketAddr::V4(to))) => {
            (0x11, [from.ip().octets(), to.ip().octets()].concat())
        }
        Some((SocketAddr::V6(from), SocketAddr::V6(to))) => {
            (0x21, [from.ip().octets(), to.ip().octets()].concat())
        }
        _ => (0x00, Vec::new()),
    };
    let client = client.filter(|_| family != 0);
    let ports = client.into_iter().flat_map(|client| {
        let (from, to) = (client.from().port(), client.to().port());
        [from.to_be_bytes(), to.to_be_bytes()].concat()
    });
    let mut header = [PROXY_SIGNATURE, &[PROXY_V2, family, 0, 0], &addresses].concat();
    header.extend(ports);
    // 12 bytes for IPv4, 36 for IPv6.
    let behind = header.len() - PROXY_SIGNATURE.len() - 4;
    header[PROXY_SIGNATURE.len() + 3] = u8::try_from(behind).unwrap_or(u8::MAX);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the specification has it.
    const SIGNATURE: &[u8] = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A";

    #[test]
    fn the_golden_headers_of_the_proxy_protocol() {
        let client = |from: &str, to: &str| {
            let client = Client::new(from.parse().unwrap(), to.parse().unwrap());
            proxy_header(Some(&client.unwrap()))
        };
        let v4 = [
            SIGNATURE,
            &[0x21, 0x11, 0, 12],
            &[192, 0, 2, 7, 127, 0, 0, 1],
            &[0xc0, 0x01, 0x23, 0x28],
        ];
        assert_eq!(client("192.0.2.7:49153", "127.0.0.1:9000"), v4.concat());
        let v6 = [
            SIGNATURE,
            &[0x21, 0x21, 0, 36],
            &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0xc0, 0x01, 0x23, 0x28],
        ];
        assert_eq!(client("[2001:db8::7]:49153", "[::1]:9000"), v6.concat());
        let unknown = [SIGNATURE, &[0x21, 0x00, 0, 0]];
        assert_eq!(proxy_header(None), unknown.concat());
    }
}
