//! What strangers send to P2PRC's routes: the first line names the method, the path and the
//! content type, the rest is the body; and what a table does with the rows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use warren::formats::p2prc_http::{Answer, Asked, Route, TableForm, UploadForm, route};
use warren::mesh::ip_table::{Scope, Source, Stranger, Table};

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (line, body) = data.split_at(cut);
    let body = body.get(1..).unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else {
        return;
    };
    let mut words = line.splitn(3, ' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let kind = words.next();
    match route(method, path) {
        Route::To(Asked::Upload) => {
            let whole = upload(kind, [body]);
            // How the bytes are cut into reads must not change what they mean.
            assert_eq!(whole, upload(kind, body.chunks(3)));
            if let Ok((name, bytes)) = whole {
                assert!(name.len() <= 255 && !name.chars().any(char::is_control));
                assert!(bytes <= body.len() as u64);
                assert_eq!(Answer::uploaded(&name).status, 200);
            }
        }
        Route::To(Asked::Table) => {
            let whole = table(kind, [body]);
            assert_eq!(whole, table(kind, body.chunks(3)));
            let Ok(rows) = whole else { return };
            let ip = [9, 9, 9, 9].into();
            for scope in [Scope::Loopback, Scope::Private, Scope::Global] {
                let from = Stranger { ip, scope };
                let mut kept = Table::default();
                let (edits, posted) = kept.post(rows.clone(), from, None, 100);
                assert!(posted.added <= 100 && edits.remove.is_empty());
                kept.apply(edits);
                let told = kept.tell(from, None);
                for row in &told {
                    assert_eq!(row.source, Source::Posted);
                    assert!(row.hosts().all(|host| scope.may_give(host)));
                    assert!(row.carried.public_key.is_empty() && row.carried.kept.is_empty());
                    assert!(row.stated.latency.is_none() && !row.flags.unsafe_mode);
                }
                assert_eq!(Answer::table(told).status, 200);
                // The same again is no news.
                let (edits, _) = kept.post(rows.clone(), from, None, 0);
                kept.apply(edits);
                let (edits, again) = kept.post(rows.clone(), from, None, 0);
                assert_eq!(again.added, 0);
                assert!(edits.put.len() <= rows.len());
            }
        }
        _ => {}
    }
});

fn upload<'a>(
    kind: Option<&str>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(String, u64), String> {
    let read = || {
        let mut form = UploadForm::new(kind)?;
        for piece in pieces {
            form.feed(piece)?;
        }
        form.end()
    };
    read().map_err(|bad| refused(&bad.answer()))
}

fn table<'a>(
    kind: Option<&str>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<warren::mesh::ip_table::Row>, String> {
    let read = || {
        let mut form = TableForm::new(kind)?;
        for piece in pieces {
            form.feed(piece)?;
        }
        form.end()
    };
    read().map_err(|bad| refused(&bad.answer()))
}

/// A refusal's text, which goes to a stranger's terminal.
fn refused(answer: &Answer) -> String {
    assert!((400..500).contains(&answer.status));
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    text
}
