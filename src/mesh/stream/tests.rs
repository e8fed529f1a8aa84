use super::*;
use crate::mesh::measure::Limits;
use crate::mesh::measure::wire::{Report, Way};
use proptest::prelude::*;
use std::time::Duration;

/// The bytes of `schema/wire.md`.
#[rustfmt::skip]
const GOLDEN: &[u8] = &[
    0x01,                                                 // kind: tunnel
    0x00,                                                 // flags: none
    0x0d,                                                 // length of the bucket
    b'l', b'a', b'b', b'_', b'f', b'e', b'd', b'e', b'r', b'a', b't', b'e', b'd',
];

#[rustfmt::skip]
const GOLDEN_CLIENT: &[u8] = &[
    0x01,                                                 // kind: tunnel
    0x01,                                                 // flags: client
    0x04,                                                 // length of the bucket
    b'c', b'h', b'a', b't',
    0x04,                                                 // family: IPv4
    192, 0, 2, 7, 0xc0, 0x01,                             // client 192.0.2.7:49153
    127, 0, 0, 1, 0x23, 0x28,                             // connected to 127.0.0.1:9000
];

#[rustfmt::skip]
const GOLDEN_CLIENT_6: &[u8] = &[
    0x01, 0x01, 0x01, b'a',
    0x06,                                                 // family: IPv6
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x07, 0xc0, 0x01,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x23, 0x28,
];

#[rustfmt::skip]
const GOLDEN_FLOW: &[u8] = &[
    0x02,                                                 // kind: flow of datagrams
    0x00,                                                 // flags: none
    0x03,                                                 // length of the bucket
    b'd', b'n', b's',
];

fn client(from: &str, to: &str) -> Option<Client> {
    Client::new(from.parse().unwrap(), to.parse().unwrap())
}

fn golden() -> [(Header, &'static [u8]); 4] {
    let tunnel = |name: &str, client| Header::tunnel(name.parse().unwrap(), client);
    let v4 = client("[::ffff:192.0.2.7]:49153", "127.0.0.1:9000");
    let v6 = client("[2001:db8::7%3]:49153", "[::1]:9000");
    assert!(v4.is_some() && v6.is_some() && client("1.2.3.4:1", "[::1]:1").is_none());
    [
        (tunnel("lab_federated", None), GOLDEN),
        (tunnel("chat", v4), GOLDEN_CLIENT),
        (tunnel("a", v6), GOLDEN_CLIENT_6),
        (Header::flow("dns".parse().unwrap()), GOLDEN_FLOW),
    ]
}

#[test]
fn the_golden_headers_read_and_write() {
    for (header, bytes) in golden() {
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(bytes), Ok(Some((header, bytes.len()))));
    }
}

#[test]
fn a_reader_that_takes_what_is_wanted_takes_exactly_the_header() {
    for (header, golden) in golden() {
        let mut stream = golden.to_vec();
        stream.extend_from_slice(b"GET /");
        let mut have = 0;
        while Header::decode(&stream[..have]) == Ok(None) {
            let wanted = Opening::wanted(&stream[..have]);
            assert!(wanted > have, "{have} of {header:?}");
            have = wanted;
        }
        assert_eq!(have, golden.len());
    }
}

#[test]
fn a_header_in_pieces_waits_for_the_rest_and_leaves_what_follows() {
    for (_, golden) in golden() {
        for cut in 0..golden.len() {
            assert_eq!(Header::decode(&golden[..cut]), Ok(None), "{cut} bytes");
        }
    }
    let mut more = GOLDEN.to_vec();
    more.extend_from_slice(b"GET /");
    let (_, used) = Header::decode(&more).unwrap().unwrap();
    assert_eq!(&more[used..], b"GET /");
}

#[test]
fn what_cannot_become_a_header_is_refused_at_once() {
    assert_eq!(Header::decode(&[9]), Err(HeaderError::Kind(9)));
    assert_eq!(Header::decode(&[1, 2]), Err(HeaderError::Flags(2)));
    assert_eq!(Header::decode(&[2, 1]), Err(HeaderError::Flags(1)));
    let family = Header::decode(&[1, 1, 1, b'a', 5]);
    assert_eq!(family, Err(HeaderError::Family(5)));
    let mut mapped = vec![1, 1, 1, b'a', 6];
    mapped.extend_from_slice(&[0; 36]);
    mapped[5 + 10..5 + 12].fill(0xff);
    assert_eq!(Header::decode(&mapped), Err(HeaderError::Family(6)));
    assert_eq!(Header::decode(&[1, 0, 128]), Err(HeaderError::TooLong(128)));
    assert!(matches!(
        Header::decode(&[1, 0, 0]),
        Err(HeaderError::Bucket(_))
    ));
    assert!(matches!(
        Header::decode(b"\x01\x00\x01/"),
        Err(HeaderError::Bucket(_))
    ));
    assert_eq!(Header::decode(&[1, 0, 1, 0xff]), Err(HeaderError::NotText));
}

#[test]
fn every_status_byte_and_every_cut_has_one_meaning() {
    for byte in 0..=u8::MAX {
        assert_eq!(Status::from_byte(byte).byte(), byte);
    }
    assert_eq!(Status::from_byte(4), Status::Refused(Refusal::Draining));
    for code in 0..100 {
        assert_eq!(Cut::from_code(code).code(), code);
    }
}

/// The bytes of `schema/wire.md`.
#[rustfmt::skip]
const GOLDEN_MEASURE: &[u8] = &[
    0x03,                                                 // kind: measurement
    0x00,                                                 // flags: none
    0x0d,                                                 // 13 bytes follow
    0x02,                                                 // way: upload
    0x00, 0x00, 0x00, 0x00, 0x0f, 0x42, 0x40, 0x00,       // 256,000,000 bytes
    0x00, 0x00, 0x0b, 0xb8,                               // 3,000 ms
];

#[test]
fn the_golden_measurement_reads_and_writes_and_waits_for_the_rest() {
    let limits = Limits {
        bytes: 256_000_000,
        time: Duration::from_secs(3),
    };
    let way = Way::Upload;
    let opening = Opening::Measure(Request { way, limits });
    assert_eq!(opening.encode(), GOLDEN_MEASURE);
    let read = Opening::decode(GOLDEN_MEASURE);
    assert_eq!(read, Ok(Some((opening, GOLDEN_MEASURE.len()))));
    for cut in 0..GOLDEN_MEASURE.len() {
        assert_eq!(Opening::decode(&GOLDEN_MEASURE[..cut]), Ok(None), "{cut}");
    }
    let report = Report {
        bytes: 0x0102_0304,
        elapsed: Duration::from_micros(0x05_0607),
    };
    let bytes = [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 5, 6, 7];
    assert_eq!(report.encode(), bytes);
    assert_eq!(Report::decode(bytes), report);
}

#[test]
fn what_cannot_become_a_measurement_is_refused() {
    let changed = |at: usize, to: u8| {
        let mut bytes = GOLDEN_MEASURE.to_vec();
        bytes[at] = to;
        Opening::decode(&bytes)
    };
    let way = RequestError::Way(9);
    assert_eq!(changed(3, 9), Err(HeaderError::Measure(way)));
    let short = RequestError::Length(12);
    assert_eq!(changed(2, 12), Err(HeaderError::Measure(short)));
    assert_eq!(changed(1, 1), Err(HeaderError::Flags(1)));
    assert_eq!(changed(0, 9), Err(HeaderError::Kind(9)));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_refuse(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        start in prop::option::of((1..4_u8, 0..130_u8)),
    ) {
        if let (Some((kind, len)), [at_kind, at_flags, at_len, ..]) = (start, &mut bytes[..]) {
            (*at_kind, *at_flags, *at_len) = (kind, 0, len);
        }
        if let Ok(Some((opening, used))) = Opening::decode(&bytes) {
            prop_assert!(used <= MAX_HEADER_BYTES);
            prop_assert_eq!(opening.encode(), &bytes[..used]);
        }
    }
}
