//! What bounds a client: bytes, requests, connections, time.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::common::until;
use super::*;

#[test]
fn a_client_that_posts_too_often_is_told_to_wait() {
    let board = Board::start();
    // What is refused counts, too.
    let answers: Vec<Answer> = (0..110).map(|_| board.post(b"{}")).collect();
    let refused: Vec<&Answer> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    assert!(!refused.is_empty() && answers[..100].iter().all(|answer| answer.status == 400));
    assert_eq!(refused[0].header("retry-after"), Some("1"));
    assert_eq!(refused[0].json(), json!({"error": "Too many requests"}));
    // Reading is not limited by that.
    assert_eq!(board.get("/networks").status, 200);
    until("it may post again", || {
        (board.post(b"{}").status == 400).then_some(())
    });
}

#[test]
fn the_rate_is_the_operators() {
    let board = Board::with(&["--add-rate", "off"]);
    assert!((0..300).all(|_| board.post(b"{}").status == 400));
    let board = Board::with(&["--add-rate", "0.01"]);
    let refused = (0..150)
        .map(|_| board.post(b"{}"))
        .find(|answer| answer.status == 429);
    assert_eq!(refused.unwrap().header("retry-after"), Some("100"));
}

#[test]
fn searching_is_bounded_and_looking_is_not() {
    let board = Board::start();
    let search = |n: usize| board.get(&format!("/api/v1/networks?q=x{n}"));
    let refused = (0..200).map(search).find(|answer| answer.status == 429);
    let refused = refused.expect("two hundred searches at once pass");
    assert!(refused.header("retry-after").is_some());
    assert!((0..200).all(|_| board.get("/api/v1/networks?limit=50").status == 200));
}

/// Twice as many as are let in, and none of them ever says what it wants.
#[test]
fn slow_clients_push_out_their_own() {
    let board = Board::start();
    let begin = b"GET /networks HTTP/1.1\r\nHost: x\r\n";
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..1_100 {
        let mut stream = TcpStream::connect(board.at).unwrap();
        // The server may have closed it already: that is what it should do.
        let _ = stream.write_all(begin);
        slow.push(stream);
    }
    assert_eq!(board.get("/networks").status, 200);
    let is_cut = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 64]);
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let cut = slow.iter_mut().map(is_cut).filter(|cut| *cut).count();
    assert!(cut >= 500, "{cut}");
}

#[test]
fn a_head_and_a_body_end_somewhere() {
    let board = Board::start();
    let long = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(board.get_with("/networks", &long).status, 431);
    let answer = board.post(&vec![b'x'; 64 * 1024 + 1]);
    assert_eq!(
        (answer.status, answer.json()),
        (413, json!({"error": "Request is too large"}))
    );
}

#[test]
fn pages_of_others_cannot_post() {
    let board = Board::start();
    let body = json!({"token": new_token(), "name": "n", "description": "d"}).to_string();
    for (headers, status) in [
        (
            "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n",
            403,
        ),
        (
            "Content-Type: text/plain\r\nOrigin: http://evil.example\r\n",
            400,
        ),
        ("Origin: null\r\n", 400),
        (
            "Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n",
            200,
        ),
    ] {
        let answer = http::post_with(board.at, "/network/add", headers, body.clone().into());
        assert_eq!(answer.unwrap().status, status, "{headers}");
    }
}
