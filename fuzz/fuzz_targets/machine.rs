//! What a member tells of a machine: the key up to the first line end, then the value. What is
//! taken can be told again in the same words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::mesh::entry::{Class, Draft, Entry, NetworkId};
use warren::mesh::id::Identity;
use warren::mesh::ip_table::shared::{BUCKET, to_entry, told};

fuzz_target!(|data: &[u8]| {
    let end = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (key, value) = data.split_at(end);
    let Ok(key) = std::str::from_utf8(key) else {
        return;
    };
    let entry = |key: &str, value: &[u8]| {
        let draft = Draft {
            bucket: BUCKET.parse().expect("a bucket"),
            key: key.to_owned(),
            class: Class::Durable,
            version: 1,
            boot: 0,
            deleted: false,
            value: value.to_vec(),
        };
        Entry::sign(NetworkId([1; 16]), &Identity::from_seed(&[2; 32]), draft)
    };
    let Ok(given) = entry(key, value.get(1..).unwrap_or_default()) else {
        return;
    };
    let Some(machine) = told(&given) else {
        return;
    };
    let Some((key, value)) = to_entry(&machine.row) else {
        return;
    };
    let again = told(&entry(&key, &value).expect("what was short is short")).expect("it was told");
    assert_eq!(again.row, machine.row);
});
