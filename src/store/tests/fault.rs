//! A disk that fails and comes back: what was acknowledged stays, the rest is said.

use super::*;

fn quick() -> Pace {
    Pace {
        write_behind: Duration::from_millis(1),
        first_retry: Duration::from_millis(1),
        last_retry: Duration::from_millis(4),
    }
}

async fn healthy(store: &Store) {
    let mut health = store.health();
    in_time(health.wait_for(|health| *health == Health::Healthy))
        .await
        .unwrap();
}

async fn failing(store: &Store) -> String {
    let mut health = store.health();
    let health = in_time(health.wait_for(|health| *health != Health::Healthy)).await;
    match &*health.unwrap() {
        Health::Failing { reason } => reason.clone(),
        Health::Healthy => String::new(),
    }
}

#[tokio::test]
async fn wherever_the_disk_fills_up_what_was_acknowledged_stays() {
    let mut refused = 0;
    for room in (0..120_000).step_by(3001) {
        let disk = Disk::default();
        let store = disk.store(quick());
        let mut acknowledged = Vec::new();
        disk.state().room = Some(room);
        for n in 0..8 {
            let key = format!("{n}");
            let put = Change::PutEntry(entry(&key, &[7; 3000]));
            match in_time(store.commit(vec![put])).await {
                Ok(()) => acknowledged.push(key),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("make room"), "{error}");
                    break;
                }
            }
        }
        disk.state().room = None;
        healthy(&store).await;
        let put = Change::PutEntry(entry("after", b"v"));
        in_time(store.commit(vec![put])).await.unwrap();
        acknowledged.push("after".to_owned());
        let loaded = disk.load();
        let found = keys(&loaded);
        for key in &acknowledged {
            assert!(
                found.contains(&key.as_str()),
                "{key} of {found:?}, room {room}"
            );
        }
    }
    assert!(refused > 10, "the full disk had no effect: {refused}");
}

#[tokio::test]
async fn a_failed_sync_loses_nothing_that_was_acknowledged() {
    let disk = Disk::default();
    let store = disk.store(quick());
    let put = |key| vec![Change::PutEntry(entry(key, &[1; 5000]))];
    in_time(store.commit(put("before"))).await.unwrap();
    disk.state().sync_fails = true;
    let error = in_time(store.commit(put("during"))).await.unwrap_err();
    assert!(matches!(error, StoreError::Write { .. }), "{error}");
    assert!(failing(&store).await.contains("the disk is gone"));
    // Again, while it cannot even be opened.
    assert!(in_time(store.commit(put("during"))).await.is_err());
    disk.state().sync_fails = false;
    in_time(store.commit(put("after"))).await.unwrap();
    healthy(&store).await;
    assert_eq!(keys(&disk.load()), ["after", "before"]);
}

#[tokio::test]
async fn write_behind_waits_for_the_disk_and_is_counted_once() {
    let disk = Disk::default();
    let store = disk.store(quick());
    in_time(store.commit(vec![count(1, 100)])).await.unwrap();
    for fail_write in [true, false] {
        if fail_write {
            disk.state().room = Some(5000);
        } else {
            disk.state().sync_fails = true;
        }
        for _ in 0..10 {
            store.later(count(1, 1));
        }
        failing(&store).await;
        store.later(count(1, 1));
        disk.state().room = None;
        disk.state().sync_fails = false;
        healthy(&store).await;
    }
    in_time(store.close()).await.unwrap();
    assert_eq!(disk.load().counts[0].2, 122);
}

#[tokio::test]
async fn closing_on_a_failed_disk_says_so_and_ends() {
    let disk = Disk::default();
    let store = disk.store(quick());
    disk.state().sync_fails = true;
    store.later(count(1, 1));
    let error = in_time(store.close()).await.unwrap_err();
    assert!(matches!(error, StoreError::Write { .. }), "{error}");
    assert_eq!(in_time(store.commit(vec![])).await, Err(StoreError::Closed));
}
