//! What a start that failed tells people.

use super::NodeError;
use crate::net::NetError;
use crate::store::StoreError;

pub(super) fn store_error(error: StoreError) -> NodeError {
    let code = match &error {
        StoreError::Held { .. } => "in_use",
        _ => "store",
    };
    NodeError::new(code, error.to_string())
}

pub(super) fn net_error(error: NetError) -> NodeError {
    match &error {
        NetError::Bind { addr, source } => {
            let hint = match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program uses this UDP port; stop it, or choose another with --listen"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --listen"
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    "this machine has no such address; `ip address` lists them"
                }
                _ => "choose another address with --listen",
            };
            NodeError::new("in_use", format!("cannot bind UDP {addr}: {source}")).with_hint(hint)
        }
        NetError::Shards { .. } => NodeError::new("refused", format!("cannot start {error}"))
            .with_hint("raise the limit of threads or open files, or ask for fewer with --shards"),
        NetError::Tls(_) => NodeError::new("refused", error.to_string()),
    }
}
