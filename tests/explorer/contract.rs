//! `schema/explorer.openapi.json` against the running server: every path, status and shape that it
//! documents is provoked and checked, and nothing is answered that it does not document.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use jsonschema::Validator;

use super::*;

const DOCUMENT: &str = include_str!("../../schema/explorer.openapi.json");
/// What takes a broken disk, twenty seconds, or the moment of the end to see.
const NOT_PROVOKED: [(&str, &str, &str); 3] = [
    ("/network/add", "post", "408"),
    ("/network/add", "post", "500"),
    ("/readyz", "get", "503"),
];

/// What is documented, and what of it was seen.
struct Contract {
    document: Value,
    closed: Value,
    seen: BTreeSet<(String, String, String)>,
}

impl Contract {
    fn new() -> Self {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut closed = document["components"].clone();
        closed::close(&mut closed);
        Self {
            document,
            closed,
            seen: BTreeSet::new(),
        }
    }

    /// What a reference leads to.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => self.document.pointer(to.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    fn validator(&self, schema: &Value) -> Validator {
        let schema = json!({"allOf": [schema], "components": self.closed});
        jsonschema::validator_for(&schema).unwrap()
    }

    /// Notes that an answer came, and checks it.
    fn check(&mut self, path: &str, method: &str, answer: &Answer) {
        let status = answer.status.to_string();
        let operation = &self.document["paths"][path][method];
        let documented = &operation["responses"][&status];
        assert!(
            !documented.is_null(),
            "{method} {path} answers {status}: {}",
            answer.text()
        );
        let documented = self.resolve(documented);
        if let Some(headers) = documented["headers"].as_object() {
            for name in headers.keys() {
                assert!(
                    answer.header(name).is_some(),
                    "{method} {path} {status}: no {name}"
                );
            }
        }
        match documented["content"].as_object() {
            None => assert!(answer.body.is_empty(), "{method} {path} {status}"),
            Some(content) => {
                let kind = answer.header("content-type").unwrap();
                let kind = kind.split(';').next().unwrap();
                let media = content
                    .get(kind)
                    .unwrap_or_else(|| panic!("{path}: {kind}"));
                let body = match kind {
                    "application/json" => answer.json(),
                    _ => json!(answer.text()),
                };
                let what = format!("{method} {path} {status}");
                closed::assert_valid(&self.validator(&media["schema"]), &what, &body);
            }
        }
        self.seen
            .insert((path.to_owned(), method.to_owned(), status));
    }

    /// Everything documented that was not seen.
    fn missing(&self) -> Vec<(String, String, String)> {
        let mut missing = Vec::new();
        for (path, item) in self.document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for status in operation["responses"].as_object().unwrap().keys() {
                    let one = (path.clone(), method.clone(), status.clone());
                    let (p, m, s) = (path.as_str(), method.as_str(), status.as_str());
                    if !self.seen.contains(&one) && !NOT_PROVOKED.contains(&(p, m, s)) {
                        missing.push(one);
                    }
                }
            }
        }
        missing
    }
}

#[test]
fn the_server_keeps_to_its_document() {
    let board = Board::with(&["--add-rate", "0.01"]);
    let mut contract = Contract::new();
    board.import(&json!({ new_token(): with_workers("garage", "federated", "my_net", 2) }));
    let page = board.get_with("/", "Accept: text/html\r\n");
    contract.check("/", "get", &page);
    contract.check("/", "get", &board.get_with("/", "Accept: */*\r\n"));
    for path in [
        "/favicon.svg",
        "/static/explorer.css",
        "/static/explorer.js",
        "/networks",
        "/api/v1/networks",
        "/api/v1/openapi.json",
    ] {
        see_with_tag(&mut contract, &board, path, path, "");
    }
    see_with_tag(&mut contract, &board, "/", "/", "Accept: text/html\r\n");
    let key = board.networks("")["networks"][0]["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let one = "/api/v1/networks/{fingerprint}";
    see_with_tag(
        &mut contract,
        &board,
        one,
        &format!("/api/v1/networks/{key}"),
        "",
    );
    contract.check(one, "get", &board.get("/api/v1/networks/aaaaaaaaaaaaaaaa"));
    contract.check(one, "get", &board.get("/api/v1/networks/x"));
    contract.check(
        "/api/v1/networks",
        "get",
        &board.get("/api/v1/networks?limit=x"),
    );
    for path in ["/livez", "/readyz", "/metrics"] {
        contract.check(path, "get", &board.get(path));
    }
    adds(&mut contract, &board);
    let searched = (0..200)
        .map(|_| board.get("/api/v1/networks?q=x"))
        .find(|a| a.status == 429);
    contract.check("/api/v1/networks", "get", &searched.unwrap());
    events(&mut contract, &board);
    assert_eq!(contract.missing(), []);
    assert_eq!(board.get("/api/v1/openapi.json").text(), DOCUMENT);
}

/// Asks twice: the second time with the tag of the first.
fn see_with_tag(
    contract: &mut Contract,
    board: &Board,
    documented: &str,
    path: &str,
    headers: &str,
) {
    let first = board.get_with(path, headers);
    contract.check(documented, "get", &first);
    let tag = first.header("etag").unwrap();
    let again = board.get_with(path, &format!("{headers}If-None-Match: {tag}\r\n"));
    assert_eq!(again.status, 304, "{path}");
    contract.check(documented, "get", &again);
}

fn adds(contract: &mut Contract, board: &Board) {
    let path = "/network/add";
    let good = json!({"token": new_token(), "name": "n", "description": "d"});
    contract.check(path, "post", &board.add(&good));
    contract.check(path, "post", &board.add(&good));
    contract.check(path, "post", &board.post(&vec![b' '; 70_000]));
    let other_page = format!("{JSON}Sec-Fetch-Site: cross-site\r\n");
    let answer = http::post_with(board.at, path, &other_page, b"{}".to_vec());
    contract.check(path, "post", &answer.unwrap());
    let often = (0..200)
        .map(|_| board.post(b"{}"))
        .find(|answer| answer.status == 429);
    contract.check(path, "post", &often.unwrap());
}

/// A client that follows changes.
struct Following(BufReader<TcpStream>);

impl Following {
    fn start(board: &Board) -> Self {
        let mut stream = http::connect(board.at).unwrap();
        let ask = http::head("GET", "/api/v1/events", "");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        stream.read_line(&mut head).unwrap();
        assert!(head.contains(" 200 "), "{head}");
        Self(stream)
    }

    /// The next event: its name, and its data.
    fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.0.read_line(&mut line).unwrap(),
                0,
                "the stream has ended"
            );
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }
}

fn events(contract: &mut Contract, board: &Board) {
    let path = "/api/v1/events";
    let media = &contract.document["paths"][path]["get"]["responses"]["200"]["content"];
    let schema = contract.validator(&media["text/event-stream"]["schema"]);
    let mut following = Following::start(board);
    let mut next = |kind: &str| {
        let (name, data) = following.next();
        closed::assert_valid(&schema, "an event", &data);
        assert_eq!(
            (name.as_str(), &data["event"]),
            (kind, &json!(kind)),
            "{data}"
        );
        data
    };
    assert_eq!(next("networks")["total"], 2);
    board.import(&json!({ new_token(): with_workers("another", "worker", "", 1) }));
    let added = next("network");
    assert_eq!(added["network"]["name"], "another");
    let key = added["network"]["fingerprint"].as_str().unwrap().to_owned();
    board.tokens(&["rm", &key]);
    assert_eq!(next("network_removed")["fingerprint"], json!(key));
    let one = (path.to_owned(), "get".to_owned(), "200".to_owned());
    contract.seen.insert(one);

    let _more: Vec<Following> = (1..256).map(|_| Following::start(board)).collect();
    contract.check(path, "get", &board.get(path));
}
