//! Download and upload: what is counted, and what is unknown.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warren::mesh::probe::Unmeasured;

use crate::server::*;
use crate::{found, probe_one, transferring};

const FILE: usize = 2_000_000;

#[tokio::test]
async fn bytes_count_at_their_receiver_with_either_kind_of_upload() {
    for upload in [Upload::Get, Upload::Post] {
        let (addr, asked) = p2prc(FILE, upload).await;
        let found = found(probe_one(addr, transferring()).await);
        let down = found.download.unwrap();
        // The first piece came before the clock ran.
        assert!(down.bytes() < FILE as u64 && down.bytes() > FILE as u64 / 2);
        let up = found.upload.unwrap();
        let around = asked.uploaded.load(Ordering::SeqCst) - up.bytes();
        assert_eq!(up.bytes(), 3_000_000);
        assert!((100..400).contains(&around), "{around} bytes of form");
        assert!(down.mbps() > 0.0 && up.mbps() > 0.0);
    }
}

#[tokio::test]
async fn what_a_server_does_not_offer_is_unknown() {
    let length = INFO.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{INFO}");
    let addr = raw(move |mut tcp: TcpStream| {
        let head = head.clone();
        async move {
            let mut request = [0; 4096];
            while let Ok(read @ 1..) = tcp.read(&mut request).await {
                let info = request[..read].starts_with(b"GET /server_info");
                let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                let answer = if info { head.as_str() } else { none };
                tcp.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let found = found(probe_one(addr, transferring()).await);
    assert_eq!(found.download, Err(Unmeasured::NotOffered(404)));
    assert_eq!(found.upload, Err(Unmeasured::NotOffered(404)));
    let kept = found.measurement();
    assert!(kept.latency_ms().is_some());
    assert_eq!((kept.download_mbps(), kept.upload_mbps()), (None, None));
}

#[tokio::test]
async fn a_file_shorter_than_announced_and_a_server_that_leaves_are_unknown() {
    let length = INFO.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{INFO}");
    let addr = raw(move |mut tcp: TcpStream| {
        let head = head.clone();
        async move {
            let mut request = [0; 4096];
            while let Ok(read @ 1..) = tcp.read(&mut request).await {
                if request[..read].starts_with(b"GET /server_info") {
                    tcp.write_all(head.as_bytes()).await.unwrap();
                } else if request[..read].starts_with(b"GET /50") {
                    let part = "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nshort";
                    tcp.write_all(part.as_bytes()).await.unwrap();
                    return;
                } else {
                    return;
                }
            }
        }
    })
    .await;
    let found = found(probe_one(addr, transferring()).await);
    assert!(
        matches!(found.download, Err(Unmeasured::Broken(_))),
        "{found:?}"
    );
    assert!(
        matches!(found.upload, Err(Unmeasured::Broken(_))),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_small_file_tells_nothing_of_speed() {
    let (addr, _) = p2prc(100, Upload::Get).await;
    let found = found(probe_one(addr, transferring()).await);
    assert_eq!(found.download, Err(Unmeasured::TooLittle));
}
