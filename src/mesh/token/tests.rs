use data_encoding::BASE32_NOPAD;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::mesh::id::Identity;

const LOCALAI: &str = include_str!("../../../tests/fixtures/localai-token.txt");

fn node(byte: u8) -> NodeId {
    Identity::from_seed(&[byte; 32]).id()
}

fn plain() -> Token {
    Token::new(Secret::new([7; 32]), 9_000, 360).unwrap()
}

fn peers() -> Vec<PeerAddr> {
    let at = [
        "192.0.2.7:7717",
        "[2001:db8::7]:1",
        "mesh.example.org:65535",
    ];
    let peer = |(i, at)| format!("{}@{at}", node(i)).parse().unwrap();
    (1..).zip(at).map(peer).collect()
}

/// One token of every shape the layout has.
fn shapes() -> Vec<Token> {
    let full = plain()
        .with_root(node(9))
        .next_generation(Secret::new([8; 32]));
    vec![
        plain(),
        plain().with_root(node(9)),
        plain().next_generation(Secret::new([8; 32])),
        plain().with_bootstrap(peers()).unwrap(),
        full.with_bootstrap(peers()).unwrap(),
    ]
}

fn all_of(token: &Token) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        *token.secret().expose(),
        (token.crypto_interval(), token.discovery_interval()),
        (token.generation(), token.root(), token.carried_network_id()),
        token.bootstrap().to_vec(),
        token.kind(),
    )
}

/// A token text around any body, its checksum right.
fn sealed(body: &[u8]) -> String {
    let mut bytes = body.to_vec();
    let mut label = b"warren/1 token\0".to_vec();
    label.extend_from_slice(body);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &label);
    bytes.extend_from_slice(&hash.as_ref()[..4]);
    format!("{NATIVE_PREFIX}{}", BASE32_NOPAD.encode(&bytes))
}

fn body(token: &Token) -> Vec<u8> {
    let text = token.to_text().to_ascii_uppercase();
    let mut bytes = BASE32_NOPAD.decode(&text.as_bytes()[7..]).unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes
}

fn refusal(text: &str) -> TokenError {
    Token::parse(text).expect_err("accepted")
}

#[test]
fn a_token_reads_back_as_it_was_made_in_any_case_and_with_space_around() {
    for token in shapes() {
        let text = token.to_text();
        assert!(text.starts_with(NATIVE_PREFIX));
        assert_eq!(*text, text.to_ascii_lowercase());
        for text in [
            text.to_string(),
            text.to_ascii_uppercase(),
            format!(" \t{}\r\n", *text),
        ] {
            assert_eq!(all_of(&text.parse().unwrap()), all_of(&token));
        }
    }
}

#[test]
fn the_bytes_are_where_the_layout_says() {
    let first = plain().with_bootstrap(vec![peers().remove(0)]).unwrap();
    let body = body(&first);
    assert_eq!(body[..2], [1, 0], "version, flags");
    assert_eq!(body[2..34], [7; 32], "secret");
    assert_eq!(body[34..38], [0, 0, 0x23, 0x28], "crypto interval");
    assert_eq!(body[38..42], [0, 0, 0x01, 0x68], "discovery interval");
    assert_eq!(body[42..46], [0; 4], "generation");
    assert_eq!(body[46], 1, "nodes");
    assert_eq!(body[47..79], *node(1).as_bytes(), "node id");
    assert_eq!(body[79..], [4, 192, 0, 2, 7, 0x1e, 0x25], "kind, ip, port");
}

#[test]
fn every_changed_character_is_noticed() {
    for token in shapes() {
        let text = token.to_text();
        for at in 0..text.len() {
            for new in "abcdefghijklmnopqrstuvwxyz0123456789=+/ _-".chars() {
                let mut changed = text.to_string();
                changed.replace_range(at..=at, &new.to_string());
                if changed != *text {
                    assert!(Token::parse(&changed).is_err(), "character {at}: {new}");
                }
            }
        }
    }
}

#[test]
fn a_part_of_a_token_is_no_token() {
    for token in shapes() {
        let text = token.to_text();
        for end in NATIVE_PREFIX.len()..text.len() {
            assert!(matches!(
                refusal(&text[..end]),
                TokenError::Truncated { .. } | TokenError::Checksum
            ));
        }
    }
}

#[test]
fn every_cause_has_its_own_words() {
    let good = body(&plain());
    let change = |at: usize, bytes: &[u8]| {
        let mut body = good.clone();
        body[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&sealed(&body))
    };
    assert_eq!(change(0, &[2]), TokenError::Version { found: 2 });
    assert_eq!(change(1, &[0x84]), TokenError::Flags { found: 0x84 });
    assert_eq!(change(1, &[1]), TokenError::Ends { field: "root key" });
    for (at, bytes) in [
        (34, [0; 4]),
        (38, [0; 4]),
        (34, [0xff; 4]),
        (38, [0, 0x27, 0x8d, 1]),
    ] {
        assert!(matches!(change(at, &bytes), TokenError::Interval(_)));
    }
    assert_eq!(
        change(42, &[0, 0, 0, 3]),
        TokenError::Generation { generation: 3 }
    );
    assert_eq!(change(46, &[9]), TokenError::TooManyNodes { count: 9 });
    assert_eq!(change(46, &[1]), TokenError::Ends { field: "node id" });

    let mut long = good.clone();
    long.extend_from_slice(&[0, 0]);
    assert_eq!(refusal(&sealed(&long)), TokenError::Trailing { extra: 2 });

    let text = plain().to_text();
    assert_eq!(
        refusal(&text.replace("warren1ae", "warren1a1")),
        TokenError::Character { found: '1', at: 9 }
    );
    let damaged = refusal(&text.replace("warren1ae", "warren1af"));
    assert!(
        damaged
            .to_string()
            .contains("a character is missing or changed: copy it again")
    );
    assert_eq!(refusal("warren1"), TokenError::Truncated { len: 7 });
    assert_eq!(refusal(" \n"), TokenError::Empty);
    assert_eq!(refusal("hello, world"), TokenError::Unknown);
    assert_eq!(refusal("warren2aaaa"), TokenError::Unknown);
}

#[test]
fn a_first_generation_carries_no_network_id_and_a_later_one_must() {
    let later = body(&plain().next_generation(Secret::new([1; 32])));
    let mut first = later.clone();
    first[45] = 0;
    assert_eq!(
        refusal(&sealed(&first)),
        TokenError::Generation { generation: 0 }
    );
    assert!(Token::parse(&sealed(&later)).is_ok());
}

#[test]
fn a_root_that_is_no_key_is_refused() {
    let mut body = body(&plain().with_root(node(1)));
    body[46..78].fill(0);
    assert_eq!(
        refusal(&sealed(&body)),
        TokenError::Root(IdError::SmallOrder)
    );
}

#[test]
fn a_node_has_one_encoding_and_every_other_is_refused() {
    let with = |address: &[u8]| {
        let mut body = body(&plain());
        body[46] = 1;
        body.extend_from_slice(node(1).as_bytes());
        body.extend_from_slice(address);
        Token::parse(&sealed(&body))
    };
    let fault = |address: &[u8]| match with(address) {
        Err(TokenError::Node { index: 1, what }) => what,
        other => panic!("{other:?}"),
    };
    assert!(with(b"\x01\x09localhost\x00\x01").is_ok());
    assert_eq!(fault(b"\x01\x09Localhost\x00\x01"), NodeFault::Host);
    assert_eq!(fault(b"\x01\x09127.0.0.1\x00\x01"), NodeFault::Host);
    assert_eq!(fault(b"\x01\x03::1\x00\x01"), NodeFault::Host);
    assert_eq!(fault(b"\x01\x00\x00\x01"), NodeFault::Host);
    assert_eq!(fault(b"\x01\x02\xff\xfe\x00\x01"), NodeFault::Host);
    assert_eq!(fault(b"\x01\x01a\x00\x00"), NodeFault::Port);
    assert_eq!(fault(b"\x04\x7f\x00\x00\x01\x00\x00"), NodeFault::Port);
    assert_eq!(fault(b"\x07"), NodeFault::Kind(7));
    let mapped = b"\x06\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\0\x01";
    assert_eq!(fault(mapped), NodeFault::Host);
    assert_eq!(
        with(b"\x01\xff").unwrap_err(),
        TokenError::Ends {
            field: "node address"
        }
    );
}

#[test]
fn a_token_names_eight_nodes_with_ids_and_ports_and_no_more() {
    let peer = |text: &str| -> PeerAddr { text.parse().unwrap() };
    let eight = vec![peers().remove(0); 8];
    assert!(plain().with_bootstrap(eight.clone()).is_ok());
    let nine = [eight, peers()[..1].to_vec()].concat();
    assert_eq!(
        plain().with_bootstrap(nine).unwrap_err(),
        TokenError::TooManyNodes { count: 9 }
    );
    assert!(matches!(
        plain().with_bootstrap(vec![peer("a:1")]),
        Err(TokenError::NoId { .. })
    ));
    let port_0 = peer(&format!("{}@a:0", node(1)));
    assert!(matches!(
        plain().with_bootstrap(vec![port_0]),
        Err(TokenError::Node {
            index: 1,
            what: NodeFault::Port
        })
    ));
    let mapped = peer(&format!("{}@[::ffff:192.0.2.7]:7717", node(1)));
    let token = plain().with_bootstrap(vec![mapped]).unwrap();
    assert_eq!(token.bootstrap()[0], peers()[0]);
}

#[test]
fn too_long_is_said_before_anything_is_read() {
    for start in ["warren1", "b3Rw", ""] {
        let huge = format!("{start}{}", "a".repeat(10_000_000));
        assert_eq!(refusal(&huge), TokenError::TooLong { len: huge.len() });
    }
    let longest = "a".repeat(MAX_TOKEN_BYTES);
    assert_ne!(
        refusal(&longest),
        TokenError::TooLong {
            len: MAX_TOKEN_BYTES
        }
    );
}

#[test]
fn a_localai_token_keeps_its_text_and_can_be_rebuilt_without_argon2() {
    let token = Token::parse(LOCALAI).unwrap();
    assert_eq!(token.kind(), TokenKind::LocalAi);
    assert_eq!(token.to_text().as_str(), LOCALAI.trim());
    assert_eq!(token.crypto_interval().seconds(), 360);
    assert!(token.bootstrap().is_empty());
    assert_eq!(
        token.clone().with_bootstrap(peers()).unwrap_err(),
        TokenError::NoPlaceForNodes
    );

    let TokenText::LocalAi(localai) = TokenText::parse(LOCALAI).unwrap() else {
        panic!("taken for a native token");
    };
    let rebuilt = Token::from_localai(localai, token.secret().clone());
    assert_eq!(all_of(&rebuilt), all_of(&token));

    let native = token.to_native().with_bootstrap(peers()).unwrap();
    let native = Token::parse(&native.to_text()).unwrap();
    assert_eq!(native.kind(), TokenKind::Native);
    assert_eq!(native.bootstrap(), peers());
    assert!(
        native.same_network(&token),
        "the native form is another network"
    );
}

#[test]
fn one_network_is_one_whatever_the_addresses_and_generation() {
    let founded = plain();
    let elsewhere = plain().with_bootstrap(peers()).unwrap();
    assert!(founded.same_network(&elsewhere));
    assert!(founded.same_network(&founded.next_generation(Secret::new([1; 32]))));
    assert!(!founded.same_network(&Token::new(Secret::new([8; 32]), 9_000, 360).unwrap()));
    assert!(!founded.same_network(&founded.with_root(node(1))));
}

#[test]
fn debug_and_errors_show_no_secret() {
    for token in [plain(), Token::parse(LOCALAI).unwrap()] {
        let shown = format!("{token:?} {:?}", TokenText::Native(token.clone()));
        let fingerprint = NetworkKeys::new(&token).fingerprint();
        assert!(shown.contains(&fingerprint) && shown.len() < 100, "{shown}");
    }
    let shown = format!("{:?}", TokenText::parse(LOCALAI).unwrap());
    assert_eq!(shown, "LocalAi(LocalAiToken(secret))");
}

#[test]
fn a_generated_token_takes_its_secret_from_the_rng_it_is_given() {
    use rand::SeedableRng;
    let make = |seed| {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        Token::generate(&mut rng, 2, 1).unwrap()
    };
    assert_eq!(make(1).secret(), make(1).secret());
    assert!(make(1).secret() != make(2).secret());
    assert!(Token::generate(&mut rand::rngs::StdRng::seed_from_u64(1), 0, 1).is_err());
}

fn any_peer() -> impl Strategy<Value = PeerAddr> {
    let host = prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| std::net::IpAddr::from(ip).to_string()),
        any::<[u8; 16]>().prop_map(|ip| format!("[{}]", std::net::Ipv6Addr::from(ip))),
        "[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{2,20}){0,9}",
    ];
    (any::<u8>(), host, 1u16..)
        .prop_map(|(id, host, port)| format!("{}@{host}:{port}", node(id)).parse().unwrap())
}

fn any_token() -> impl Strategy<Value = Token> {
    let interval = || 1..=Interval::MAX_S;
    let roots = proptest::option::of(any::<u8>());
    let numbers = (interval(), interval(), any::<Option<[u8; 32]>>());
    (any::<[u8; 32]>(), numbers, roots, vec(any_peer(), 0..=8)).prop_map(
        |(secret, (crypto, discovery, next), root, peers)| {
            let mut token = Token::new(Secret::new(secret), crypto, discovery).unwrap();
            if let Some(root) = root {
                token = token.with_root(node(root));
            }
            if let Some(secret) = next {
                token = token.next_generation(Secret::new(secret));
            }
            token.with_bootstrap(peers).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn any_token_round_trips(token in any_token()) {
        let text = token.to_text();
        prop_assert!(text.len() < MAX_TOKEN_BYTES);
        prop_assert_eq!(all_of(&Token::parse(&text).unwrap()), all_of(&token));
    }

    #[test]
    fn any_change_is_refused_or_means_the_same(token in any_token(), at: usize, new: char) {
        let text = token.to_text();
        let at = at % text.len();
        let mut changed = text.to_string();
        changed.replace_range(at..=at, &new.to_string());
        if let Ok(read) = Token::parse(&changed) {
            prop_assert_eq!(all_of(&read), all_of(&token));
        }
    }

    #[test]
    fn no_text_panics(text in ".*", body in vec(any::<u8>(), 0..300)) {
        let _ = TokenText::parse(&text);
        let _ = TokenText::parse(&format!("warren1{text}"));
        let _ = TokenText::parse(&sealed(&body));
    }

    #[test]
    fn no_body_that_starts_well_panics(
        token in any_token(), at: usize, bytes in vec(any::<u8>(), 1..40),
    ) {
        let mut body = body(&token);
        let at = at % body.len();
        for (old, new) in body[at..].iter_mut().zip(&bytes) {
            *old = *new;
        }
        if let Ok(read) = Token::parse(&sealed(&body)) {
            // Whatever is accepted has this one text.
            prop_assert_eq!(read.to_text().to_ascii_uppercase(), sealed(&body).to_ascii_uppercase());
        }
    }
}
