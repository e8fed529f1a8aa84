//! The native layout (`schema/wire.md`, "Token"): `warren1`, then base32 of body and checksum.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest;
use data_encoding::{BASE32_NOPAD, DecodeKind};
use zeroize::Zeroizing;

use super::{MAX_BOOTSTRAP, NATIVE_PREFIX, NodeFault, Token, TokenError};
use crate::mesh::addr::{HostPort, PeerAddr};
use crate::mesh::entry::NetworkId;
use crate::mesh::id::NodeId;
use crate::mesh::keys::{Interval, Secret};

const VERSION: u8 = 1;
const HAS_ROOT: u8 = 1;
const HAS_NETWORK_ID: u8 = 2;
const KIND_DNS: u8 = 1;
const KIND_V4: u8 = 4;
const KIND_V6: u8 = 6;
const CHECKSUM_BYTES: usize = 4;
const CHECKSUM_LABEL: &[u8] = b"warren/1 token\0";
/// Version, flags, secret, two intervals, generation, number of nodes.
const SHORTEST_BODY: usize = 1 + 1 + 32 + 3 * 4 + 1;
/// No more is ever written: root, network id, and eight of the longest names.
const LONGEST_BODY: usize = SHORTEST_BODY + 32 + 16 + MAX_BOOTSTRAP * (32 + 1 + 1 + 255 + 2);

pub(super) fn encode(token: &Token) -> Zeroizing<String> {
    // The whole capacity at once: growing would leave copies of the secret behind.
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_BODY + CHECKSUM_BYTES));
    let root = token.root.map_or(0, |_| HAS_ROOT);
    let network_id = token.network_id.map_or(0, |_| HAS_NETWORK_ID);
    body.extend_from_slice(&[VERSION, root | network_id]);
    body.extend_from_slice(token.secret.expose());
    body.extend_from_slice(&token.crypto.seconds().to_be_bytes());
    body.extend_from_slice(&token.discovery.seconds().to_be_bytes());
    body.extend_from_slice(&token.generation.to_be_bytes());
    if let Some(root) = &token.root {
        body.extend_from_slice(root.as_bytes());
    }
    if let Some(id) = &token.network_id {
        body.extend_from_slice(&id.0);
    }
    let nodes = token.bootstrap.iter().filter_map(|n| Some((n.id?, &n.at)));
    body.push(u8::try_from(nodes.clone().count()).unwrap_or(u8::MAX));
    for (id, at) in nodes {
        body.extend_from_slice(id.as_bytes());
        encode_host(&mut body, at);
        body.extend_from_slice(&at.port().to_be_bytes());
    }
    let checksum = checksum(&body);
    body.extend_from_slice(&checksum);

    let base32 = Zeroizing::new(BASE32_NOPAD.encode(&body));
    let mut text = Zeroizing::new(String::with_capacity(NATIVE_PREFIX.len() + base32.len()));
    text.push_str(NATIVE_PREFIX);
    text.push_str(&base32);
    text.make_ascii_lowercase();
    text
}

fn encode_host(body: &mut Vec<u8>, at: &HostPort) {
    match at.socket_addr().map(|addr| addr.ip()) {
        Some(IpAddr::V4(ip)) => {
            body.push(KIND_V4);
            body.extend_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            body.push(KIND_V6);
            body.extend_from_slice(&ip.octets());
        }
        None => {
            body.push(KIND_DNS);
            // `HostPort` admits no name longer than 253 bytes.
            body.push(u8::try_from(at.host().len()).unwrap_or(u8::MAX));
            body.extend_from_slice(at.host().as_bytes());
        }
    }
}

/// Reads a text that starts with the prefix, in whatever case.
pub(super) fn decode(text: &str) -> Result<Token, TokenError> {
    let base32 = Zeroizing::new(text[NATIVE_PREFIX.len()..].to_ascii_uppercase());
    let bytes = Zeroizing::new(decode_base32(text, &base32)?);
    let body_len = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .filter(|len| *len >= SHORTEST_BODY)
        .ok_or(TokenError::Truncated { len: text.len() })?;
    let (body, found) = bytes.split_at(body_len);
    if checksum(body) != found {
        return Err(TokenError::Checksum);
    }
    decode_body(body)
}

fn decode_base32(text: &str, base32: &str) -> Result<Vec<u8>, TokenError> {
    let upper = BASE32_NOPAD.specification().symbols;
    if let Some((at, _)) = base32.char_indices().find(|(_, c)| !upper.contains(*c)) {
        let at = NATIVE_PREFIX.len() + at;
        let found = text[at..]
            .chars()
            .next()
            .unwrap_or(char::REPLACEMENT_CHARACTER);
        return Err(TokenError::Character { found, at: at + 1 });
    }
    BASE32_NOPAD
        .decode(base32.as_bytes())
        .map_err(|error| match error.kind {
            DecodeKind::Length => TokenError::Truncated { len: text.len() },
            // Bits beyond the last byte must be zero, else a changed character would go unseen.
            _ => TokenError::Checksum,
        })
}

fn decode_body(body: &[u8]) -> Result<Token, TokenError> {
    let mut rest = Reader(body);
    let version = rest.u8("version")?;
    if version != VERSION {
        return Err(TokenError::Version { found: version });
    }
    let flags = rest.u8("flags")?;
    if flags & !(HAS_ROOT | HAS_NETWORK_ID) != 0 {
        return Err(TokenError::Flags { found: flags });
    }
    let secret = Secret::new(rest.take("secret")?);
    let crypto = Interval::new(rest.u32("crypto interval")?)?;
    let discovery = Interval::new(rest.u32("discovery interval")?)?;
    let generation = rest.u32("generation")?;
    let root = (flags & HAS_ROOT != 0)
        .then(|| NodeId::from_bytes(rest.take("root key")?).map_err(TokenError::Root))
        .transpose()?;
    let network_id = (flags & HAS_NETWORK_ID != 0)
        .then(|| rest.take("network id").map(NetworkId))
        .transpose()?;
    if network_id.is_some() != (generation > 0) {
        return Err(TokenError::Generation { generation });
    }
    let bootstrap = decode_bootstrap(&mut rest)?;
    if !rest.0.is_empty() {
        return Err(TokenError::Trailing {
            extra: rest.0.len(),
        });
    }
    Ok(Token {
        secret,
        crypto,
        discovery,
        generation,
        root,
        network_id,
        bootstrap,
        localai_text: None,
    })
}

fn decode_bootstrap(rest: &mut Reader<'_>) -> Result<Vec<PeerAddr>, TokenError> {
    let count = usize::from(rest.u8("number of nodes")?);
    if count > MAX_BOOTSTRAP {
        return Err(TokenError::TooManyNodes { count });
    }
    let mut nodes = Vec::with_capacity(count);
    for index in 1..=count {
        let fault = |what| TokenError::Node { index, what };
        let id = NodeId::from_bytes(rest.take("node id")?).map_err(|e| fault(e.into()))?;
        let at = decode_host(rest, index)?;
        if at.port() == 0 {
            return Err(fault(NodeFault::Port));
        }
        nodes.push(PeerAddr { id: Some(id), at });
    }
    Ok(nodes)
}

/// Reads kind, host and port. Each place has one encoding: anything else is refused.
fn decode_host(rest: &mut Reader<'_>, index: usize) -> Result<HostPort, TokenError> {
    const FIELD: &str = "node address";
    let fault = |what| TokenError::Node { index, what };
    let ip: IpAddr = match rest.u8(FIELD)? {
        KIND_V4 => rest.take::<4>(FIELD)?.into(),
        KIND_V6 => rest.take::<16>(FIELD)?.into(),
        KIND_DNS => {
            let len = usize::from(rest.u8(FIELD)?);
            let name = std::str::from_utf8(rest.slice(FIELD, len)?);
            let name = name.map_err(|_| fault(NodeFault::Host))?;
            let port = rest.u16(FIELD)?;
            return format!("{name}:{port}")
                .parse()
                .ok()
                .filter(|at: &HostPort| at.host() == name && at.socket_addr().is_none())
                .ok_or(fault(NodeFault::Host));
        }
        other => return Err(fault(NodeFault::Kind(other))),
    };
    if ip.to_canonical() != ip {
        return Err(fault(NodeFault::Host));
    }
    Ok(SocketAddr::new(ip, rest.u16(FIELD)?).into())
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(CHECKSUM_LABEL);
    hash.update(body);
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&hash.finish().as_ref()[..CHECKSUM_BYTES]);
    out
}

/// What is left of a body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn slice(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], TokenError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(TokenError::Ends { field })?;
        self.0 = rest;
        Ok(taken)
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TokenError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(field, N)?);
        Ok(out)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, TokenError> {
        Ok(u8::from_be_bytes(self.take(field)?))
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, TokenError> {
        Ok(u16::from_be_bytes(self.take(field)?))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, TokenError> {
        Ok(u32::from_be_bytes(self.take(field)?))
    }
}
