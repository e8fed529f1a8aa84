//! The UDP sockets of a listen address.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Socket buffers asked for; the system's limit may be lower.
const SOCKET_BUFFER: usize = 4 << 20;

/// A UDP socket with large buffers; an IPv6 wildcard takes IPv4 as well.
///
/// # Errors
/// The address cannot be bound.
pub(super) fn udp_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(addr)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// So many of them, between which the kernel spreads what comes to `addr`.
///
/// # Errors
/// The address cannot be bound: also where whoever has it would share it.
pub(super) fn udp_sockets(addr: SocketAddr, count: u32) -> io::Result<Vec<UdpSocket>> {
    let first = open(addr)?;
    first.bind(&addr.into())?;
    let mut sockets = Vec::new();
    if count > 1 {
        let bound = first.local_addr()?;
        // After the first one is bound: with the option it would join another process's group,
        // and each would hear half of what is for both.
        first.set_reuse_port(true)?;
        for _ in 1..count {
            let socket = open(addr)?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound)?;
            sockets.push(socket.into());
        }
    }
    sockets.insert(0, first.into());
    Ok(sockets)
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if let IpAddr::V6(ip) = addr.ip() {
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    // The system clamps these to its limits; smaller buffers cost speed, not correctness.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn several_sockets_share_a_port_that_nobody_else_gets() {
        let sockets = udp_sockets(loopback(), 3).unwrap();
        let addr = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|one| one.local_addr().unwrap() == addr));
        for count in [1, 3] {
            let taken = udp_sockets(addr, count).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        }
        drop(sockets);
        udp_sockets(addr, 3).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn each_of_several_sockets_hears_some_peers() {
        let sockets = udp_sockets(loopback(), 3).unwrap();
        let addr = sockets[0].local_addr().unwrap();
        for _ in 0..100 {
            let peer = UdpSocket::bind(loopback()).unwrap();
            peer.send_to(b"hello", addr).unwrap();
        }
        for socket in &sockets {
            let mut heard = [0; 8];
            assert_eq!(socket.recv(&mut heard).unwrap(), 5);
        }
    }
}
