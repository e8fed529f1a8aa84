//! Who is at the other end: pinned, learnt once, never assumed.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use warren::mesh::alive::{Alive, Life};
use warren::mesh::close::CloseCode;
use warren::mesh::hello::Hello;
use warren::mesh::keys::{ProofInput, Role};
use warren::mesh::knock::Knock;

use crate::puppet::{Puppet, closed_with};
use crate::rig::*;

/// Dials that meet silence end after one and a half of these.
const SHORT: u32 = 2;

fn short<'a>(connect: &'a [String]) -> With<'a> {
    With {
        token: token(SHORT),
        connect,
        ..With::default()
    }
}

#[tokio::test]
async fn a_wrong_pin_is_silence_and_the_reason_says_what_it_may_be() {
    let a = start(1, short(&[])).await;
    let wrong = [at(identity(8).id(), a.addr())];
    let b = start(2, short(&wrong)).await;
    until("it is reported", || b.problem("unreachable").is_some()).await;
    let text = b.problem("unreachable").unwrap();
    let clause = format!("the node there is not {}", identity(8).id().short());
    assert!(text.contains(&clause), "{text}");
    assert!(!b.sees(&a) && !a.sees(&b));
}

/// A token holder that knows whom a node wants can take its knock, but not be that node.
#[tokio::test]
async fn a_member_that_poses_as_another_is_refused_and_reported() {
    let victim = identity(8).id();
    let poser = Puppet::posing(identity(9), victim, &token(CALM), LOOPBACK.parse().unwrap());
    let pin = [at(victim, poser.addr())];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let b = start(2, with).await;
    let incoming = poser.endpoint.accept().await.unwrap();
    let refused = incoming.accept().unwrap().await;
    assert!(refused.is_err(), "the dialler went on: {refused:?}");
    until("it is reported", || b.problem("wrong_node").is_some()).await;
    let text = b.problem("wrong_node").unwrap();
    assert!(
        text.contains(&format!("is not {}", victim.short())),
        "{text}"
    );
    assert!(!b.view().nodes.contains_key(&poser.id()));
}

#[tokio::test]
async fn an_id_learnt_by_address_is_kept_and_another_node_there_is_not_let_in() {
    let a = start(1, short(&[])).await;
    let addr = a.addr();
    let by_address = [addr.to_string()];
    let b = start(2, short(&by_address)).await;
    until("learnt", || b.sees(&a)).await;
    let first = a.id();
    let (home_a, home_b) = (a.stop().await, b.stop().await);
    let moved_in = With {
        listen: addr,
        ..short(&[])
    };
    let other = restart(home(5), moved_in).await;
    let b = start_in(home_b, short(&by_address)).await;
    until("it is reported", || b.problem("unreachable").is_some()).await;
    let text = b.problem("unreachable").unwrap();
    let clause = format!("the node there is not {}", first.short());
    assert!(text.contains(&clause), "{text}");
    assert!(!b.sees(&other) && !other.sees(&b));

    other.stop().await;
    let back = With {
        listen: addr,
        ..short(&[])
    };
    let a = restart(home_a, back).await;
    until("the first one is found again", || b.sees(&a)).await;
    assert_eq!(b.problem("unreachable"), None);
}

#[tokio::test]
async fn a_node_that_dials_itself_says_so() {
    let free: SocketAddr = UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let me = [free.to_string()];
    let with = With {
        listen: free,
        connect: &me,
        ..With::default()
    };
    let a = start(1, with).await;
    until("it is reported", || a.problem("wrong_node").is_some()).await;
    let text = a.problem("wrong_node").unwrap();
    assert!(text.contains("this node itself"), "{text}");
    assert_eq!(a.view().nodes.len(), 1);
}

/// Dials, changes what the proof binds or the Hello says, and is refused.
async fn refused_hello(
    victim: &Daemon,
    puppet: &Puppet,
    what: &str,
    change: impl FnOnce(&mut ProofInput, &mut Knock),
    spoil: impl FnOnce(&mut Hello),
) {
    let before = victim.refused_for("hello_proof");
    let (connection, mut knock) = puppet.connect(victim.id(), victim.addr()).await;
    let mut input = puppet.proof_input(&connection, victim.id(), &knock);
    change(&mut input, &mut knock);
    let mut hello = puppet.hello(knock.keys.proof(&input));
    spoil(&mut hello);
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello.encode()).await.unwrap();
    assert_eq!(closed_with(&connection).await, CloseCode::Proof, "{what}");
    until("it is counted", || {
        victim.refused_for("hello_proof") == before + 1
    })
    .await;
    assert!(!victim.view().nodes.contains_key(&puppet.id()), "{what}");
}

#[tokio::test]
async fn a_hello_proof_holds_for_one_side_of_one_connection_of_one_epoch() {
    let victim = start(1, With::default()).await;
    let puppet = Puppet::new(9, &token(CALM));
    let (other, other_knock) = puppet.connect(victim.id(), victim.addr()).await;
    let other = puppet.proof_input(&other, victim.id(), &other_knock);
    let same = |_: &mut Hello| {};
    let go = async |what, change: &dyn Fn(&mut ProofInput, &mut Knock)| {
        refused_hello(&victim, &puppet, what, change, same).await;
    };
    go("role swapped", &|input, _| input.role = Role::Answerer).await;
    go("ids swapped", &|input, _| {
        std::mem::swap(&mut input.dialler, &mut input.answerer);
    })
    .await;
    go("another id", &|input, _| input.dialler = identity(8).id()).await;
    go("another connection's exporter", &|input, _| {
        input.ekm = other.ekm;
    })
    .await;
    go("another connection's proof", &|input, _| *input = other).await;
    go("another knock", &|input, _| input.dcid = other.dcid).await;
    go("another epoch's keys", &|_, knock| {
        knock.keys = puppet.network.epoch(knock.keys.epoch() - 1);
    })
    .await;
    let honest = |_: &mut ProofInput, _: &mut Knock| {};
    refused_hello(&victim, &puppet, "no proof", honest, |hello| {
        hello.proof = [0; 32];
    })
    .await;
    refused_hello(
        &victim,
        &puppet,
        "another's sign of life",
        honest,
        |hello| {
            let signature = Puppet::new(8, &token(CALM)).alive().signature;
            hello.alive = Alive::from(Life {
                signature,
                ..*hello.alive
            });
        },
    )
    .await;
    refused_hello(
        &victim,
        &puppet,
        "a boot that was not signed",
        honest,
        |hello| {
            let boot = hello.alive.boot + 1;
            hello.alive = Alive::from(Life {
                boot,
                ..*hello.alive
            });
        },
    )
    .await;

    // The same puppet with an honest Hello is a member like any other.
    let _link = puppet.link(victim.id(), victim.addr()).await;
    until("it is in", || {
        victim.view().nodes.contains_key(&puppet.id())
    })
    .await;
}

/// An answerer cannot prove itself with the dialler's own proof.
#[tokio::test]
async fn a_reflected_proof_is_refused_by_the_dialler() {
    let puppet = Puppet::new(9, &token(CALM));
    let pin = [at(puppet.id(), puppet.addr())];
    let with = With {
        connect: &pin,
        ..With::default()
    };
    let victim = start(1, with).await;
    let incoming = puppet.endpoint.accept().await.unwrap();
    let connection = incoming.accept().unwrap().await.unwrap();
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let mut len = [0; 2];
    recv.read_exact(&mut len).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes(len))];
    recv.read_exact(&mut body).await.unwrap();
    let heard = Hello::decode(victim.id(), &body).unwrap();
    let answer = puppet.hello(heard.proof);
    send.write_all(&answer.encode()).await.unwrap();
    send.flush().await.unwrap();
    assert_eq!(closed_with(&connection).await, CloseCode::Proof);
    until("it is counted", || victim.refused_for("hello_proof") == 1).await;
    assert!(!victim.sees_id(puppet.id()));
}

/// Dialled without id, a node answers only for the address that the datagram came to (A1, A4).
#[tokio::test]
async fn a_dial_by_address_through_somebody_else_is_silence() {
    let a = start(1, With::default()).await;
    let proxy = crate::proxy::Proxy::start(a.addr(), Duration::ZERO).await;
    let puppet = Puppet::new(9, &token(CALM));
    let (connecting, _) = puppet.connecting_by_address(proxy.addr, proxy.addr);
    let answered = tokio::time::timeout(Duration::from_secs(2), connecting).await;
    assert!(answered.is_err(), "{answered:?}");
    assert!(proxy.went(crate::proxy::Way::ToDialler).is_empty());
    let (connecting, _) = puppet.connecting_by_address(a.addr(), a.addr());
    connecting.await.unwrap();
}
