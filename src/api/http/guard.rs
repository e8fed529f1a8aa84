//! Which requests a server on loopback answers: those that name it, from no other page.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, Uri, header};

use crate::api::refusal::Refusal;
use crate::api::shapes::NodeError;

/// The address at which a connection arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalAddr(pub(super) IpAddr);

/// Lets a request through, or answers it with 403.
pub(super) async fn check(
    State(hosts): State<Arc<Vec<String>>>,
    Extension(LocalAddr(local)): Extension<LocalAddr>,
    request: Request,
    next: Next,
) -> Response {
    let ours = Ours {
        local: local.to_canonical(),
        hosts: &hosts,
    };
    match ours.refuse(request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    }
}

struct Ours<'a> {
    local: IpAddr,
    hosts: &'a [String],
}

impl Ours<'_> {
    fn refuse(&self, uri: &Uri, headers: &HeaderMap) -> Option<Refusal> {
        if !self.host_is_ours(uri, headers) {
            let error = NodeError::new("denied", "the request's Host is not this server's");
            let hint = "ask for localhost or an address of this machine";
            return Some(error.with_hint(hint).into());
        }
        if !self.origin_is_ours(headers) {
            let error = NodeError::new("denied", "the request's Origin is another page");
            return Some(error.into());
        }
        None
    }

    /// A target in absolute form must not disagree with `Host` (RFC 9112 §3.2.2).
    fn host_is_ours(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let named = host.to_str().is_ok_and(|host| self.names_us(host));
        named && uri.authority().is_none_or(|at| self.names_us(at.as_str()))
    }

    /// Without an `Origin` no page sent it, or the page is ours. `null` is some other page.
    fn origin_is_ours(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::ORIGIN).iter().all(|origin| {
            let text = origin.to_str().unwrap_or_default();
            let at = text
                .strip_prefix("http://")
                .or_else(|| text.strip_prefix("https://"));
            at.is_some_and(|at| self.names_us(at))
        })
    }

    /// Whether `HOST` or `HOST:PORT` is a name of ours. The port does not matter: it differs where
    /// a port is forwarded, and no attack needs another one.
    fn names_us(&self, text: &str) -> bool {
        let Ok(authority) = text.parse::<Authority>() else {
            return false;
        };
        if text.contains('@') {
            return false;
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
            let ip = ip.to_canonical();
            return ip.is_loopback() || ip == self.local;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        host.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|name| host.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(hosts: &[String]) -> Ours<'_> {
        let local = "192.0.2.7".parse().unwrap();
        Ours { local, hosts }
    }

    #[test]
    fn only_names_of_this_machine_are_ours() {
        let hosts = ["gpu.lab".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "127.0.0.1:7718",
            "127.9.9.9",
            "[::1]:1",
            "192.0.2.7:99",
            "[::ffff:192.0.2.7]",
            "gpu.lab:1",
            "GPU.lab",
        ] {
            assert!(ours(&hosts).names_us(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.8",
            "evil@localhost",
            "localhost@evil",
            "[::2]",
            "0.0.0.0",
            "local host",
            "a/b",
            ":80",
        ] {
            assert!(!ours(&hosts).names_us(host), "{host}");
        }
    }

    #[test]
    fn other_pages_and_other_hosts_are_refused() {
        let refused = |uri: &str, pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            ours(&[]).refuse(&uri.parse().unwrap(), &headers).is_some()
        };
        let host = ("host", "localhost");
        assert!(!refused("/", &[host]));
        assert!(!refused("/", &[host, ("origin", "http://127.0.0.1:7718")]));
        assert!(!refused("http://localhost/", &[host]));

        assert!(refused("/", &[]));
        assert!(refused("/", &[("host", "evil.example")]));
        assert!(refused("/", &[host, host]));
        assert!(refused("http://evil.example/", &[host]));
        for origin in [
            "null",
            "http://evil.example",
            "file://",
            "http://localhost.evil",
        ] {
            assert!(refused("/", &[host, ("origin", origin)]), "{origin}");
        }
    }
}
