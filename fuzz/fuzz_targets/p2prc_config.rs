//! Configurations of P2PRC: the path in one is text that a file can have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::formats::p2prc_config::table_path;

fuzz_target!(|data: &[u8]| match table_path(data) {
    Ok(path) => assert!(!path.is_empty() && !path.contains('\0')),
    Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
});
