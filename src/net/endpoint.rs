//! One QUIC endpoint per listen address; client and server share its socket (security.md §4).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    NoneTokenLog, NoneTokenStore, Runtime, ServerConfig, TransportConfig, ValidationTokenConfig,
    VarInt,
};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;

use crate::mesh::id::Identity;
use crate::mesh::knock::Knock;
use crate::mesh::pace::MAX_QUEUE;
use crate::mesh::window;

use super::bind::{udp_socket, udp_sockets};
use super::cid::OwnCids;
use super::congestion::Tolerant;
use super::crypto::{KeyedClient, KeyedServer};
use super::gate::SharedGate;
#[cfg(target_os = "linux")]
use super::kernel;
use super::mtu;
use super::runtime::QuietRuntime;
use super::shards::Shards;
use super::socket::FilteredSocket;
use super::sparing::SparingSocket;
use super::steer::{Seat, Steered};
use super::verify::{Accept, RawKeyVerifier, certified_key, provider};

/// ALPN of the mesh.
pub const ALPN: &[u8] = b"warren/1";

/// Must be at least the MTU; receive buffers grow with it.
pub(super) const MAX_UDP_PAYLOAD: u16 = mtu::MAX + 150;
/// Packets are lost when others arrive that were sent later by this part of a round trip, and never
/// by how many those are: on a fast path few milliseconds are hundreds (as RFC 8985 has it).
const LATE: f32 = 1.25;
/// Datagrams of a connection that wait, each way. How much of it is used to send follows the path.
pub(super) const DATAGRAM_BUFFER: usize = MAX_QUEUE + (16 << 10);
/// All a peer may send before its Hello was checked (D27). Datagrams are discarded until then.
const WINDOW_BEFORE_HELLO: u32 = 64 << 10;
/// Without any packet for this long a connection is over, whatever the probes say.
const IDLE: Duration = Duration::from_secs(30);
/// First guess of a round trip: a lost first packet is repeated after three of these.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// What every connection of this node is made from. Clones share it.
#[derive(Clone)]
pub struct Factory {
    gate: SharedGate,
    server: Arc<QuicServerConfig>,
    pinned: Arc<QuicClientConfig>,
    learning: Arc<QuicClientConfig>,
}

impl Factory {
    /// Prepares TLS for `identity`.
    ///
    /// # Errors
    /// rustls or quinn refuse the configuration, which would be a defect of this program.
    pub fn new(identity: &Identity, gate: SharedGate) -> Result<Self, rustls::Error> {
        let provider = provider();
        let key = certified_key(&provider, identity)?;
        let me = identity.id();
        let client = |accept| {
            let verifier = Arc::new(RawKeyVerifier::new(&provider, me, accept));
            client_tls(&provider, verifier, Arc::clone(&key))
        };
        let verifier = Arc::new(RawKeyVerifier::new(&provider, me, Accept::Pinned));
        Ok(Self {
            gate,
            server: server_tls(&provider, verifier, Arc::clone(&key))?,
            pinned: client(Accept::Pinned)?,
            learning: client(Accept::LearnOnce)?,
        })
    }

    /// Binds one endpoint. `dropped` counts datagrams the filter refused.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(&self, addr: SocketAddr, dropped: Arc<AtomicU64>) -> io::Result<Endpoint> {
        let runtime = QuietRuntime::here();
        let socket = self.filtered(udp_socket(addr)?, &runtime, dropped)?;
        self.endpoint(Arc::new(socket), runtime, self.gate.cids())
    }

    /// Binds an endpoint on each shard to one address. What comes to one of them for another is
    /// handed over, and counted in `steered`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(super) fn bind_all(
        &self,
        addr: SocketAddr,
        shards: &Shards,
        dropped: &Arc<AtomicU64>,
        steered: &Arc<Steered>,
    ) -> io::Result<Vec<Endpoint>> {
        if shards.count() == 1 {
            return Ok(vec![self.bind(addr, Arc::clone(dropped))?]);
        }
        let sockets = udp_sockets(addr, shards.count())?;
        #[cfg(target_os = "linux")]
        if let Some(Err(error)) = sockets
            .first()
            .map(|one| kernel::steer(one, &self.gate.cids().naming()))
        {
            tracing::debug!(%addr, %error, "the kernel does not steer; datagrams are handed over");
        }
        let seats = Seat::all(shards.count(), steered);
        let mut endpoints = Vec::new();
        for ((socket, seat), (shard, runtime)) in sockets.into_iter().zip(seats).zip(shards.all()) {
            let runtime = QuietRuntime::on(runtime);
            let socket = self.filtered(socket, &runtime, Arc::clone(dropped))?;
            let cids = self.gate.cids().of(shard);
            endpoints.push(self.endpoint(Arc::new(socket.seated(seat)), runtime, cids)?);
        }
        Ok(endpoints)
    }

    /// Binds one endpoint that only dials, and spares who does not answer (module `sparing`).
    ///
    /// # Errors
    /// The system has no socket to give.
    pub fn bind_sparing(&self) -> io::Result<Endpoint> {
        let any = |ip: IpAddr| udp_socket(SocketAddr::new(ip, 0));
        // Where there is no IPv6 its wildcard cannot be bound.
        let both = any(Ipv6Addr::UNSPECIFIED.into());
        let socket = both.or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))?;
        let runtime = QuietRuntime::here();
        let socket = self.filtered(socket, &runtime, Arc::default())?;
        let socket = Arc::new(SparingSocket::new(socket));
        self.endpoint(socket, runtime, self.gate.cids())
    }

    fn filtered(
        &self,
        socket: UdpSocket,
        runtime: &QuietRuntime,
        dropped: Arc<AtomicU64>,
    ) -> io::Result<FilteredSocket> {
        let inner = runtime.wrap_udp_socket(socket)?;
        FilteredSocket::new(inner, self.gate.clone(), dropped)
    }

    fn endpoint(
        &self,
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: QuietRuntime,
        cids: OwnCids,
    ) -> io::Result<Endpoint> {
        let mut config = EndpointConfig::default();
        // Greasing clears the fixed bit at random; the filter would drop those packets.
        config.supported_versions(vec![1]).grease_quic_bit(false);
        config
            .max_udp_payload_size(MAX_UDP_PAYLOAD)
            .map_err(io::Error::other)?;
        config.cid_generator(move || Box::new(cids.clone()));
        let server = Some(self.server_config(None));
        Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(runtime))
    }

    /// The configuration of what `peer` dials, if it is known already.
    pub(super) fn server_config(&self, peer: Option<SocketAddr>) -> ServerConfig {
        let crypto = KeyedServer::new(Arc::clone(&self.server), self.gate.clone());
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        // No NEW_TOKEN, no Retry: a first packet is never useful twice.
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0).log(Arc::new(NoneTokenLog));
        config.validation_token_config(tokens);
        config.max_incoming(256);
        config.incoming_buffer_size(16 << 10);
        config.incoming_buffer_size_total(2 << 20);
        config.transport_config(Arc::new(transport(peer)));
        config
    }

    /// The configuration of one dial to `peer`. Never reused: it carries the dial's knock.
    pub fn client_config(&self, knock: &Knock, accept: Accept, peer: SocketAddr) -> ClientConfig {
        let tls = match accept {
            Accept::Pinned => &self.pinned,
            Accept::LearnOnce => &self.learning,
        };
        let crypto = KeyedClient::new(Arc::clone(tls), knock);
        let mut config = ClientConfig::new(Arc::new(crypto));
        let dcid = knock.dcid;
        config.initial_dst_cid_provider(Arc::new(move || quinn::ConnectionId::new(&dcid)));
        config.token_store(Arc::new(NoneTokenStore));
        config.transport_config(Arc::new(transport(Some(peer))));
        config
    }
}

fn server_tls(
    provider: &Arc<rustls::crypto::CryptoProvider>,
    verifier: Arc<RawKeyVerifier>,
    key: Arc<CertifiedKey>,
) -> Result<Arc<QuicServerConfig>, rustls::Error> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let quic =
        QuicServerConfig::try_from(tls).map_err(|e| rustls::Error::General(e.to_string()))?;
    Ok(Arc::new(quic))
}

fn client_tls(
    provider: &Arc<rustls::crypto::CryptoProvider>,
    verifier: Arc<RawKeyVerifier>,
    key: Arc<CertifiedKey>,
) -> Result<Arc<QuicClientConfig>, rustls::Error> {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_sni = false;
    tls.enable_early_data = false;
    let quic =
        QuicClientConfig::try_from(tls).map_err(|e| rustls::Error::General(e.to_string()))?;
    Ok(Arc::new(quic))
}

/// Transport parameters until Hello was checked; [`open_up`] raises them.
fn transport(peer: Option<SocketAddr>) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(peer.map_or(mtu::MAX, mtu::towards));
    let mut config = TransportConfig::default();
    config
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .congestion_controller_factory(Arc::new(Tolerant))
        .packet_threshold(u32::MAX)
        .time_threshold(LATE)
        .stream_receive_window(VarInt::from_u32(window::STREAM))
        .receive_window(VarInt::from_u32(WINDOW_BEFORE_HELLO))
        .send_window(window::SHORT_SEND)
        // Otherwise one stream that never runs empty would have a slow path to itself, even
        // before the link's own frames.
        .send_fairness(true);
    config
}
