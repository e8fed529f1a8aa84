//! The token: one line that makes a machine a member of a network.
//!
//! Two kinds are read: warren's own (`warren1…`, layout in `schema/wire.md`) and those of
//! LocalAI/edgevpn. This module refuses anything it does not understand to the last byte, and
//! everything longer than [`MAX_TOKEN_BYTES`] before it looks at it. It reads no file, asks no
//! clock, and never prints what it holds: whoever wants the text asks for [`Token::to_text`].

use std::fmt;
use std::str::FromStr;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::addr::{HostPort, PeerAddr};
use super::entry::NetworkId;
use super::id::{IdError, NodeId};
use super::keys::{Interval, IntervalError, NetworkKeys, Secret, same_bytes};
use crate::formats::localai::{LocalAiError, LocalAiToken};

mod native;
mod stretch;

/// Longest text that is read as a token.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Most nodes a token names.
pub const MAX_BOOTSTRAP: usize = 8;
/// What every native token starts with.
pub const NATIVE_PREFIX: &str = "warren1";

/// Why a token was refused. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_BYTES`]; `len` is what was given.
    #[error("token is {len} bytes, at most {MAX_TOKEN_BYTES} are read")]
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// Nothing but white space.
    #[error("token is empty")]
    Empty,
    /// Neither `warren1` in front nor base64.
    #[error(
        "this is no token: warren's start with {NATIVE_PREFIX}, LocalAI's are one line of base64"
    )]
    Unknown,
    /// A character that base32 does not have, at a position counted from 1.
    #[error("character {at} of the token, {found:?}, is not one of a-z and 2-7: copy it again")]
    Character {
        /// The character.
        found: char,
        /// Its position, from 1.
        at: usize,
    },
    /// No whole token has this many characters.
    #[error("no token has {len} characters: a part is missing or added, copy it again")]
    Truncated {
        /// Characters given.
        len: usize,
    },
    /// The checksum does not fit the rest.
    #[error("token is damaged: a character is missing or changed: copy it again")]
    Checksum,
    /// A layout of another version.
    #[error("token has format version {found}, this program reads version 1: update it")]
    Version {
        /// Version given.
        found: u8,
    },
    /// Flags that this version does not define.
    #[error("token asks for features this program does not have (flags {found:#04x}): update it")]
    Flags {
        /// All flags given.
        found: u8,
    },
    /// A rotation interval out of range.
    #[error("token: {0}")]
    Interval(#[from] IntervalError),
    /// The first generation must not carry a network id, later ones must.
    #[error("token of generation {generation} contradicts itself about its network id")]
    Generation {
        /// Generation given.
        generation: u32,
    },
    /// The root key is not a key.
    #[error("token's root key: {0}")]
    Root(IdError),
    /// Too many nodes to dial first.
    #[error("a token names at most {MAX_BOOTSTRAP} nodes, {count} were given")]
    TooManyNodes {
        /// Nodes given.
        count: usize,
    },
    /// A node without an id: dialling it would prove nothing about who answers.
    #[error("{at} has no id: write ID@{at}")]
    NoId {
        /// The address given.
        at: HostPort,
    },
    /// Something about a node to dial first is not valid; `index` counts from 1.
    #[error("node {index} in the token: {what}")]
    Node {
        /// Which one, from 1.
        index: usize,
        /// What is wrong with it.
        what: NodeFault,
    },
    /// The body ends before its fields do.
    #[error("token ends inside its {field}")]
    Ends {
        /// The field that is cut.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("token has {extra} bytes after its last field")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// LocalAI's format has no place for addresses.
    #[error("a LocalAI token cannot carry addresses: use --connect ID@HOST:PORT")]
    NoPlaceForNodes,
    /// Looks like a LocalAI token, and breaks one of its rules.
    #[error("LocalAI token: {0}")]
    LocalAi(#[from] LocalAiError),
    /// The memory that Argon2id needs was not there.
    #[error("the secret of a LocalAI token needs 64 MiB of memory for a moment: {0}")]
    Stretch(String),
}

/// What is wrong with a node that a token names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeFault {
    /// Its id is not a key.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A kind of address that this version does not define.
    #[error("address kind {0} is unknown: update this program")]
    Kind(u8),
    /// A host name that is none, or an address not in its one canonical form.
    #[error("its host is not a host name or address in canonical form")]
    Host,
    /// Nothing can be dialled at port 0.
    #[error("port 0 cannot be dialled")]
    Port,
}

/// Whose format a token's text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// `warren1…`.
    Native,
    /// Base64 of YAML, as LocalAI and edgevpn make it.
    LocalAi,
}

impl TokenKind {
    /// `native` or `localai`, as `token inspect --json` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::LocalAi => "localai",
        }
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A network's token. Its `Debug` shows kind and public fingerprint only.
///
/// ```
/// use warren::mesh::keys::NetworkKeys;
/// use warren::mesh::token::Token;
///
/// let founded = Token::generate(&mut rand::rng(), 9_000, 360)?;
/// let node = warren::mesh::id::Identity::from_seed(&[1; 32]).id();
/// let peer = format!("{node}@192.0.2.7:7717").parse()?;
/// let line = founded.clone().with_bootstrap(vec![peer])?.to_text();
///
/// let joined: Token = line.parse()?;
/// assert!(joined.same_network(&founded));
/// assert_eq!(joined.bootstrap().len(), 1);
/// assert_eq!(NetworkKeys::new(&joined).fingerprint().len(), 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Token {
    secret: Secret,
    crypto: Interval,
    discovery: Interval,
    /// 0 for the secret the network was founded with.
    generation: u32,
    root: Option<NodeId>,
    /// Present exactly if `generation` is above 0.
    network_id: Option<NetworkId>,
    bootstrap: Vec<PeerAddr>,
    /// The original text of a LocalAI token.
    localai_text: Option<Zeroizing<String>>,
}

impl Token {
    /// A native token of a first generation, without root key and addresses.
    ///
    /// # Errors
    /// Refuses intervals outside 1 to [`Interval::MAX_S`] seconds.
    pub fn new(secret: Secret, crypto_s: u32, discovery_s: u32) -> Result<Self, TokenError> {
        Ok(Self {
            secret,
            crypto: Interval::new(crypto_s)?,
            discovery: Interval::new(discovery_s)?,
            generation: 0,
            root: None,
            network_id: None,
            bootstrap: Vec::new(),
            localai_text: None,
        })
    }

    /// Founds a network: a native token with a fresh secret from `rng`, which must be the
    /// operating system's outside tests.
    ///
    /// # Errors
    /// As [`Token::new`].
    pub fn generate<R: CryptoRng + ?Sized>(
        rng: &mut R,
        crypto_s: u32,
        discovery_s: u32,
    ) -> Result<Self, TokenError> {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self::new(Secret::new(*bytes), crypto_s, discovery_s)
    }

    /// Reads a token of either kind, white space around it ignored.
    ///
    /// A LocalAI token costs 64 MiB and about 0.1 s here (Argon2id): do it off the event loop, or
    /// read it with [`TokenText::parse`] and keep the secret.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        match TokenText::parse(text)? {
            TokenText::Native(token) => Ok(token),
            TokenText::LocalAi(localai) => Self::stretch(localai),
        }
    }

    /// The token of a LocalAI token that was checked before; costs what [`Token::parse`] says.
    ///
    /// # Errors
    /// [`TokenError::Stretch`].
    pub fn stretch(localai: LocalAiToken) -> Result<Self, TokenError> {
        let secret = stretch::secret_of(&localai)?;
        Ok(Self::from_localai(localai, secret))
    }

    /// The token of a LocalAI token whose secret was derived before and kept
    /// ([`Token::secret`]). The secret is believed.
    pub fn from_localai(localai: LocalAiToken, secret: Secret) -> Self {
        Self {
            secret,
            crypto: localai.crypto_interval(),
            discovery: localai.discovery_interval(),
            generation: 0,
            root: None,
            network_id: None,
            bootstrap: Vec::new(),
            localai_text: Some(localai.into_text()),
        }
    }

    /// The same network's token in the native format, which can carry addresses. A native token
    /// keeps its own.
    #[must_use]
    pub fn to_native(&self) -> Self {
        Self {
            localai_text: None,
            ..self.clone()
        }
    }

    /// The native token of a network whose roles `root` grants. A first generation becomes another
    /// network by that, because the network id covers the root key.
    #[must_use]
    pub fn with_root(&self, root: NodeId) -> Self {
        Self {
            root: Some(root),
            ..self.to_native()
        }
    }

    /// The native token of the same network's next generation: `secret` replaces the old one,
    /// which then evicts whoever does not learn it.
    #[must_use]
    pub fn next_generation(&self, secret: Secret) -> Self {
        Self {
            secret,
            generation: self.generation.saturating_add(1),
            network_id: Some(NetworkKeys::new(self).network_id()),
            ..self.to_native()
        }
    }

    /// The token with these nodes to dial first, instead of those it had.
    ///
    /// # Errors
    /// Refuses more than [`MAX_BOOTSTRAP`], nodes without id, port 0, and LocalAI tokens.
    pub fn with_bootstrap(mut self, nodes: Vec<PeerAddr>) -> Result<Self, TokenError> {
        if self.kind() == TokenKind::LocalAi {
            return Err(TokenError::NoPlaceForNodes);
        }
        if nodes.len() > MAX_BOOTSTRAP {
            return Err(TokenError::TooManyNodes { count: nodes.len() });
        }
        self.bootstrap.clear();
        for (i, mut node) in nodes.into_iter().enumerate() {
            if node.id.is_none() {
                return Err(TokenError::NoId { at: node.at });
            }
            if node.at.port() == 0 {
                let what = NodeFault::Port;
                return Err(TokenError::Node { index: i + 1, what });
            }
            if let Some(addr) = node.at.socket_addr() {
                // One text per address, so that a token reads back as it was made.
                node.at = addr.into();
            }
            self.bootstrap.push(node);
        }
        Ok(self)
    }

    /// The token's text, which is the network's secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        match &self.localai_text {
            Some(text) => text.clone(),
            None => native::encode(self),
        }
    }

    /// Bytes of the token's text, about.
    pub fn text_bytes(&self) -> usize {
        match &self.localai_text {
            Some(text) => text.len(),
            None => self.to_text().len(),
        }
    }

    /// Whose format [`Token::to_text`] has.
    pub fn kind(&self) -> TokenKind {
        match self.localai_text {
            Some(_) => TokenKind::LocalAi,
            None => TokenKind::Native,
        }
    }

    /// The secret of this generation, for the key schedule and for keeping what Argon2id made.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// How often the keys of dials change.
    pub fn crypto_interval(&self) -> Interval {
        self.crypto
    }

    /// How often the keys of discovery change.
    pub fn discovery_interval(&self) -> Interval {
        self.discovery
    }

    /// How many times the secret was replaced.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The key that grants roles, if the network has any.
    pub fn root(&self) -> Option<NodeId> {
        self.root
    }

    /// The network id that a token of a later generation carries.
    pub fn carried_network_id(&self) -> Option<NetworkId> {
        self.network_id
    }

    /// Nodes to dial first, at most [`MAX_BOOTSTRAP`]; every one has an id.
    pub fn bootstrap(&self) -> &[PeerAddr] {
        &self.bootstrap
    }

    /// Whether both are of one network, whatever their kind, generation and addresses.
    pub fn same_network(&self, other: &Token) -> bool {
        NetworkKeys::new(self).network_id() == NetworkKeys::new(other).network_id()
    }
}

/// Equal to the last byte of what is secret, in time that does not tell where they differ.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
            && same_bytes(self.to_text().as_bytes(), other.to_text().as_bytes())
    }
}

impl Eq for Token {}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::parse(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = NetworkKeys::new(self).fingerprint();
        write!(f, "Token({} {network})", self.kind())
    }
}

/// A token that is checked, before the cost of a LocalAI token's secret is paid.
#[derive(Clone, Debug)]
pub enum TokenText {
    /// A native token, complete.
    Native(Token),
    /// A LocalAI token, valid; its secret is not derived yet.
    LocalAi(LocalAiToken),
}

impl TokenText {
    /// Checks everything about a token of either kind, cheaply.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong { len: text.len() });
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let native = text
            .get(..NATIVE_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(NATIVE_PREFIX));
        if native {
            return native::decode(text).map(Self::Native);
        }
        match LocalAiToken::parse(text) {
            Err(LocalAiError::Base64) => Err(TokenError::Unknown),
            other => Ok(Self::LocalAi(other?)),
        }
    }
}

#[cfg(test)]
mod tests;
