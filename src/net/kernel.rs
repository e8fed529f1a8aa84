//! Lets the kernel give each datagram to the socket of its shard: a packet filter does the sum of
//! [`Naming`] on the connection id, whatever addresses the datagram goes between. Only on Linux,
//! and it may be refused: then `steer` does the same later, at the price of another thread.

use std::io;
use std::net::UdpSocket;

use nix::libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JA, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MISC,
    BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR, sock_filter, sock_fprog,
};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;

use crate::mesh::filter::OWN_CID_BYTES;
use crate::mesh::shard::Naming;

/// Names no socket: the kernel chooses one by the addresses.
const BY_ADDRESS: u32 = u32::MAX;

/// Steers what comes to a group of sockets, which are in the order of their shards. `one` is any
/// of them.
///
/// # Errors
/// The kernel does not take the filter; it goes by the addresses.
pub(super) fn steer(one: &UdpSocket, naming: &Naming) -> io::Result<()> {
    let mut program = program(naming);
    let program = sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(one, AttachReusePortCbpf, &program)?)
}

/// The filter sees what the sockets would, from the first byte of a packet of QUIC on (RFC 9000
/// §17). What is too short for it goes to the first socket, which drops it.
fn program(naming: &Naming) -> [sock_filter; 17] {
    let [start, first, second] = naming.keys();
    let load = BPF_LD | BPF_ABS;
    let compute = BPF_ALU | BPF_K;
    let own = u32::try_from(OWN_CID_BYTES).unwrap_or_default();
    [
        op(load | BPF_B, 0),
        // A long header has the length of the id and its version before it.
        jump(BPF_JSET, 0x80, 2, 0),
        op(load | BPF_W, 1),
        op(BPF_JMP | BPF_JA, 3),
        op(load | BPF_B, 5),
        jump(BPF_JEQ, own, 0, 10),
        op(load | BPF_W, 6),
        // The first 4 bytes of the id are loaded: now as in `Naming::shard`.
        op(compute | BPF_XOR, start),
        op(compute | BPF_MUL, first),
        op(BPF_MISC | BPF_TAX, 0),
        op(compute | BPF_RSH, Naming::FOLD),
        op(BPF_ALU | BPF_XOR | BPF_X, 0),
        op(compute | BPF_MUL, second),
        op(compute | BPF_RSH, Naming::FOLD),
        op(compute | BPF_MOD, naming.shards()),
        op(BPF_RET | BPF_A, 0),
        op(BPF_RET | BPF_K, BY_ADDRESS),
    ]
}

fn op(code: u32, k: u32) -> sock_filter {
    jump_op(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    jump_op(BPF_JMP | BPF_K | code, k, jt, jf)
}

fn jump_op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Codes are sums of constants below 256.
    let code = u16::try_from(code).unwrap_or_default();
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bind::udp_sockets;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    const SHARDS: u32 = 3;
    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Sockets of one address, which the kernel steers by `naming`.
    fn steered(naming: &Naming) -> (Vec<UdpSocket>, SocketAddr) {
        let sockets = udp_sockets(LOOPBACK, SHARDS).unwrap();
        steer(&sockets[0], naming).unwrap();
        let addr = sockets[0].local_addr().unwrap();
        (sockets, addr)
    }

    /// The kernel and [`Naming`] must agree on every id, in packets of both forms, whoever sends.
    #[test]
    fn the_kernel_gives_every_datagram_to_the_socket_that_its_id_names() {
        let naming = Naming::new([0x0123_4567, 0x9e37_79b1, 0x85eb_ca6b], SHARDS);
        let (sockets, addr) = steered(&naming);
        let mut got = [0_u32; SHARDS as usize];
        for n in 0..200_u32 {
            let peer = UdpSocket::bind(LOOPBACK).unwrap();
            let random = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
            let shard = naming.shard(random) as usize;
            let short = [&[0x40], &random[..], &[0; 30]].concat();
            let long = [&[0xe0, 0, 0, 0, 1, 8], &random[..], &[0; 30]].concat();
            for packet in [short, long] {
                peer.send_to(&packet, addr).unwrap();
                let mut buffer = [0; 64];
                let len = sockets[shard].recv(&mut buffer).unwrap();
                assert_eq!(buffer[..len], packet[..], "{random:?}");
                got[shard] += 1;
            }
        }
        assert!(got.iter().all(|count| *count > 50), "{got:?}");
    }

    #[test]
    fn what_names_no_shard_is_spread_by_its_addresses() {
        let (sockets, addr) = steered(&Naming::new([1, 2, 3], SHARDS));
        let knock = [&[0xc0, 0, 0, 0, 1, 20], &[7; 1200][..]].concat();
        for _ in 0..100 {
            UdpSocket::bind(LOOPBACK)
                .unwrap()
                .send_to(&knock, addr)
                .unwrap();
        }
        for socket in &sockets {
            assert_eq!(socket.recv(&mut [0; 2048]).unwrap(), knock.len());
        }
    }
}
