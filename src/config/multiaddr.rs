//! The part of libp2p's multiaddrs that can be read as a UDP address:
//! `/ip4|ip6|dns|dns4|dns6/HOST/udp/PORT[/quic-v1][/p2p/ID]`. Everything else is refused by name.

use warren::mesh::addr::HostPort;

/// Reads one multiaddr. A peer id at the end is dropped: it names a libp2p key, not a node here.
///
/// # Errors
/// Says which part has no meaning here.
pub(crate) fn to_host_port(text: &str) -> Result<HostPort, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ["", family, host, transport, port, rest @ ..] = parts.as_slice() else {
        return Err(format!(
            "{text:?} is not a multiaddr such as /ip4/192.0.2.1/udp/7717"
        ));
    };
    if !matches!(*family, "ip4" | "ip6" | "dns" | "dns4" | "dns6") {
        return Err(format!("{text:?}: /{family} has no meaning here"));
    }
    if *transport != "udp" {
        return Err(format!(
            "{text:?}: warren speaks QUIC over UDP, not {transport}"
        ));
    }
    if !matches!(rest, [] | ["quic-v1"] | ["quic-v1", "p2p", _] | ["p2p", _]) {
        return Err(format!("{text:?}: /{} has no meaning here", rest.join("/")));
    }
    let written = match *family {
        "ip6" => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    written.parse().map_err(|e| format!("{text:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_addresses_are_read_and_the_rest_is_named() {
        let read = |text| to_host_port(text).map(|at| at.to_string());
        assert_eq!(read("/ip4/0.0.0.0/udp/7717"), Ok("0.0.0.0:7717".into()));
        assert_eq!(read("/ip6/::1/udp/1/quic-v1"), Ok("[::1]:1".into()));
        assert_eq!(
            read("/dns/a.example/udp/1/quic-v1/p2p/12D3"),
            Ok("a.example:1".into())
        );
        assert!(read("/ip4/1.2.3.4/tcp/80").unwrap_err().contains("tcp"));
        assert!(
            read("/ip4/1.2.3.4/udp/80/quic-v1/webtransport")
                .unwrap_err()
                .contains("webtransport")
        );
        assert!(read("1.2.3.4:80").unwrap_err().contains("multiaddr"));
        assert!(read("/unix/x/udp/1").unwrap_err().contains("unix"));
    }
}
