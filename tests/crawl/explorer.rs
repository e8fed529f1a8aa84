//! An explorer on a directory of its own, and networks for it to look at.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use warren::clock::Clock;
use warren::mesh::addr::PeerAddr;
use warren::mesh::keys::Secret;
use warren::mesh::networks::{Held, Network, NewNetwork};
use warren::service::crawl::{Noted, Pass, Settings};
use warren::{Crawler, NetworkDb, Node, Token};

use crate::rig::*;

pub(crate) const CONFIG: Settings = Settings {
    at_once: 32,
    limit: Duration::from_secs(30),
    policy: warren::mesh::networks::Policy {
        threshold: 3,
        delete_after: Duration::from_secs(3600),
        interval: Duration::from_secs(60),
        max_interval: Duration::from_secs(3600),
    },
    allow_private: true,
};

pub(crate) struct Explorer {
    pub(crate) db: NetworkDb,
    pub(crate) crawler: Crawler,
    pub(crate) clock: Clock,
    _home: TempDir,
}

impl Explorer {
    pub(crate) fn new(settings: Settings) -> Self {
        let home = home(99);
        let clock = Clock::default();
        let db = NetworkDb::open(home.path(), Held::default(), clock.now().unix_ms).unwrap();
        let crawler = Crawler::open(home.path(), db.clone(), clock.clone(), settings).unwrap();
        Self {
            db,
            crawler,
            clock,
            _home: home,
        }
    }

    /// Takes in a network that is reached at `bootstrap`.
    pub(crate) async fn add(&self, name: &str, token: Token, bootstrap: &[String]) -> Arc<Network> {
        let bootstrap = bootstrap.iter().map(|text| text.parse().unwrap());
        let new = NewNetwork {
            name: name.to_owned(),
            bootstrap: bootstrap.collect(),
            ..NewNetwork::new(token)
        };
        self.db.add(new, self.clock.now().unix_ms).await.unwrap()
    }

    pub(crate) async fn pass(&self) -> (Pass, Vec<Noted>) {
        let mut all = Vec::new();
        let stop = CancellationToken::new();
        let pass = self.crawler.pass(&stop, &mut |noted| all.push(noted)).await;
        (pass.unwrap(), all)
    }

    pub(crate) fn row(&self, row: &Network) -> Arc<Network> {
        self.db.get(&row.key).unwrap()
    }
}

/// The token of the `n`th network.
pub(crate) fn token_of(n: u8) -> Token {
    Token::new(Secret::new([n; 32]), CALM, 360).unwrap()
}

/// The same with the way to `node`.
pub(crate) fn token_to(n: u8, node: &Daemon) -> Token {
    let peer: PeerAddr = node.pinned().parse().unwrap();
    token_of(n).with_bootstrap(vec![peer]).unwrap()
}

/// Two nodes of a network that know each other.
pub(crate) struct Pair {
    pub(crate) first: Daemon,
    pub(crate) second: Daemon,
}

pub(crate) async fn pair(
    network: u8,
    clock: Clock,
    more: fn(warren::NodeBuilder) -> warren::NodeBuilder,
) -> Pair {
    let with = With {
        token: token_of(network),
        clock: clock.clone(),
        more,
        ..With::default()
    };
    let first = start(1, with).await;
    let connect = [first.pinned()];
    let with = With {
        token: token_of(network),
        connect: &connect,
        clock,
        more,
        ..With::default()
    };
    let second = start(2, with).await;
    until("they are linked", || {
        first.sees(&second) && second.sees(&first)
    })
    .await;
    Pair { first, second }
}

/// Offers a server as `service`, and waits until `other` knows.
pub(crate) async fn serve(node: &Node, other: &Node, service: &str) {
    expose(node, service, echo().await).await;
    let id = node.id();
    until("the service is known", || {
        let view = other.view();
        let mut all = view.services.iter();
        all.any(|(bucket, providers)| {
            bucket.as_str().ends_with(service) && providers.iter().any(|one| one.id == id)
        })
    })
    .await;
}
