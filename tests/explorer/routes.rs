//! What LocalAI's clients and ours are answered.

use super::*;

/// LocalAI's order of checks, and its words.
#[test]
fn networks_are_added_as_localai_adds_them() {
    let board = Board::start();
    let token = board.added("garage");
    for (body, status, said) in [
        (json!([]), 400, "Cannot parse JSON"),
        (json!({}), 400, "Token is required"),
        (json!({"token": "x"}), 400, "Name is required"),
        (
            json!({"token": "x", "name": "n"}),
            400,
            "Description is required",
        ),
        (
            json!({"token": "x", "name": "n", "description": "d"}),
            400,
            "Invalid token",
        ),
        (
            json!({"token": token, "name": "n", "description": "d"}),
            400,
            "Token already exists",
        ),
        (
            json!({"token": new_token(), "name": "n".repeat(300), "description": "d"}),
            413,
            "Name is too long",
        ),
        (
            json!({"token": new_token(), "name": "n", "description": "d", "bootstrap": ["x"]}),
            400,
            "Invalid bootstrap",
        ),
    ] {
        let answer = board.add(&body);
        let error = json!({ "error": said });
        assert_eq!((answer.status, answer.json()), (status, error), "{body}");
    }
    assert_eq!(board.networks("")["total"], 1);
}

#[test]
fn a_network_is_there_once_however_its_token_is_spelt() {
    let board = Board::start();
    let localai = include_str!("../fixtures/localai-token.txt").trim();
    let body = |token: &str| json!({"token": token, "name": "n", "description": "d"});
    assert_eq!(board.add(&body(localai)).status, 200);
    let document = data_encoding::BASE64.decode(localai.as_bytes()).unwrap();
    let other = [b"# another spelling\n".as_slice(), &document].concat();
    let answer = board.add(&body(&data_encoding::BASE64.encode(&other)));
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!("Token already exists"))
    );
    let upper = new_token().to_ascii_uppercase();
    assert_eq!(board.add(&body(&upper)).status, 200);
    assert_eq!(board.add(&body(&upper.to_ascii_lowercase())).status, 400);
    assert_eq!(board.networks("")["total"], 2);
}

#[test]
fn the_list_is_localais() {
    let board = Board::start();
    let [one, two, idle] = [(); 3].map(|()| new_token());
    let mut most = with_workers("most", "federated", "", 1);
    let more = json!({"Workers": ["a-b"], "Type": "worker", "NetworkID": "my_net"});
    most["Clusters"].as_array_mut().unwrap().push(more);
    board.import(&json!({
        &one: with_workers("few", "worker", "", 2),
        &two: most,
        &idle: {"name": "idle", "description": "d", "Clusters": null, "Failures": 1},
    }));
    let answer = board.get("/networks");
    let names = |list: &Value| {
        let rows = list.as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&answer.json()), ["most", "few"]);
    let row = &answer.json()[1];
    let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "name",
            "description",
            "Clusters",
            "Failures",
            "token",
            "fingerprint"
        ]
    );
    assert_eq!(row["token"], json!(one));
    let clusters = json!([{
        "Workers": ["host0-AbCdEfGhIj", "host1-AbCdEfGhIj"], "Type": "worker", "NetworkID": "",
    }]);
    assert_eq!(row["Clusters"], clusters);

    // The same again is not sent again, and a change is.
    let tag = answer.header("etag").unwrap().to_owned();
    let again = |tag: &str| board.get_with("/networks", &format!("If-None-Match: {tag}\r\n"));
    let unchanged = again(&tag);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let fingerprint = row["fingerprint"].as_str().unwrap();
    board.tokens(&["rm", fingerprint]);
    assert_eq!(names(&again(&tag).json()), ["most"]);
}

#[test]
fn tokens_are_shown_where_poster_and_operator_agree() {
    let board = Board::start();
    let [public, private] = [(); 2].map(|()| new_token());
    for (token, publish) in [(&public, true), (&private, false)] {
        let body = json!({
            "token": token, "name": "n", "description": "d", "publish_token": publish,
            "bootstrap": ["203.0.113.7:7717"],
        });
        assert_eq!(board.add(&body).status, 200);
    }
    let details = |board: &Board| -> Vec<Value> {
        let rows = board.networks("?sort=added")["networks"].clone();
        let rows = rows.as_array().unwrap().iter();
        let one = |row: &Value| {
            let path = format!("/api/v1/networks/{}", row["fingerprint"].as_str().unwrap());
            board.get(&path).json()
        };
        rows.map(one).collect()
    };
    let all = details(&board);
    let shown = all
        .iter()
        .find(|row| row["token"] == json!(public))
        .unwrap();
    let command = shown["commands"][0]["command"].as_str().unwrap();
    assert_eq!(
        command,
        format!("WARREN_TOKEN={public} warren up --connect 203.0.113.7:7717")
    );
    let kept = all.iter().find(|row| row["token"].is_null()).unwrap();
    assert_eq!(
        (&kept["commands"], &kept["token_published"]),
        (&json!([]), &json!(false))
    );
    let said = format!("{kept}{}", board.get("/networks").text());
    assert!(
        !said.contains(&private) && !said.contains("203.0.113.7"),
        "{said}"
    );

    let (_, home) = board.stop();
    let board = Board::on(home, &["--never-publish-tokens"]);
    let all = details(&board);
    assert!(all.iter().all(|row| row["token"].is_null()), "{all:?}");
    assert!(!board.get("/networks").text().contains(&public));
}

#[test]
fn pages_are_cut_sorted_and_searched() {
    let board = Board::start();
    let rows = (0..7).map(|n| {
        let kind = if n == 6 { "mlx_worker" } else { "federated" };
        (
            new_token(),
            with_workers(&format!("Net {n}"), kind, "my_net", n + 1),
        )
    });
    board.import(&Value::Object(rows.collect()));
    board.added("Idle");
    let names = |query: &str| -> Vec<String> {
        let list = board.networks(query);
        let rows = list["networks"].as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("?limit=2"), ["Net 6", "Net 5"]);
    assert_eq!(names("?limit=2&offset=6"), ["Net 0", "Idle"]);
    assert_eq!(names("?sort=name&limit=1"), ["Idle"]);
    assert_eq!(names("?online=true&sort=name").len(), 7);
    assert_eq!(names("?q=nEt%204"), ["Net 4"]);
    assert_eq!(names("?q=MY_NET").len(), 7);
    assert_eq!(names("?type=mlx_worker"), ["Net 6"]);
    assert_eq!(names("?state=new"), ["Idle"]);
    assert_eq!(names("?offset=100"), Vec::<String>::new());
    let page = board.networks("?limit=3");
    assert_eq!(
        (&page["total"], &page["online"], &page["matching"]),
        (&json!(8), &json!(7), &json!(8))
    );
    for bad in [
        "?sort=size",
        "?state=hidden",
        "?limit=x",
        "?page=2",
        "?type=gpu",
    ] {
        let answer = board.get(&format!("/api/v1/networks{bad}"));
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &json!("usage")),
            "{bad}"
        );
    }
}

#[test]
fn a_proxy_may_show_it_under_a_path_of_its_own() {
    let board = Board::start();
    let under = |path: &str, prefix: &str| {
        let headers = format!("Accept: text/html\r\nX-Forwarded-Prefix: {prefix}\r\n");
        board.get_with(path, &headers)
    };
    for path in ["/", "/explorer", "/explorer/"] {
        let page = under(path, "/explorer");
        assert!(
            page.text().contains("<base href=\"/explorer/\">"),
            "{path}: {}",
            page.text()
        );
    }
    assert_eq!(
        under("/explorer/static/explorer.js", "/explorer").status,
        200
    );
    assert_eq!(under("/explorer/networks", "/explorer").text(), "[]");
    assert_eq!(under("/explorer/networks", "/other").status, 404);
    let injected = under("/", "/\"><script>alert(1)</script>");
    assert!(injected.text().contains("<base href=\"/\">"));
    assert!(!injected.text().contains("alert"));
    let about = board.get_with("/", "X-Forwarded-Prefix: /a/\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: e.example\r\nAccept: */*\r\n");
    assert_eq!(about.json()["BaseURL"], "https://e.example/a/");
}

#[test]
fn what_is_not_there_is_said_as_localai_says_it() {
    let board = Board::start();
    let answer = board.get("/nowhere");
    let error = json!({"error": {"code": 404, "message": "Resource not found", "type": ""}});
    assert_eq!((answer.status, answer.json()), (404, error));
    let page = board.get_with("/nowhere", "Accept: text/html\r\n");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("<h1>Resource not found</h1>"));
    assert_eq!(board.get("/network/add").status, 404);
    assert_eq!(
        http::post(board.at, "/networks", Vec::new())
            .unwrap()
            .status,
        405
    );
    assert_eq!(board.get("/api/v1/networks/aaaaaaaaaaaaaaaa").status, 404);
    assert_eq!(board.get("/api/v1/networks/x").status, 400);
}

#[test]
fn browsers_are_told_to_take_nothing_from_elsewhere() {
    let board = Board::start();
    let page = board.get_with("/", "Accept: text/html\r\n");
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    for outside in ["http:", "https:", "onclick", "onload", "style="] {
        assert!(!page.text().contains(outside), "{outside}");
    }
    let script = board.get("/static/explorer.js");
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!script.text().contains(sink), "{sink}");
    }
}
