//! Failover, balancing, pages, TLS, readiness and draining, over real QUIC links and sockets.
#![cfg(feature = "p2p")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod tunnel_rig;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use quinn::ReadError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use tunnel_rig::*;
use warren::mesh::stream::{Cut, Header, Refusal, Status};
use warren::service::counts::Count;
use warren::service::end::code;
use warren::service::expose::{ExposeError, Exposes};
use warren::service::ingress::{Ingress, IngressError};
use warren::service::listen::ListenError;
use warren::service::spec::{Failover, IngressSpec, Mode, Strategy, TlsSpec};

#[tokio::test]
async fn connections_spread_over_the_nodes_by_what_is_in_flight() {
    in_time(async {
        let echo = echo_at_end(b"").await;
        let mut nodes = Vec::new();
        for n in 1..4 {
            nodes.push((node(n), serving(echo).await));
        }
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Replay);
        for _ in 0..60 {
            ask(&ingress, b"x").await.unwrap();
        }
        let served = |mesh: &FakeMesh| -> Vec<u64> {
            let counts = mesh.counters.snapshot();
            counts.iter().map(|(_, _, count)| count.served).collect()
        };
        let after_each_other = served(&mesh);
        assert!(
            after_each_other
                .iter()
                .all(|count| (19..=21).contains(count)),
            "{after_each_other:?}"
        );

        let mut clients = Vec::new();
        for _ in 0..30 {
            let mut client = dial(&ingress).await;
            client.write_all(b"x").await.unwrap();
            clients.push(client);
        }
        let in_flight = |mesh: &FakeMesh| -> Vec<u64> {
            let counts = mesh.counters.snapshot();
            counts.iter().map(|(_, _, count)| count.in_flight).collect()
        };
        while in_flight(&mesh).iter().sum::<u64>() < 30 {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_flight(&mesh), [10, 10, 10]);
    })
    .await;
}

#[tokio::test]
async fn replay_repeats_the_request_at_another_node() {
    in_time(async {
        let echo = echo_at_end(b"2:").await;
        let header = 3 + "federated".len();
        let body = noise(200_000);
        for (name, bad) in [
            ("refused", script(0, &[2], Then::Finish)),
            ("unknown refusal", script(0, &[99], Then::Finish)),
            ("reset", script(header + 100, &[0], Then::Reset)),
            ("empty end", script(header + 200_000, &[0], Then::Finish)),
            ("end without status", script(0, &[], Then::Finish)),
            ("link lost", script(header + 100, &[0], Then::CloseLink)),
        ] {
            let nodes = vec![(node(1), bad), (node(2), serving(echo).await)];
            let mesh = FakeMesh::new(nodes).await;
            let ingress = mesh.ingress(Failover::Replay);
            let answer = ask(&ingress, &body).await.unwrap();
            assert!(answer[..2] == *b"2:" && answer[2..] == body, "{name}");
            assert_eq!(mesh.streams(), [node(1), node(2)], "{name}");
            let served: Vec<_> = mesh
                .counters
                .snapshot()
                .iter()
                .map(|one| one.2.served)
                .collect();
            assert_eq!(served, [0, 1], "{name}");
        }
    })
    .await;
}

/// Each node gets the header that it can read, and the client's bytes as they were.
#[tokio::test]
async fn a_client_is_named_only_to_a_node_that_asks_for_it() {
    in_time(async {
        let echo = echo_at_end(b"2:").await;
        let body = noise(100_000);
        for asks in [node(1), node(2)] {
            let client = usize::from(asks == node(1)) * (1 + 2 * 6);
            let header = 3 + "federated".len() + client;
            let bad = script(header + body.len(), &[0], Then::Reset);
            let nodes = vec![(node(1), bad), (node(2), serving(echo).await)];
            let mesh = FakeMesh::new(nodes).await;
            mesh.wants_client(asks);
            let ingress = mesh.ingress(Failover::Replay);
            let answer = ask(&ingress, &body).await.unwrap();
            assert!(answer[2..] == body, "the body was changed on its way");
            assert_eq!(mesh.streams(), [node(1), node(2)]);
        }
    })
    .await;
}

#[tokio::test]
async fn after_the_first_byte_nothing_moves() {
    in_time(async {
        let echo = echo_at_end(b"2:").await;
        let read = Arc::new(Notify::new());
        let then = Then::ResetWhen(read.clone());
        let bad = script(20, b"\0HTTP/1.1 200 OK", then);
        let nodes = vec![(node(1), bad), (node(2), serving(echo).await)];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Replay);
        let mut client = dial(&ingress).await;
        client.write_all(&noise(1000)).await.unwrap();
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.unwrap();
        read.notify_one();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(mesh.streams(), [node(1)]);
    })
    .await;
}

#[tokio::test]
async fn more_than_can_be_repeated_stays_where_it_is() {
    in_time(async {
        let echo = echo_at_end(b"2:").await;
        let bad = script(300 * 1024, &[0], Then::Reset);
        let nodes = vec![(node(1), bad), (node(2), serving(echo).await)];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Replay);
        let error = ask(&ingress, &noise(1_000_000)).await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{error}"
        );
        assert_eq!(mesh.streams(), [node(1)]);
    })
    .await;
}

#[tokio::test]
async fn connect_moves_only_while_nothing_reached_a_server() {
    in_time(async {
        let echo = echo_at_end(b"2:").await;
        let refuses = script(0, &[4], Then::Finish);
        let nodes = vec![(node(1), refuses), (node(2), serving(echo).await)];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Connect);
        assert_eq!(ask(&ingress, b"hi").await.unwrap(), b"2:hi");
        assert_eq!(mesh.streams(), [node(1), node(2)]);

        let dies = script(13, &[0], Then::Reset);
        let nodes = vec![(node(1), dies), (node(2), serving(echo).await)];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Connect);
        let error = ask(&ingress, b"hi").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(mesh.streams(), [node(1)]);
    })
    .await;
}

#[tokio::test]
async fn a_lost_link_moves_what_has_no_answer_yet_and_resets_the_rest() {
    in_time(async {
        let hangs = server(|mut tcp| async move {
            let mut byte = [0; 1];
            // "1" is answered at once, anything else never.
            while tcp.read_exact(&mut byte).await.is_ok() {
                if byte == *b"1" {
                    tcp.write_all(b"!").await.unwrap();
                }
            }
        })
        .await;
        let echo = echo_at_end(b"2:").await;
        let nodes = vec![
            (node(1), serving(hangs).await),
            (node(2), serving(echo).await),
        ];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Replay);

        let mut answered = dial(&ingress).await;
        answered.write_all(b"1").await.unwrap();
        answered.read_u8().await.unwrap();
        // Least-used now prefers node 2 ...
        let mut other = dial(&ingress).await;
        other.write_all(b"a").await.unwrap();
        while mesh.counters.snapshot().len() < 2 {
            tokio::task::yield_now().await;
        }
        // ... and then node 1 again.
        let waiting = ask(&ingress, b"question");
        let killing = async {
            while mesh.counters.snapshot()[0].2.in_flight < 2 {
                tokio::task::yield_now().await;
            }
            mesh.link(node(1)).close(0_u8.into(), b"killed");
        };
        let (moved, ()) = tokio::join!(waiting, killing);
        assert_eq!(moved.unwrap(), b"2:question");
        let end = answered.read_u8().await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn without_nodes_http_gets_the_page_and_other_protocols_a_reset() {
    in_time(async {
        let mesh = FakeMesh::new(vec![]).await;
        let ingress = mesh.ingress(Failover::Replay);
        // As curl does it: no half-close, the whole body sent, the answer read to its end.
        let mut client = dial(&ingress).await;
        let head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 200000\r\n\r\n";
        client.write_all(head).await.unwrap();
        client.write_all(&noise(200_000)).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\"code\":\"no_nodes\""), "{answer}");

        let browser = b"GET / HTTP/1.1\r\nAccept: text/html\r\n\r\n";
        let page = String::from_utf8(ask(&ingress, browser).await.unwrap()).unwrap();
        assert!(
            page.contains("<h1>Sorry, waiting for nodes to connect</h1>"),
            "{page}"
        );

        let patient = b"PUT / HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        let mut client = dial(&ingress).await;
        client.write_all(patient).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503 "),
            "final, not 100: {answer}"
        );

        let other = ask(&ingress, b"*1\r\n$4\r\nPING\r\n").await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::ConnectionReset);
        let mut silent = dial(&ingress).await;
        let end = silent.read_u8().await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn when_every_node_fails_the_request_already_read_gets_the_page() {
    in_time(async {
        for failover in [Failover::Off, Failover::Connect, Failover::Replay] {
            let nodes = (1..4).map(|n| (node(n), script(0, &[2], Then::Finish)));
            let mesh = FakeMesh::new(nodes.collect()).await;
            let ingress = mesh.ingress(failover);
            let answer = ask(&ingress, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 503 "), "{failover:?}");
            let tried = if failover == Failover::Off { 1 } else { 3 };
            assert_eq!(mesh.streams().len(), tried, "{failover:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_target_is_always_the_same_node_or_a_404() {
    in_time(async {
        let (one, two) = (echo_at_end(b"1:").await, echo_at_end(b"2:").await);
        let nodes = vec![(node(1), serving(one).await), (node(2), serving(two).await)];
        let mesh = FakeMesh::new(nodes).await;
        let name = format!("node-{}", node(2).short());
        let ingress = mesh.ingress_with(Failover::Replay, Strategy::Target(name), None);
        for _ in 0..3 {
            assert_eq!(ask(&ingress, b"x").await.unwrap(), b"2:x");
        }
        let nobody = Strategy::Target("nobody".into());
        let ingress = mesh.ingress_with(Failover::Replay, nobody, None);
        let answer = ask(&ingress, b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
    })
    .await;
}

#[tokio::test]
async fn a_server_of_this_node_needs_no_link() {
    in_time(async {
        let mesh = FakeMesh::new(vec![]).await;
        mesh.expose_locally(echo_at_end(b"me:").await).await;
        for failover in [Failover::Connect, Failover::Replay] {
            let ingress = mesh.ingress(failover);
            let body = noise(3_000_000);
            let answer = ask(&ingress, &body).await.unwrap();
            assert!(answer[..3] == *b"me:" && answer[3..] == body);
        }
        let expected = Count {
            in_flight: 0,
            served: 2,
        };
        assert_eq!(mesh.counters.snapshot(), [(bucket(), node(0), expected)]);
    })
    .await;
}

#[tokio::test]
async fn tls_ends_at_the_ingress_and_half_closes_by_close_notify() {
    in_time(async {
        let echo = echo_at_end(b"secret ").await;
        let mesh = FakeMesh::new(vec![(node(1), serving(echo).await)]).await;
        let tls = Some(TlsSpec::SelfSigned);
        let ingress = mesh.ingress_with(Failover::Replay, Strategy::LeastUsed, tls);
        let tcp = dial(&ingress).await;
        let connector = tunnel_rig::trusting_connector();
        let name = "localhost".try_into().unwrap();
        let mut client = connector.connect(name, tcp).await.unwrap();
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let body = noise(1_000_000);
        client.write_all(&body).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Fails unless the server's end is a close_notify.
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer[..7] == *b"secret " && answer[7..] == body);
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_the_server_down_and_up() {
    in_time(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let exposes = Exposes::default();
        exposes.add(&spec(addr), bucket()).await.unwrap();
        let mut ready = exposes.readiness();
        assert!(ready.borrow()[&bucket()]);
        drop(listener);
        // A real connection that fails is noticed at once, not at the next check.
        assert!(exposes.connect_local(&bucket(), None).await.is_err());
        ready.wait_for(|all| !all[&bucket()]).await.unwrap();
        let _listener = TcpListener::bind(addr).await.unwrap();
        ready.wait_for(|all| all[&bucket()]).await.unwrap();
        assert!(exposes.remove(&bucket()));
        assert!(exposes.readiness().borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_exposed_or_listened_on_is_named() {
    in_time(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = listener.local_addr().unwrap();
        let exposes = Exposes::default();
        exposes.add(&spec(taken), bucket()).await.unwrap();
        let again = exposes.add(&spec(taken), bucket()).await.unwrap_err();
        assert!(matches!(again, ExposeError::Taken { .. }));
        let mesh = FakeMesh::new(vec![]).await;
        let mut spec_in = IngressSpec {
            strategy: Strategy::LeastUsed,
            failover: Failover::Replay,
            mode: Mode::Tcp,
            tls: None,
            ..IngressSpec::new("federated".parse().unwrap(), taken)
        };
        let error = Ingress::start(spec_in.clone(), bucket(), mesh.deps()).unwrap_err();
        assert!(
            matches!(&error, IngressError::Listen(ListenError::InUse(addr)) if *addr == taken),
            "{error}"
        );
        spec_in.mode = Mode::Http;
        let error = Ingress::start(spec_in, bucket(), mesh.deps()).unwrap_err();
        assert_eq!(error.to_string(), "mode http is not available yet");
        drop(listener);
        let other = "other".parse().unwrap();
        let error = exposes
            .add(&spec(taken), other)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(&taken.to_string()), "{error}");
    })
    .await;
}

#[tokio::test]
async fn draining_lets_running_connections_finish_and_abort_resets_them() {
    in_time(async {
        let echo = echo_at_end(b"ok ").await;
        let exposes = Exposes::default();
        exposes.add(&spec(echo), bucket()).await.unwrap();
        let nodes = vec![(node(1), Behaviour::Serve(exposes.clone()))];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Replay);
        let mut client = dial(&ingress).await;
        client.write_all(b"slow").await.unwrap();
        while exposes.in_flight()[&bucket()] == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!exposes.drain(Duration::ZERO).await, "one is running");
        let refused = ask(&ingress, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(refused.starts_with(b"HTTP/1.1 503 "));
        ingress.stop_accepting();
        let (drained, egress_drained, answer) =
            tokio::join!(ingress.drain(DEADLINE), exposes.drain(DEADLINE), async {
                client.shutdown().await.unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                answer
            });
        assert_eq!(answer, b"ok slow");
        assert!(drained && egress_drained);
        assert!(TcpStream::connect(ingress.local_addr()).await.is_err());

        exposes.set_draining(false);
        let ingress = mesh.ingress(Failover::Replay);
        let mut client = dial(&ingress).await;
        client.write_all(b"doomed").await.unwrap();
        while exposes.in_flight()[&bucket()] == 0 {
            tokio::task::yield_now().await;
        }
        ingress.abort();
        let end = client.read_u8().await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        assert!(exposes.drain(DEADLINE).await, "the egress hears of it");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_asks_for_nothing_known_is_refused_and_others_go_on() {
    in_time(async {
        let echo = echo_at_end(b"ok ").await;
        let (mesh, ingress) = one_node(echo, Failover::Connect).await;
        let (mut send, mut recv) = mesh.link(node(1)).open_bi().await.unwrap();
        send.write_all(&[u8::MAX, 0, 0]).await.unwrap();
        let expected = ReadError::Reset(code(Cut::BadHeader));
        assert_eq!(recv.read(&mut [0]).await, Err(expected));

        let (mut send, mut recv) = mesh.link(node(1)).open_bi().await.unwrap();
        let bucket = "unknown".parse().unwrap();
        send.write_all(&Header::tunnel(bucket, None).encode())
            .await
            .unwrap();
        let refused = Status::Refused(Refusal::NoSuchService).byte();
        assert_eq!(recv.read_to_end(9).await.unwrap(), [refused]);

        assert_eq!(ask(&ingress, b"x").await.unwrap(), b"ok x");
    })
    .await;
}

#[tokio::test]
async fn a_full_node_is_passed_over() {
    in_time(async {
        let echo = echo_at_end(b"1:").await;
        let exposes = Exposes::new(1);
        exposes.add(&spec(echo), bucket()).await.unwrap();
        let two = serving(echo_at_end(b"2:").await).await;
        let nodes = vec![(node(1), Behaviour::Serve(exposes.clone())), (node(2), two)];
        let mesh = FakeMesh::new(nodes).await;
        let ingress = mesh.ingress(Failover::Connect);
        let _taken = exposes.connect_local(&bucket(), None).await.unwrap();
        assert_eq!(ask(&ingress, b"x").await.unwrap(), b"2:x");
        assert_eq!(mesh.streams(), [node(1), node(2)]);
    })
    .await;
}
