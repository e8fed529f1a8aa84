//! Tokens, as anybody may paste or post them. The input is read three ways: as the text itself,
//! and past the two outer layers a mutation would never get through, as the YAML of a LocalAI
//! token and as the body of a native one.
#![no_main]

use aws_lc_rs::digest;
use data_encoding::{BASE32_NOPAD, BASE64};
use libfuzzer_sys::fuzz_target;
use warren::formats::localai::LocalAiToken;
use warren::mesh::token::{NATIVE_PREFIX, Token, TokenText};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        check(TokenText::parse(text).ok());
    }
    check(TokenText::parse(&BASE64.encode(data)).ok());
    check(TokenText::parse(&native(data)).ok());
});

fn native(body: &[u8]) -> String {
    let labelled = [b"warren/1 token\0", body].concat();
    let sum = digest::digest(&digest::SHA256, &labelled);
    let bytes = [body, &sum.as_ref()[..4]].concat();
    format!(
        "{NATIVE_PREFIX}{}",
        BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
    )
}

fn check(token: Option<TokenText>) {
    match token {
        Some(TokenText::Native(token)) => {
            let again = Token::parse(&token.to_text()).expect("what was read can be written");
            assert!(token.same_network(&again));
            assert_eq!(token.bootstrap(), again.bootstrap());
        }
        // Its secret costs 64 MiB and is derived from exactly these bytes.
        Some(TokenText::LocalAi(token)) => {
            let again = LocalAiToken::parse(token.text()).expect("the text that was read");
            assert_eq!(*token.key_material(), *again.key_material());
        }
        None => {}
    }
}
