use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn secret() -> Secret {
    let mut bytes = [0; 32];
    for (i, byte) in (0..).zip(&mut bytes) {
        *byte = i;
    }
    Secret::new(bytes)
}

fn token() -> Token {
    Token::new(secret(), 9_000, 360).unwrap()
}

fn node(byte: u8) -> NodeId {
    crate::mesh::id::Identity::from_seed(&[byte; 32]).id()
}

const EPOCH: u64 = 195_000;
const NONCE: [u8; NONCE_BYTES] = [
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b,
];

fn keys() -> EpochKeys {
    NetworkKeys::new(&token()).epoch(EPOCH)
}

fn address(text: &str) -> Target {
    Target::Address(text.parse().unwrap())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn dial(target: &Target) -> (String, String) {
    let dcid = keys().knock(&NONCE, target);
    (hex(dcid), hex(keys().initial_input(&dcid, target)))
}

#[test]
fn the_vectors_of_the_protocol_documents_hold() {
    assert_eq!(
        hex(NetworkKeys::new(&token()).epoch_secret(EPOCH).expose()),
        "dd55a312beb3a79e8c72fb118455beb157c0549b30a2bb7145ef9484a10f0abb"
    );
    let id = NodeId::from_bytes([0xaa; 32]).unwrap();
    for (target, dcid, input) in [
        (
            Target::Node(id),
            "101112131415161718191a1b83055e2ed7032887",
            "47097b84679b9d354041cd6a584f943e63bf54c7",
        ),
        (
            address("192.0.2.7:7717"),
            "101112131415161718191a1b5a4a11c8e2374763",
            "5d619531b0748fb82a32566fa72f21fa9dc7607f",
        ),
        (
            address("[2001:db8::7]:7717"),
            "101112131415161718191a1bd744ba8c2424b286",
            "0ca99d0d589fe8d3204d2cabc627fa86898e6d72",
        ),
    ] {
        assert_eq!(dial(&target), (dcid.to_owned(), input.to_owned()));
    }
}

#[test]
fn one_place_has_one_target() {
    let plain = dial(&address("192.0.2.7:7717"));
    assert_eq!(dial(&address("[::ffff:192.0.2.7]:7717")), plain);
    let mut scoped: std::net::SocketAddrV6 = "[fe80::1]:1".parse().unwrap();
    let unscoped = dial(&Target::Address(scoped.into()));
    scoped.set_scope_id(7);
    scoped.set_flowinfo(9);
    assert_eq!(dial(&Target::Address(scoped.into())), unscoped);
}

#[test]
fn a_knock_opens_one_target_in_one_epoch_of_one_network() {
    let target = Target::Node(node(1));
    let network = NetworkKeys::new(&token());
    let dcid = keys().knock(&NONCE, &target);
    assert!(network.epoch(EPOCH).is_knock(&dcid, &target));
    assert!(!network.epoch(EPOCH).is_knock(&dcid, &Target::Node(node(2))));
    assert!(!network.epoch(EPOCH + 1).is_knock(&dcid, &target));
    let other = Token::new(Secret::new([0; 32]), 9_000, 360).unwrap();
    assert!(
        !NetworkKeys::new(&other)
            .epoch(EPOCH)
            .is_knock(&dcid, &target)
    );
    for i in 0..DCID_BYTES {
        let mut changed = dcid;
        changed[i] ^= 1;
        assert!(!keys().is_knock(&changed, &target), "byte {i} is not bound");
    }
}

fn proof_input() -> ProofInput {
    ProofInput {
        ekm: [0x42; 32],
        role: Role::Dialler,
        dialler: node(1),
        answerer: node(2),
        dcid: keys().knock(&NONCE, &Target::Node(node(2))),
        network_id: NetworkKeys::new(&token()).network_id(),
    }
}

#[test]
fn a_proof_is_bound_to_every_part_of_its_input() {
    let input = proof_input();
    let proof = keys().proof(&input);
    assert!(keys().is_proof(&input, &proof));
    let next = NetworkKeys::new(&token()).epoch(EPOCH + 1);
    assert!(!next.is_proof(&input, &proof), "epoch");
    type Change = fn(&mut ProofInput);
    let changes: [(&str, Change); 6] = [
        ("connection", |i| i.ekm[0] ^= 1),
        ("role", |i| i.role = Role::Answerer),
        ("ids swapped", |i| {
            std::mem::swap(&mut i.dialler, &mut i.answerer);
        }),
        ("dialler", |i| i.dialler = node(3)),
        ("knock", |i| i.dcid[19] ^= 1),
        ("network", |i| i.network_id.0[0] ^= 1),
    ];
    for (what, change) in changes {
        let mut other = input;
        change(&mut other);
        assert!(!keys().is_proof(&other, &proof), "{what} is not bound");
    }
}

#[test]
fn a_network_id_covers_secret_intervals_and_root_and_outlives_generations() {
    let id = |token: &Token| NetworkKeys::new(token).network_id();
    let first = token();
    let ids = BTreeSet::from([
        id(&first),
        id(&Token::new(secret(), 9_001, 360).unwrap()),
        id(&Token::new(secret(), 9_000, 361).unwrap()),
        id(&Token::new(Secret::new([1; 32]), 9_000, 360).unwrap()),
        id(&first.with_root(node(1))),
        id(&first.with_root(node(2))),
    ]);
    assert_eq!(ids.len(), 6);

    let second = first.next_generation(Secret::new([9; 32]));
    assert_eq!(id(&second), id(&first));
    assert_eq!(id(&second.next_generation(secret())), id(&first));
    let target = Target::Node(node(1));
    let knock = keys().knock(&NONCE, &target);
    let after = NetworkKeys::new(&second).epoch(EPOCH);
    assert!(
        !after.is_knock(&knock, &target),
        "the old secret still opens"
    );
}

#[test]
fn one_block_is_all_of_hkdf_that_is_needed() {
    use aws_lc_rs::hkdf;
    struct Len32;
    impl hkdf::KeyType for Len32 {
        fn len(&self) -> usize {
            32
        }
    }
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, NETWORK_SALT).extract(secret().expose());
    let mut okm = [0; 32];
    let info: [&[u8]; 2] = [b"some label\0", &[1, 2, 3]];
    prk.expand(&info, Len32).unwrap().fill(&mut okm).unwrap();
    assert_eq!(
        expand(&extract(NETWORK_SALT, &secret()), &info),
        Secret::new(okm)
    );
}

fn accepted(unix_s: u64, interval_s: u32) -> Vec<u64> {
    accepted_epochs(unix_s, Interval::new(interval_s).unwrap()).collect()
}

#[test]
fn accepted_epochs_start_with_now_and_name_each_once() {
    assert_eq!(accepted(0, 9_000), [0, 1]);
    assert_eq!(
        accepted(9_000 * EPOCH + 4_500, 9_000),
        [195_000, 194_999, 195_001]
    );
    // An interval far longer than the skew: its neighbours count near its edges only.
    let month = Interval::MAX_S;
    let start = 600 * u64::from(month);
    assert_eq!(accepted(start + 8_999, month), [600, 599]);
    assert_eq!(accepted(start + 9_000, month), [600]);
    assert_eq!(accepted(start - 9_000, month), [599, 600]);
    assert_eq!(accepted(start - 9_001, month), [599]);
    assert_eq!(accepted(u64::MAX, 1)[0], u64::MAX);
}

#[test]
fn an_interval_is_never_zero_nor_longer_than_a_month() {
    for seconds in [0, Interval::MAX_S + 1, u32::MAX] {
        assert_eq!(Interval::new(seconds), Err(IntervalError { seconds }));
    }
    assert_eq!(Interval::new(Interval::MAX_S).unwrap().seconds(), 2_592_000);
    assert_eq!(Interval::DEFAULT_CRYPTO, Interval::new(9_000).unwrap());
    assert_eq!(Interval::DEFAULT_DISCOVERY, Interval::new(360).unwrap());
}

proptest! {
    #[test]
    fn clocks_one_interval_apart_accept_each_other(
        unix_s in 0u64..1 << 40, interval_s in 1u32..=9_000, ahead in 0u32..=9_000,
    ) {
        let interval = Interval::new(interval_s).unwrap();
        let other = unix_s + u64::from(ahead.min(interval_s));
        let mine = epoch_of(unix_s, interval);
        let theirs = epoch_of(other, interval);
        prop_assert!(accepted_epochs(other, interval).any(|e| e == mine));
        prop_assert!(accepted_epochs(unix_s, interval).any(|e| e == theirs));
    }
}

#[test]
fn keys_and_secrets_cannot_be_printed() {
    let network = NetworkKeys::new(&token());
    let shown = format!("{:?} {network:?} {:?}", secret(), network.epoch(EPOCH));
    assert_eq!(
        shown,
        format!(
            "Secret NetworkKeys({}) EpochKeys(195000)",
            network.fingerprint()
        )
    );
}

/// Everything in `schema/vectors/keys.json`, computed by this implementation.
fn vectors() -> Value {
    let first = token();
    let rooted = first.with_root(node(1));
    let second = rooted.next_generation(Secret::new([9; 32]));
    let networks = [&first, &rooted, &second].map(|token| {
        let network = NetworkKeys::new(token);
        json!({
            "secret": hex(token.secret().expose()),
            "crypto_interval_s": token.crypto_interval().seconds(),
            "discovery_interval_s": token.discovery_interval().seconds(),
            "generation": token.generation(),
            "root_pub": token.root().map(|root| hex(root.as_bytes())),
            "network_id": hex(network.network_id().0),
            "fingerprint": network.fingerprint(),
            "token": token.to_text().as_str(),
        })
    });
    let network = NetworkKeys::new(&first);
    let epoch_secret = network.epoch_secret(EPOCH);
    let prk = hmac_key(epoch_secret.expose());
    let derived = |label: &[u8]| hex(expand(&prk, &[label]).expose());
    let id = NodeId::from_bytes([0xaa; 32]).unwrap();
    let mut dials = vec![json!({ "node": hex([0xaa; 32]) })];
    dials[0]["dcid"] = dial(&Target::Node(id)).0.into();
    dials[0]["initial_input"] = dial(&Target::Node(id)).1.into();
    for text in [
        "192.0.2.7:7717",
        "[2001:db8::7]:7717",
        "[::ffff:192.0.2.7]:7717",
    ] {
        let (dcid, input) = dial(&address(text));
        dials.push(json!({ "address": text, "dcid": dcid, "initial_input": input }));
    }
    let mut input = proof_input();
    let proofs = [Role::Dialler, Role::Answerer].map(|role| {
        input.role = role;
        json!({ "role": role as u8, "proof": hex(keys().proof(&input)) })
    });
    let times = [
        (0, 9_000),
        (1_755_004_500, 9_000),
        (1_700_000_000, 1),
        (1_700_000_000, 2_592_000),
        (1_555_200_100, 2_592_000),
    ];
    json!({
        "networks": networks,
        "epoch": {
            "secret": hex(secret().expose()),
            "epoch": EPOCH,
            "k_epoch": hex(epoch_secret.expose()),
            "k_knock": derived(KNOCK_LABEL),
            "k_initial": derived(INITIAL_LABEL),
            "k_proof": derived(PROOF_LABEL),
            "lan": { "discovery_epoch": 4_722_222, "k_lan": hex(network.lan_key(4_722_222).expose()) },
            "nonce": hex(NONCE),
            "dials": dials,
            "proof": {
                "ekm": hex(input.ekm),
                "dialler": hex(input.dialler.as_bytes()),
                "answerer": hex(input.answerer.as_bytes()),
                "dcid": hex(input.dcid),
                "network_id": hex(input.network_id.0),
                "proofs": proofs,
            },
        },
        "accepted_epochs": times.map(|(unix_s, interval_s)| json!({
            "unix_s": unix_s, "interval_s": interval_s, "epochs": accepted(unix_s, interval_s),
        })),
        "localai": localai_vectors(),
    })
}

fn localai_vectors() -> Value {
    use crate::formats::localai::{LocalAiToken, code};
    let text = include_str!("../../../tests/fixtures/localai-token.txt");
    let localai = LocalAiToken::parse(text).unwrap();
    let material = hex(&*localai.key_material());
    let token = Token::parse(text).unwrap();
    let key = "a".repeat(43);
    let published = [
        (0, 360, "48ccd3c37f38c06f613d8c82ba1f609c"),
        (1_700_000_000, 360, "7e50db5c99a38438fb3484b5659f77c6"),
        (1_700_000_000, 9_000, "e93109cec203e8d0080ac887b7d3d32a"),
    ];
    let codes = published.map(|(unix_s, interval_s, md5)| {
        let interval = Interval::new(interval_s).unwrap();
        let code = code(&key, interval, 43, unix_s).unwrap();
        json!({ "unix_s": unix_s, "interval_s": interval_s, "code": code.as_str(), "md5": md5 })
    });
    json!({
        "token": localai.text(),
        "key_material": material,
        "secret": hex(token.secret().expose()),
        "network_id": hex(NetworkKeys::new(&token).network_id().0),
        "code_key": key,
        "code_length": 43,
        "codes": codes,
    })
}

/// The vectors are the contract: with `WARREN_BLESS` set they are written anew, which is a change
/// of the protocol unless only examples were added.
#[test]
fn the_published_vectors_are_what_this_code_computes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/vectors/keys.json");
    let computed = format!("{:#}\n", vectors());
    if std::env::var_os("WARREN_BLESS").is_some() {
        std::fs::write(path, &computed).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert_eq!(published, computed, "schema/vectors/keys.json differs");
}

#[test]
fn an_observer_is_the_same_for_one_network_and_another_for_each() {
    let explorer = Identity::from_seed(&[1; 32]);
    let at = |network| observer_identity(&explorer, NetworkId([network; 16])).id();
    assert_eq!(at(5), at(5));
    assert_ne!(at(5), at(6));
    assert_ne!(at(5), explorer.id());
    let other = Identity::from_seed(&[2; 32]);
    assert_ne!(at(5), observer_identity(&other, NetworkId([5; 16])).id());
}
