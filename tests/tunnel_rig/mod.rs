//! A mesh of fake nodes on loopback, for tests of the data plane: plain QUIC links, one ingress.
// Each test file uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use warren::clock::Clock;
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::name::Bucket;
use warren::mesh::stream::{Client, Refusal};
use warren::mesh::view::{Provider, View};
use warren::service::counts::Counters;
use warren::service::end::QuicEnd;
use warren::service::expose::{Exposes, InFlight};
use warren::service::ingress::{Deps, Ingress};
use warren::service::spec::{ExposeSpec, Failover, IngressSpec, Mode, Strategy, TlsSpec};
use warren::service::tunnels::{OpenError, ResolveError, Tunnels};
use warren::service::udp::side::{Linked, Server};

/// Nothing here takes longer, unless something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Window of one stream: small, so that back-pressure shows.
const STREAM_WINDOW: u32 = 1024 * 1024;

pub(crate) fn bucket() -> Bucket {
    "federated".parse().unwrap()
}

pub(crate) fn node(n: u8) -> NodeId {
    // Sorted by n, so that least-used tries them in the order in which a test names them.
    let mut ids: Vec<_> = (1..=8)
        .map(|seed| Identity::from_seed(&[seed; 32]).id())
        .collect();
    ids.sort();
    ids[usize::from(n)]
}

pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    SmallRng::seed_from_u64(bytes as u64).fill_bytes(&mut noise);
    noise
}

/// What a fake node does with each stream.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// The real egress.
    Serve(Exposes),
    /// Answers with these bytes, status byte first, after it has read at least so many; then...
    Script {
        read: usize,
        answer: Vec<u8>,
        then: Then,
    },
}

#[derive(Clone)]
pub(crate) enum Then {
    Finish,
    Reset,
    /// Once told; a reset at once would overtake the answer and destroy it.
    ResetWhen(Arc<Notify>),
    CloseLink,
}

pub(crate) struct FakeMesh {
    view: Mutex<Arc<View>>,
    links: HashMap<NodeId, Connection>,
    local: Exposes,
    /// Told of each stream that a fake node accepts.
    pub(crate) accepted: Mutex<mpsc::UnboundedReceiver<NodeId>>,
    pub(crate) counters: Counters,
}

impl FakeMesh {
    /// Node 0 is the one with the ingress.
    pub(crate) async fn new(nodes: Vec<(NodeId, Behaviour)>) -> Arc<Self> {
        let (told, accepted) = mpsc::unbounded_channel();
        let mut view = View::new(node(0));
        let mut links = HashMap::new();
        let mut providers = Vec::new();
        for (id, behaviour) in nodes {
            links.insert(id, link(id, behaviour, told.clone()).await);
            providers.push(provider(id));
        }
        view.services.insert(bucket(), providers.into());
        Arc::new(Self {
            view: Mutex::new(Arc::new(view)),
            links,
            local: Exposes::default(),
            accepted: Mutex::new(accepted),
            counters: Counters::unkept(),
        })
    }

    /// Exposes a server at node 0 itself.
    pub(crate) async fn expose_locally(&self, target: SocketAddr) {
        self.local.add(&spec(target), bucket()).await.unwrap();
        let mut view = self.view.lock().unwrap();
        Arc::make_mut(&mut view)
            .services
            .insert(bucket(), vec![provider(node(0))].into());
    }

    /// How many streams the fake nodes have seen, by node.
    pub(crate) fn streams(&self) -> Vec<NodeId> {
        let mut accepted = self.accepted.lock().unwrap();
        std::iter::from_fn(|| accepted.try_recv().ok()).collect()
    }

    /// From now on this node asks for its clients' addresses.
    pub(crate) fn wants_client(&self, id: NodeId) {
        let mut view = self.view.lock().unwrap();
        let services = &mut Arc::make_mut(&mut view).services;
        let providers = Arc::make_mut(services.get_mut(&bucket()).unwrap());
        let mut found = providers.iter_mut().filter(|one| one.id == id);
        found.next().unwrap().wants_client = true;
    }

    pub(crate) fn link(&self, id: NodeId) -> &Connection {
        &self.links[&id]
    }

    pub(crate) fn ingress(self: &Arc<Self>, failover: Failover) -> Ingress {
        self.ingress_with(failover, Strategy::LeastUsed, None)
    }

    pub(crate) fn ingress_with(
        self: &Arc<Self>,
        failover: Failover,
        strategy: Strategy,
        tls: Option<TlsSpec>,
    ) -> Ingress {
        let spec = IngressSpec {
            strategy,
            failover,
            mode: Mode::Tcp,
            tls,
            ..IngressSpec::new(
                "federated".parse().unwrap(),
                (Ipv4Addr::LOCALHOST, 0).into(),
            )
        };
        Ingress::start(spec, bucket(), self.deps()).unwrap()
    }

    pub(crate) fn deps(self: &Arc<Self>) -> Deps {
        Deps {
            tunnels: self.clone(),
            counters: self.counters.clone(),
            clock: Clock::default(),
            host_name: None,
        }
    }
}

impl Tunnels for FakeMesh {
    fn view(&self) -> Arc<View> {
        self.view.lock().unwrap().clone()
    }

    fn open(&self, node: NodeId) -> BoxFuture<'_, Result<QuicEnd, OpenError>> {
        async move {
            let opened = self.links[&node].open_bi().await;
            let (send, recv) = opened.map_err(|error| OpenError::Unreachable {
                node,
                cause: error.to_string(),
            })?;
            Ok(QuicEnd::new(send, recv))
        }
        .boxed()
    }

    fn connect_local<'a>(
        &'a self,
        bucket: &'a Bucket,
        client: Option<&'a Client>,
    ) -> BoxFuture<'a, Result<(TcpStream, InFlight), Refusal>> {
        self.local.connect_local(bucket, client).boxed()
    }

    fn open_flow(&self, _: NodeId) -> BoxFuture<'_, Result<Linked, OpenError>> {
        unreachable!("no flows here")
    }

    fn connect_local_flow<'a>(
        &'a self,
        _: &'a Bucket,
    ) -> BoxFuture<'a, Result<(Server, InFlight), Refusal>> {
        unreachable!("no flows here")
    }

    fn resolve(&self, text: &str, view: &View) -> Result<NodeId, ResolveError> {
        let providers = view.all_providers();
        let mut named = providers.filter(|one| one.name.as_str() == text);
        let found = named.next().map(|one| one.id);
        found.ok_or_else(|| ResolveError::Unknown(text.to_owned()))
    }
}

fn provider(id: NodeId) -> Provider {
    Provider {
        id,
        name: format!("node-{}", id.short()).parse().unwrap(),
        online: true,
        ready: true,
        draining: false,
        target: "127.0.0.1:1".into(),
        protocol: warren::mesh::records::Protocol::Tcp,
        wants_client: false,
    }
}

pub(crate) fn spec(target: SocketAddr) -> ExposeSpec {
    ExposeSpec::new("federated".parse().unwrap(), target.into())
}

pub(crate) async fn one_node(target: SocketAddr, failover: Failover) -> (Arc<FakeMesh>, Ingress) {
    let mesh = FakeMesh::new(vec![(node(1), serving(target).await)]).await;
    let ingress = mesh.ingress(failover);
    (mesh, ingress)
}

pub(crate) fn script(read: usize, answer: &[u8], then: Then) -> Behaviour {
    Behaviour::Script {
        read,
        answer: answer.to_vec(),
        then,
    }
}

/// An egress with one exposed server.
pub(crate) async fn serving(target: SocketAddr) -> Behaviour {
    let exposes = Exposes::default();
    exposes.add(&spec(target), bucket()).await.unwrap();
    Behaviour::Serve(exposes)
}

/// A server that gives each connection to `handle`; `None` from `accept` ends nothing.
pub(crate) async fn server<H, F>(handle: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // A health check connects, says nothing and goes: it is not the test's client.
            let served = handle(tcp);
            tokio::spawn(served);
        }
    });
    addr
}

/// A server that sends back `<greeting><everything it got>` once its client has half-closed.
pub(crate) async fn echo_at_end(greeting: &'static [u8]) -> SocketAddr {
    server(move |mut tcp| async move {
        let mut all = greeting.to_vec();
        tcp.read_to_end(&mut all).await.unwrap();
        // The health check is gone by now.
        let _ = tcp.write_all(&all).await;
    })
    .await
}

/// One QUIC link to a fake node.
async fn link(id: NodeId, behaviour: Behaviour, told: mpsc::UnboundedSender<NodeId>) -> Connection {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(STREAM_WINDOW.into());
    transport.send_window(u64::from(STREAM_WINDOW));
    let (near, link) = joined(transport).await;
    tokio::spawn(async move {
        while let Ok((send, recv)) = link.accept_bi().await {
            let _ = told.send(id);
            tokio::spawn(behave(behaviour.clone(), link.clone(), send, recv));
        }
    });
    near
}

/// Both ends of one QUIC connection; the first one has dialled.
pub(crate) async fn joined(transport: TransportConfig) -> (Connection, Connection) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let cert = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let transport = Arc::new(transport);

    let mut server = quinn::ServerConfig::with_single_cert(vec![cert.clone()], key).unwrap();
    server.transport_config(transport.clone());
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(server, here).unwrap();
    let addr = server.local_addr().unwrap();
    let accepting = async { server.accept().await.unwrap().await.unwrap() };

    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let mut client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    client.transport_config(transport);
    let endpoint = Endpoint::client(here).unwrap();
    let connecting = endpoint.connect_with(client, addr, "localhost").unwrap();
    let (near, far) = tokio::join!(connecting, accepting);
    (near.unwrap(), far)
}

async fn behave(
    behaviour: Behaviour,
    link: Connection,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    match behaviour {
        Behaviour::Serve(exposes) => {
            let _ = exposes.serve_stream(node(0), send, recv, None).await;
        }
        Behaviour::Script { read, answer, then } => {
            if let Some((status, rest)) = answer.split_first() {
                send.write_all(&[*status]).await.unwrap();
                let mut taken = vec![0; read];
                recv.read_exact(&mut taken).await.unwrap();
                send.write_all(rest).await.unwrap();
            }
            match then {
                Then::Finish => send.finish().unwrap(),
                Then::ResetWhen(told) => {
                    told.notified().await;
                    send.reset(VarInt::from_u32(1)).unwrap();
                }
                Then::Reset => send.reset(VarInt::from_u32(1)).unwrap(),
                Then::CloseLink => link.close(VarInt::from_u32(0), b"gone"),
            }
            // Until the other side is through with it.
            let _ = send.stopped().await;
        }
    }
}

pub(crate) async fn dial(ingress: &Ingress) -> TcpStream {
    TcpStream::connect(ingress.local_addr()).await.unwrap()
}

/// Sends, half-closes, reads to the end.
pub(crate) async fn ask(ingress: &Ingress, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut client = dial(ingress).await;
    client.write_all(request).await?;
    client.shutdown().await?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Bounds a whole test.
pub(crate) async fn in_time<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(DEADLINE, test)
        .await
        .expect("the test ran into its deadline")
}

/// A TLS client that accepts any certificate: what is tested is not whom it trusts.
pub(crate) fn trusting_connector() -> tokio_rustls::TlsConnector {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Trusting;

    impl ServerCertVerifier for Trusting {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }

    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}
