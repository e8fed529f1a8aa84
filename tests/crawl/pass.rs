//! One pass over many networks.

use tokio_util::sync::CancellationToken;
use warren::clock::Clock;
use warren::mesh::networks::{ClusterKind, Edit, Network, State};

use crate::explorer::*;
use crate::rig::*;

/// A port on which nothing listens.
fn nobody() -> String {
    let free = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    free.local_addr().unwrap().to_string()
}

fn kinds(row: &Network) -> Vec<(ClusterKind, String, usize)> {
    let clusters = row.clusters.iter().flatten();
    let kinds = clusters.map(|one| (one.kind, one.network_id.clone(), one.workers.len()));
    kinds.collect()
}

#[tokio::test]
async fn one_pass_says_of_ten_networks_what_is_there() {
    let explorer = Explorer::new(CONFIG);
    let none = |builder| builder;
    let now = Clock::default;

    let plain = pair(1, now(), none).await;
    serve(&plain.first, &plain.second, "worker").await;
    serve(&plain.second, &plain.first, "worker").await;
    let lab = pair(2, now(), |b| b.network_id(Some("gpu_lab".parse().unwrap()))).await;
    serve(&lab.second, &lab.first, "federated").await;
    let mlx = pair(3, now(), |b| b.network_id(Some("a_mlx".parse().unwrap()))).await;
    serve(&mlx.first, &mlx.second, "worker").await;
    serve(&mlx.second, &mlx.first, "mlx_worker").await;
    let skewed = Clock::with_offset_ms(3 * 1000 * i64::from(CALM));
    let skewed = pair(5, skewed, none).await;
    serve(&skewed.first, &skewed.second, "worker").await;
    let idle = pair(6, now(), none).await;
    let mut others = Vec::new();
    for n in 7..=10 {
        let pair = pair(n, now(), none).await;
        serve(&pair.second, &pair.first, "federated").await;
        others.push((n, pair));
    }

    let plain_row = explorer.add("plain", token_to(1, &plain.first), &[]).await;
    let posted = [lab.first.addr().to_string()];
    let lab_row = explorer.add("lab", token_of(2), &posted).await;
    // Of two ways one leads nowhere.
    let both = [nobody(), mlx.second.addr().to_string()];
    let mlx_row = explorer.add("mlx", token_of(3), &both).await;
    let dead_row = explorer.add("dead", token_of(4), &[nobody()]).await;
    let skewed_row = explorer
        .add("skewed", token_to(5, &skewed.first), &[])
        .await;
    let idle_row = explorer.add("idle", token_to(6, &idle.first), &[]).await;
    let mut rows = Vec::new();
    for (n, pair) in &others {
        rows.push(explorer.add("other", token_to(*n, &pair.first), &[]).await);
    }

    let (pass, told) = explorer.pass().await;
    assert_eq!(
        (pass.networks, pass.active, pass.missed),
        (10, 7, 3),
        "{told:?}"
    );
    assert_eq!((pass.excused, pass.void), (0, 0), "{told:?}");
    assert_eq!(told.len(), 10);

    let worker = |id: &str, count| (ClusterKind::Worker, id.to_owned(), count);
    let federated = |id: &str, count| (ClusterKind::Federated, id.to_owned(), count);
    assert_eq!(kinds(&explorer.row(&plain_row)), [worker("", 2)]);
    assert_eq!(kinds(&explorer.row(&lab_row)), [federated("gpu_lab", 1)]);
    let mlx_worker = (ClusterKind::MlxWorker, "a_mlx".to_owned(), 1);
    assert_eq!(
        kinds(&explorer.row(&mlx_row)),
        [worker("a_mlx", 1), mlx_worker]
    );
    for row in rows.iter().chain([&plain_row, &lab_row, &mlx_row]) {
        let row = explorer.row(row);
        assert_eq!((row.state, row.nodes, row.failures), (State::Active, 2, 0));
        assert_eq!(row.last_error, None);
    }
    for row in [&dead_row, &skewed_row] {
        let row = explorer.row(row);
        assert_eq!((row.state, row.failures), (State::New, 1));
        let error = row.last_error.clone().unwrap();
        assert!(
            error.contains("silent") && error.contains("clocks"),
            "{error}"
        );
    }
    let row = explorer.row(&idle_row);
    assert_eq!((row.state, row.nodes, row.failures), (State::New, 2, 1));
    assert_eq!(row.last_error.as_deref(), Some("no worker is online"));
    // The observer is in nobody's list.
    for (_, pair) in &others {
        assert_eq!(pair.first.view().nodes.len(), 2);
        assert_eq!(pair.second.view().nodes.len(), 2);
    }
}

#[tokio::test]
async fn a_network_that_is_removed_or_changed_during_its_look_stays_so() {
    let explorer = Explorer::new(CONFIG);
    let removed = explorer.add("removed", token_of(1), &[nobody()]).await;
    let moved = explorer.add("moved", token_of(2), &[nobody()]).await;
    let stays = explorer.add("stays", token_of(3), &[nobody()]).await;
    let (looking, db) = (explorer.pass(), explorer.db.clone());
    let changing = async {
        let now = explorer.clock.now().unix_ms;
        db.remove(&[removed.key], now).await.unwrap();
        let elsewhere = Edit {
            bootstrap: Some(vec![nobody().parse().unwrap()]),
            ..Edit::default()
        };
        db.edit(&moved.key, elsewhere, now).await.unwrap();
    };
    let ((pass, told), ()) = tokio::join!(looking, changing);
    assert_eq!((pass.networks, pass.missed, pass.void), (3, 1, 2));
    assert!(told.iter().any(|one| one.row.is_none()));
    assert_eq!(explorer.db.get(&removed.key), None);
    assert_eq!(
        explorer.row(&moved).failures,
        0,
        "of a look at another address"
    );
    assert_eq!(explorer.row(&stays).failures, 1);
}

#[tokio::test]
async fn failures_hide_a_network_and_then_remove_it() {
    let mut settings = CONFIG;
    settings.policy.threshold = 1;
    settings.policy.delete_after = std::time::Duration::ZERO;
    let explorer = Explorer::new(settings);
    let row = explorer.add("dead", token_of(1), &[nobody()]).await;
    assert_eq!(explorer.pass().await.0.removed, 0);
    assert_eq!(explorer.row(&row).failures, 1);
    assert_eq!(explorer.pass().await.0.removed, 1);
    assert_eq!(explorer.db.get(&row.key), None);
}

#[tokio::test]
async fn a_crawler_looks_at_what_is_due_until_it_is_stopped() {
    let explorer = Explorer::new(CONFIG);
    let (stop, crawler) = (CancellationToken::new(), explorer.crawler.clone());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { crawler.run(&stop).await }
    });
    // It comes in while the crawler waits.
    let there = pair(1, Clock::default(), |builder| builder).await;
    serve(&there.first, &there.second, "worker").await;
    let row = explorer.add("there", token_to(1, &there.first), &[]).await;
    let state = || explorer.row(&row).state;
    until("it was looked at", || state() == State::Active).await;
    let looked = explorer.row(&row);
    assert!(
        looked.next_look_ms > explorer.clock.now().unix_ms,
        "looked at without end"
    );

    // Stopped in the middle of a look: nothing is counted.
    let dead = explorer.add("dead", token_of(2), &[nobody()]).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(explorer.row(&dead).failures, 0);
}

#[tokio::test]
async fn a_network_whose_posted_address_ends_is_found_at_another_of_its_nodes() {
    let explorer = Explorer::new(CONFIG);
    let there = pair(1, Clock::default(), |builder| builder).await;
    serve(&there.second, &there.first, "worker").await;
    let row = explorer.add("there", token_to(1, &there.first), &[]).await;
    assert_eq!(explorer.pass().await.0.active, 1);
    let gone = there.first.id();
    there.first.stop().await;
    until("it is gone", || !there.second.sees_id(gone)).await;
    assert_eq!(explorer.pass().await.0.active, 1);
    assert_eq!(explorer.row(&row).nodes, 1);
    // Another explorer has not heard of the second node.
    let other = Explorer::new(CONFIG);
    other.add("there", token_of(1), &[nobody()]).await;
    assert_eq!(other.pass().await.0.missed, 1);
}

#[tokio::test]
async fn a_node_that_was_replaced_is_found_at_the_address_that_was_posted() {
    let explorer = Explorer::new(CONFIG);
    let with = || With {
        token: token_of(1),
        ..With::default()
    };
    let node = start(1, with()).await;
    let addr = node.addr();
    expose(&node, "worker", echo().await).await;
    explorer.add("one", token_of(1), &[addr.to_string()]).await;
    assert_eq!(explorer.pass().await.0.active, 1);
    let home = node.stop().await;
    become_node(&home, 3);
    let with = With {
        listen: addr,
        ..with()
    };
    let node = restart(home, with).await;
    expose(&node, "worker", echo().await).await;
    assert_eq!(explorer.pass().await.0.active, 1);
}
