//! What strangers post to an explorer: whatever it is, the answer is one of the texts that are
//! promised, and what is accepted is within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::formats::network_add::{MAX_BODY_BYTES, NetworkAdd};
use warren::mesh::networks::{MAX_BOOTSTRAP, MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES};
use warren::mesh::token::TokenText;

fuzz_target!(|data: &[u8]| {
    match NetworkAdd::read(data) {
        Err(fault) => {
            let said = fault.to_string();
            assert!(matches!(fault.status(), 400 | 413), "{said}");
            // It goes to a stranger as it is: nothing of the body may be in it.
            assert!(said.len() < 40 && said.is_ascii(), "{said}");
            assert_eq!(NetworkAdd::read(data).err(), Some(fault));
        }
        Ok(asked) => {
            assert!(data.len() <= MAX_BODY_BYTES);
            assert!((1..=MAX_NAME_BYTES).contains(&asked.name.len()));
            assert!((1..=MAX_DESCRIPTION_BYTES).contains(&asked.description.len()));
            assert!(asked.bootstrap.len() <= MAX_BOOTSTRAP);
            assert!(asked.bootstrap.iter().all(|at| at.port() != 0));
            assert!(TokenText::parse(&asked.token).is_ok());
        }
    }
});
