//! A member made by hand from the public pieces: it holds the token and does as it likes.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use warren::Token;
use warren::clock::Clock;
use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::close::CloseCode;
use warren::mesh::hello::{Hello, VERSION};
use warren::mesh::id::{Identity, NodeId};
use warren::mesh::keys::{NetworkKeys, ProofInput, Role, Target};
use warren::mesh::knock::Knock;
use warren::net::endpoint::Factory;
use warren::net::gate::SharedGate;
use warren::net::hello::{Greeter, Greeting};
use warren::net::verify::{Accept, learn_name, pinned_name};

pub(crate) struct Puppet {
    pub(crate) identity: Identity,
    pub(crate) gate: SharedGate,
    pub(crate) clock: Clock,
    pub(crate) network: NetworkKeys,
    pub(crate) factory: Factory,
    pub(crate) endpoint: Endpoint,
    pub(crate) boot: u64,
}

impl Puppet {
    pub(crate) fn new(n: u8, token: &Token) -> Self {
        Self::at(n, token, "127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn at(n: u8, token: &Token, listen: SocketAddr) -> Self {
        let identity = crate::rig::identity(n);
        let me = identity.id();
        Self::posing(identity, me, token, listen)
    }

    /// Takes knocks that were made for `as_node`, whose key it does not hold.
    pub(crate) fn posing(
        identity: Identity,
        as_node: NodeId,
        token: &Token,
        listen: SocketAddr,
    ) -> Self {
        let clock = Clock::default();
        let network = NetworkKeys::new(token);
        let gate = SharedGate::new(clock.clone(), network.clone(), as_node, true);
        let factory = Factory::new(&identity, gate.clone()).unwrap();
        let endpoint = factory.bind(listen, Arc::default()).unwrap();
        Self {
            boot: clock.now().unix_ms,
            identity,
            gate,
            clock,
            network,
            factory,
            endpoint,
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.identity.id()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    pub(crate) fn alive(&self) -> Alive {
        let network = self.network.network_id();
        Alive::sign(network, &self.identity, self.boot, 0, LifeState::Alive)
    }

    pub(crate) fn connecting(&self, to: NodeId, at: SocketAddr) -> (quinn::Connecting, Knock) {
        let knock = self.gate.knock(&Target::Node(to), 0).unwrap();
        let config = self.factory.client_config(&knock, Accept::Pinned, at);
        let name = pinned_name(&to);
        let connecting = self.endpoint.connect_with(config, at, &name).unwrap();
        (connecting, knock)
    }

    /// Dials without an id, with a knock for `target`.
    pub(crate) fn connecting_by_address(
        &self,
        target: SocketAddr,
        at: SocketAddr,
    ) -> (quinn::Connecting, Knock) {
        let knock = self.gate.knock(&Target::Address(target), 0).unwrap();
        let config = self.factory.client_config(&knock, Accept::LearnOnce, at);
        let name = learn_name();
        let connecting = self.endpoint.connect_with(config, at, &name).unwrap();
        (connecting, knock)
    }

    /// A connection without any Hello.
    pub(crate) async fn connect(&self, to: NodeId, at: SocketAddr) -> (Connection, Knock) {
        let (connecting, knock) = self.connecting(to, at);
        (connecting.await.unwrap(), knock)
    }

    /// An honest Hello on `connection`.
    pub(crate) async fn greet(&self, connection: &Connection, knock: &Knock) -> Greeting {
        let greeter = Greeter {
            gate: &self.gate,
            me: self.id(),
            alive: self.alive(),
            knock,
            features: 0,
        };
        greeter.dial(connection).await.unwrap()
    }

    /// A connection that somebody dialled, with an honest Hello.
    pub(crate) async fn accept(&self) -> (Connection, Greeting) {
        let incoming = self.endpoint.accept().await.unwrap();
        let dcid = incoming.orig_dst_cid();
        let knock = self.gate.lock().recall(&dcid).cloned().unwrap();
        let connection = incoming.accept().unwrap().await.unwrap();
        let greeter = Greeter {
            gate: &self.gate,
            me: self.id(),
            alive: self.alive(),
            knock: &knock,
            features: 0,
        };
        let greeting = greeter.answer(&connection).await.unwrap();
        (connection, greeting)
    }

    /// A link: connection, control stream out and in.
    pub(crate) async fn link(&self, to: NodeId, at: SocketAddr) -> Link {
        let (connection, knock) = self.connect(to, at).await;
        let greeting = self.greet(&connection, &knock).await;
        Link {
            connection,
            send: greeting.send,
            recv: greeting.recv,
        }
    }

    /// What an honest proof of this puppet as dialler binds.
    pub(crate) fn proof_input(
        &self,
        connection: &Connection,
        to: NodeId,
        knock: &Knock,
    ) -> ProofInput {
        let mut ekm = [0; 32];
        let label = b"EXPORTER-warren/1 proof";
        connection
            .export_keying_material(&mut ekm, label, b"")
            .unwrap();
        ProofInput {
            ekm,
            role: Role::Dialler,
            dialler: self.id(),
            answerer: to,
            dcid: knock.dcid,
            network_id: self.network.network_id(),
        }
    }

    pub(crate) fn hello(&self, proof: [u8; 32]) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            alive: self.alive(),
            unix_s: self.clock.now().unix_s(),
            observed: "127.0.0.1:1".parse().unwrap(),
            generation: 0,
            features: 0,
            chain: Vec::new(),
            proof,
        }
    }
}

pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// The application code that `connection` was closed with by the other side.
pub(crate) async fn closed_with(connection: &Connection) -> CloseCode {
    let closed = tokio::time::timeout(crate::rig::DEADLINE, connection.closed());
    match closed.await.expect("the connection is not closed") {
        ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner()).unwrap()
        }
        other => panic!("{other}"),
    }
}
