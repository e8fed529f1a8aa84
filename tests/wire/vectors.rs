//! `schema/vectors/entry.json`, `hello.json` and `streams.json`, computed by this implementation.
//! The parts of the first two that need no Ed25519 are computed again by `tests/interop/keys.py`.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use warren::Token;
use warren::mesh::alive::{Alive, LifeState};
use warren::mesh::entry::{Class, Draft, Entry, NetworkId};
use warren::mesh::floor::Floor;
use warren::mesh::hello::{Hello, OBSERVES};
use warren::mesh::keys::{NetworkKeys, ProofInput, Role, Secret};
use warren::mesh::measure::Limits;
use warren::mesh::measure::wire::{Report, Request, Way};
use warren::mesh::stream::{Header, Opening};

use crate::rig::identity;

const NETWORK: NetworkId = NetworkId([5; 16]);
const BOOT: u64 = 1_700_000_000_123;
/// Milliseconds since 1970 times 65,536, and a counter.
const VERSION: u64 = 1_700_000_000_456 << 16 | 3;

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn published(name: &str) -> Value {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/vectors/");
    let text = std::fs::read_to_string(format!("{root}{name}")).unwrap_or("null".into());
    serde_json::from_str(&text).unwrap()
}

fn check(name: &str, computed: &Value) {
    let pretty = serde_json::to_string_pretty(computed).unwrap();
    assert_eq!(published(name), *computed, "{name} should be\n{pretty}");
}

fn entry(bucket: &str, key: &str, class: Class, value: Option<&[u8]>) -> Value {
    let draft = Draft {
        bucket: bucket.parse().unwrap(),
        key: key.to_owned(),
        class,
        version: if class == Class::Live { 7 } else { VERSION },
        boot: if class == Class::Live { BOOT } else { 0 },
        deleted: value.is_none(),
        value: value.unwrap_or_default().to_vec(),
    };
    let entry = Entry::sign(NETWORK, &identity(1), draft).unwrap();
    json!({
        "bucket": bucket,
        "key": key,
        "class": class as u8,
        "deleted": entry.deleted,
        "boot": entry.boot,
        "version": entry.version,
        "value": hex(&entry.value),
        "signed": hex(&entry.signed_bytes(NETWORK)),
        "id": hex(&entry.id(NETWORK).0),
        "signature": hex(&entry.signature.to_bytes()),
    })
}

fn alive(incarnation: u32, state: LifeState) -> Value {
    let alive = Alive::sign(NETWORK, &identity(1), BOOT, incarnation, state);
    json!({
        "boot": BOOT,
        "incarnation": incarnation,
        "state": state as u8,
        "signed": hex(&alive.signed_bytes(NETWORK)),
        "signature": hex(&alive.signature.to_bytes()),
    })
}

fn floor(floor: u64) -> Value {
    let floor = Floor::sign(NETWORK, &identity(1), floor);
    json!({
        "floor": floor.floor,
        "signed": hex(&floor.signed_bytes(NETWORK)),
        "id": hex(&floor.id(NETWORK).0),
        "signature": hex(&floor.signature.to_bytes()),
        "postcard": hex(&postcard::to_stdvec(&floor).unwrap()),
    })
}

#[test]
fn signed_statements_are_those_of_the_vectors() {
    let computed = json!({
        "network_id": hex(&NETWORK.0),
        "seed": hex(&[1; 32]),
        "author": hex(identity(1).id().as_bytes()),
        "entries": [
            entry("config", "model", Class::Durable, Some(b"llama")),
            entry("config", "gr\u{fc}n \u{2713}", Class::Durable, Some(&[0, 0xff])),
            entry("config", "model", Class::Durable, None),
            entry("lab_federated", "k", Class::Live, Some(b"{}")),
        ],
        "alive": [alive(0, LifeState::Alive), alive(2, LifeState::Leave)],
        "floors": [floor(300), floor(VERSION)],
    });
    check("entry.json", &computed);
}

fn hello(role: Role, observed: &str, features: u64) -> Value {
    let secret: [u8; 32] = std::array::from_fn(|n| n as u8);
    let token = Token::new(Secret::new(secret), 9_000, 360).unwrap();
    let network = NetworkKeys::new(&token);
    let (dialler, answerer) = (identity(1), identity(2));
    let sender = if role == Role::Dialler {
        &dialler
    } else {
        &answerer
    };
    let input = ProofInput {
        ekm: [0x42; 32],
        role,
        dialler: dialler.id(),
        answerer: answerer.id(),
        dcid: std::array::from_fn(|n| 0x60 + n as u8),
        network_id: network.network_id(),
    };
    let state = match features & OBSERVES {
        0 => LifeState::Alive,
        _ => LifeState::Leave,
    };
    let hello = Hello {
        versions: (1, 1),
        alive: Alive::sign(input.network_id, sender, BOOT, 1, state),
        unix_s: 195_000 * 9_000,
        observed: observed.parse().unwrap(),
        generation: 0,
        features,
        chain: Vec::new(),
        proof: network.epoch(195_000).proof(&input),
    };
    let bytes = hello.encode();
    assert_eq!(Hello::decode(sender.id(), &bytes[2..]), Ok(hello.clone()));
    json!({
        "secret": hex(&secret),
        "epoch": 195_000,
        "ekm": hex(&input.ekm),
        "role": role as u8,
        "dialler": hex(input.dialler.as_bytes()),
        "answerer": hex(input.answerer.as_bytes()),
        "dcid": hex(&input.dcid),
        "network_id": hex(&input.network_id.0),
        "versions": [1, 1],
        "boot": BOOT,
        "incarnation": 1,
        "alive_signed": hex(&hello.alive.signed_bytes(input.network_id)),
        "alive_signature": hex(&hello.alive.signature.to_bytes()),
        "unix_s": hello.unix_s,
        "observed": observed,
        "generation": 0,
        "features": features,
        "chain": "",
        "proof": hex(&hello.proof),
        "bytes": hex(&bytes),
    })
}

#[test]
fn hellos_are_those_of_the_vectors() {
    let computed = json!([
        hello(Role::Dialler, "192.0.2.7:7717", 0),
        hello(Role::Answerer, "[2001:db8::7]:7717", 0),
        hello(Role::Dialler, "192.0.2.7:7717", OBSERVES),
    ]);
    check("hello.json", &computed);
}

#[test]
fn openings_and_reports_are_those_of_the_vectors() {
    let tunnel = |bucket: &str| {
        let header = Header::tunnel(bucket.parse().unwrap(), None);
        let bytes = Opening::Service(header).encode();
        json!({ "kind": 1, "bucket": bucket, "bytes": hex(&bytes) })
    };
    let measure = |way: Way, bytes: u64, time_ms: u64| {
        let limits = Limits {
            bytes,
            time: std::time::Duration::from_millis(time_ms),
        };
        let opening = Opening::Measure(Request { way, limits });
        json!({
            "kind": 3,
            "way": if way == Way::Download { 1 } else { 2 },
            "most_bytes": bytes,
            "most_ms": time_ms,
            "bytes": hex(&opening.encode()),
        })
    };
    let report = |bytes: u64, elapsed_us: u64| {
        let elapsed = std::time::Duration::from_micros(elapsed_us);
        let encoded = Report { bytes, elapsed }.encode();
        json!({ "counted": bytes, "us": elapsed_us, "bytes": hex(&encoded) })
    };
    let computed = json!({
        "openings": [
            tunnel("lab_federated"),
            measure(Way::Upload, 256_000_000, 3_000),
            measure(Way::Download, u64::MAX, u32::MAX.into()),
        ],
        "reports": [report(0x0102_0304, 0x05_0607), report(0, 0)],
    });
    check("streams.json", &computed);
}
