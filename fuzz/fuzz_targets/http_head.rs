//! What an ingress reads of a request that it must answer itself: the head, then the body's end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::service::head::{MAX_HEAD_BYTES, looks_like_request, parse};
use warren::service::page::Page;

fuzz_target!(|data: &[u8]| {
    // How the bytes are cut into reads must not change what they mean.
    let (first, rest) = data.split_at(data.len() / 2);
    if let Some(early) = looks_like_request(first) {
        assert_eq!(looks_like_request(data), Some(early));
    }
    if let Ok(Some(found)) = parse(first) {
        assert_eq!(parse(data), Ok(Some(found)));
    }

    let Ok(Some((head, used))) = parse(data) else {
        return;
    };
    assert!(used <= data.len().min(MAX_HEAD_BYTES));
    for page in [Page::NoNodes, Page::NodeNotFound] {
        assert!(page.response(&head).starts_with(b"HTTP/1.1 "));
    }
    let (mut whole, mut cut) = (head.body.clone(), head.body);
    whole.feed(&data[used..]);
    for byte in &data[used..] {
        cut.feed(std::slice::from_ref(byte));
    }
    assert_eq!(whole, cut);
    whole.feed(rest);
});
