//! Whose fault silence is. No socket is opened.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::*;
use crate::mesh::keys::Secret;
use crate::mesh::networks::{Held, NewNetwork};
use crate::mesh::token::Token;

struct World {
    crawler: Crawler,
    now_ms: u64,
    _home: TempDir,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = Clock::default();
        let now_ms = clock.now().unix_ms;
        let db = NetworkDb::open(home.path(), Held::default(), now_ms).unwrap();
        let settings = Settings::default();
        let crawler = Crawler::open(home.path(), db, clock, settings).unwrap();
        Self {
            crawler,
            now_ms,
            _home: home,
        }
    }

    /// A look at the `n`th network, nobody of which answered.
    async fn silent(&self, n: u8, reach: Reach) -> Look {
        let token = Token::new(Secret::new([n; 32]), 9_000, 360).unwrap();
        let new = NewNetwork::new(token);
        let inner = &self.crawler.0;
        let row = inner.db.add(new, self.now_ms).await.unwrap();
        Look::silent(inner.take(row).unwrap(), reach)
    }

    async fn settle(&self, silent: Vec<Look>) -> (Pass, Vec<Noted>) {
        let mut all = Vec::new();
        let mut told = |noted| all.push(noted);
        let mut crawl = Crawl::new(Arc::clone(&self.crawler.0), &mut told);
        crawl.silent = silent;
        let pass = crawl.end().await.unwrap();
        (pass, all)
    }
}

#[tokio::test]
async fn while_nobody_as_far_away_answers_this_machine_may_be_offline() {
    let world = World::new();
    let looks = vec![
        world.silent(1, Reach::Near).await,
        world.silent(2, Reach::Far).await,
    ];
    let (pass, told) = world.settle(looks).await;
    assert_eq!((pass.networks, pass.excused, pass.missed), (2, 2, 0));
    for noted in told {
        assert_eq!(noted.outcome, Outcome::Offline);
        assert!(noted.excuse.unwrap().contains("offline"));
        let row = noted.row.unwrap();
        assert_eq!(row.failures, 0);
        assert!(row.next_look_ms > world.now_ms, "looked at again at once");
    }
}

#[tokio::test]
async fn a_network_that_answered_meanwhile_speaks_against_those_no_farther_away() {
    let world = World::new();
    let looks = vec![
        world.silent(1, Reach::Near).await,
        world.silent(2, Reach::Far).await,
    ];
    let lan: SocketAddr = "10.99.99.99:7717".parse().unwrap();
    world.crawler.0.online.heard(lan);
    let (pass, told) = world.settle(looks).await;
    assert_eq!((pass.missed, pass.excused), (1, 1));
    assert!(matches!(told[0].outcome, Outcome::Silent { .. }));
    assert_eq!(told[0].row.as_ref().unwrap().failures, 1);
    assert_eq!(told[1].outcome, Outcome::Offline);

    let world = World::new();
    let looks = vec![
        world.silent(1, Reach::Near).await,
        world.silent(2, Reach::Far).await,
    ];
    world
        .crawler
        .0
        .online
        .heard("8.8.8.8:7717".parse().unwrap());
    assert_eq!(world.settle(looks).await.0.missed, 2);
}

#[tokio::test]
async fn a_network_is_looked_at_once_at_a_time() {
    let world = World::new();
    let look = world.silent(1, Reach::Own).await;
    let row = Arc::clone(look.network());
    assert!(world.crawler.0.take(Arc::clone(&row)).is_none());
    drop(look);
    assert!(world.crawler.0.take(row).is_some());
}
