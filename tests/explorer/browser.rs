//! The page in a browser: Chromium without a screen, driven by chromedriver. Where there is none
//! the tests say so and pass, unless `WARREN_BROWSER=1` asks for it. `WARREN_AXE` names `axe.js`,
//! which looks for what people with disabilities would stumble over.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;

use super::common::DEADLINE;
use super::*;

/// chromedriver on a port of its own; killed with everything that it started.
struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    /// `None` where there is none, and none is asked for.
    fn start() -> Option<Self> {
        let mut command = Command::new("chromedriver");
        // Chromium does not outlive it, nor does its profile: both are in its directory.
        let spawned = command
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let asked = std::env::var_os("WARREN_BROWSER").is_some();
                assert!(!asked, "chromedriver does not run: {error}");
                eprintln!("skipped: the page was not opened, chromedriver does not run: {error}");
                return None;
            }
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        Some(Self {
            port: port.expect("chromedriver names no port"),
            child,
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What chromedriver has beyond the standard: DevTools' commands, and what it has logged.
#[derive(Debug)]
struct Beyond {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Beyond {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (::http::Method, Option<String>) {
        (::http::Method::POST, Some(self.body.to_string()))
    }
}

/// A window, and the explorer that it looks at.
struct Window {
    client: Client,
    board: Board,
}

/// Runs a test with a window of that width.
fn in_browser<F: Future<Output = Window>>(width: u32, test: impl FnOnce(Window) -> F) {
    let Some(driver) = Driver::start() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = json!({
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking", "--no-first-run",
            ]},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        });
        let Value::Object(options) = options else {
            unreachable!()
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(options)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .unwrap();
        let script = Some(DEADLINE);
        let timeouts = TimeoutConfiguration::new(script, script, None);
        client.update_timeouts(timeouts).await.unwrap();
        let window = Window {
            client,
            board: Board::with(&["--add-rate", "off"]),
        };
        window.width(width).await;
        let window = test(window).await;
        window.client.close().await.unwrap();
    });
}

impl Window {
    async fn beyond(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Beyond { path, body }).await.unwrap()
    }

    /// Widths that no window would have are emulated.
    async fn width(&self, width: u32) {
        let params =
            json!({"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": false});
        let cmd = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": params});
        self.beyond("goog/cdp/execute", cmd).await;
    }

    async fn dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let params = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        let cmd = json!({"cmd": "Emulation.setEmulatedMedia", "params": params});
        self.beyond("goog/cdp/execute", cmd).await;
    }

    async fn open(&self) {
        self.client
            .goto(&format!("http://{}/", self.board.at))
            .await
            .unwrap();
        self.shows("#live", "live").await;
    }

    async fn js(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Waits until an element has a text in it.
    async fn shows(&self, selector: &str, text: &str) {
        let script = format!(
            "return document.querySelector({})?.textContent ?? ''",
            json!(selector)
        );
        self.waits(&format!("{selector} shows {text:?}"), &script, |said| {
            said.as_str().is_some_and(|said| said.contains(text))
        })
        .await;
    }

    async fn waits(&self, what: &str, script: &str, holds: impl Fn(&Value) -> bool) {
        let looking = async {
            while !holds(&self.js(script).await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, looking).await;
        assert!(
            found.is_ok(),
            "waited in vain: {what}; it is {}",
            self.js(script).await
        );
    }

    /// Writes into the form and sends it.
    async fn submits(&self, name: &str, description: &str, token: &str) {
        for (id, text) in [
            ("name", name),
            ("description", description),
            ("token", token),
        ] {
            let field = self.client.find(Locator::Id(id)).await.unwrap();
            field.clear().await.unwrap();
            field.send_keys(text).await.unwrap();
        }
        self.client
            .find(Locator::Id("submit"))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
    }

    async fn click(&self, selector: &str) {
        self.client
            .find(Locator::Css(selector))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
    }

    /// What axe finds wrong with the page as it is.
    async fn axe(&self) {
        let Some(source) = axe() else { return };
        self.js(&source).await;
        let run = "const done = arguments[0]; axe.run().then(
            (found) => done(found.violations.map((v) => [v.id, v.nodes.map((n) => n.html + ' ' + n.failureSummary)])),
            (error) => done(String(error)))";
        let found = self.client.execute_async(run, Vec::new()).await.unwrap();
        assert_eq!(found, json!([]), "{found:#}");
    }

    /// Every address that the page asked for, and what the browser complained of.
    async fn logged(&self) -> (Vec<String>, Vec<String>) {
        let mut asked = Vec::new();
        for line in self.log("performance").await {
            let message: Value = serde_json::from_str(&line).unwrap();
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                let url = &message["params"]["request"]["url"];
                asked.push(url.as_str().unwrap().to_owned());
            }
        }
        (asked, self.log("browser").await)
    }

    async fn log(&self, kind: &str) -> Vec<String> {
        let lines = self.beyond("se/log", json!({ "type": kind })).await;
        let lines = lines.as_array().unwrap().iter();
        lines
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// `None` where nobody said where it is.
fn axe() -> Option<String> {
    let Some(path) = std::env::var_os("WARREN_AXE") else {
        let asked = std::env::var_os("WARREN_BROWSER").is_some();
        assert!(
            !asked,
            "WARREN_AXE must name axe.js of the npm package axe-core"
        );
        eprintln!("skipped: WARREN_AXE does not name axe.js of the npm package axe-core");
        return None;
    };
    Some(std::fs::read_to_string(Path::new(&path)).unwrap())
}

#[test]
fn networks_are_added_in_the_page() {
    in_browser(1280, async |window| {
        window.open().await;
        window.shows("#empty", "No networks yet.").await;
        window.click("#toggle").await;
        window.click("#submit").await;
        window.shows("#said", "All fields are required.").await;
        let focused = window.js("return document.activeElement.id").await;
        assert_eq!(focused, "name");
        window.submits("garage", "three boxes", "no token").await;
        let failed = "Failed to add network. Please try again. Error: ";
        window
            .shows("#said", &format!("{failed}Invalid token"))
            .await;

        let token = new_token();
        window.submits("garage", "three boxes", &token).await;
        window.shows("#said", "Network added successfully!").await;
        window.shows("#list h3", "garage").await;
        window.axe().await;
        window.submits("garage again", "the same", &token).await;
        window
            .shows("#said", &format!("{failed}Token already exists"))
            .await;

        // A token that is not to be shown is not.
        window.click("#publish").await;
        window.submits("cellar", "a secret one", &new_token()).await;
        window.shows("#said", "Network added successfully!").await;
        window
            .waits(
                "two cards",
                "return document.querySelectorAll('article').length",
                |n| n == 2,
            )
            .await;
        window
            .js("document.querySelectorAll('article .join > button').forEach((b) => b.click())")
            .await;
        window
            .waits(
                "both are open",
                "return document.querySelector('#list').textContent",
                |text| {
                    let text = text.as_str().unwrap();
                    text.contains(&format!("WARREN_TOKEN={token} warren up"))
                        && text.contains("is not published")
                },
            )
            .await;
        window.axe().await;
        window
    });
}

#[test]
fn the_page_follows_what_happens() {
    in_browser(1280, async |window| {
        window.open().await;
        window.board.added("elsewhere");
        window.shows("#list h3", "elsewhere").await;
        let key = window.board.networks("")["networks"][0]["fingerprint"].clone();
        let key = key.as_str().unwrap();
        // What is open and what has the focus stays so while the card changes.
        window.click("article .join > button").await;
        window.shows(".command + .command", "WARREN_TOKEN=").await;
        window.board.tokens(&["edit", key, "--name", "renamed"]);
        window.shows("#list h3", "renamed").await;
        window.shows(".command + .command", "WARREN_TOKEN=").await;
        let focused = window.js("return document.activeElement.tagName").await;
        assert_eq!(focused, "BUTTON");
        window.board.tokens(&["rm", key]);
        window.shows("#empty", "No networks yet.").await;
        window
    });
}

#[test]
fn what_strangers_say_is_text() {
    const EVIL: [&str; 5] = [
        "<script>window.pwned=1</script>",
        "<img src=x onerror=window.pwned=1>",
        "\"><svg onload=window.pwned=1>",
        "javascript:window.pwned=1",
        "'-window.pwned=1-'{{constructor.constructor('window.pwned=1')()}}",
    ];
    in_browser(1280, async |window| {
        let rows = EVIL.iter().map(|evil| {
            let mut row = with_workers(evil, "federated", evil, 1);
            row["description"] = json!(evil);
            (new_token(), row)
        });
        window.board.import(&Value::Object(rows.collect()));
        window.open().await;
        window
            .waits(
                "all cards",
                "return document.querySelectorAll('article').length",
                |n| n == 5,
            )
            .await;
        window
            .js("document.querySelectorAll('article .join > button').forEach((b) => b.click())")
            .await;
        window
            .waits(
                "all are open",
                "return document.querySelectorAll('.command').length",
                |n| n.as_u64() >= Some(5),
            )
            .await;
        let page = window
            .js("return document.querySelector('#list').textContent")
            .await;
        for evil in EVIL {
            assert!(
                page.as_str().unwrap().contains(evil),
                "{evil} is not shown as it is"
            );
        }
        assert_eq!(window.js("return window.pwned ?? null").await, Value::Null);
        let made = "return document.querySelectorAll('#list script, #list img, #list svg, #list a').length";
        assert_eq!(window.js(made).await, 0);
        let (asked, complaints) = window.logged().await;
        let own = format!("http://{}/", window.board.at);
        let outside: Vec<&String> = asked.iter().filter(|url| !url.starts_with(&own)).collect();
        assert!(outside.is_empty() && asked.len() >= 5, "{asked:?}");
        assert!(complaints.is_empty(), "{complaints:?}");
        window
    });
}

/// Ten thousand networks, of which two hundred have workers.
#[test]
fn many_networks_are_shown_a_page_at_a_time() {
    in_browser(1280, async |window| {
        let rows = (0..10_000).map(|n| {
            let row = match n % 50 {
                0 => with_workers(&format!("net {n}"), "federated", "", 1 + n / 50),
                _ => json!({"name": format!("net {n}"), "description": "d", "Clusters": null, "Failures": 0}),
            };
            (new_token(), row)
        });
        window.board.import(&Value::Object(rows.collect()));
        window.open().await;
        window
            .shows("#total", "10,000 networks, 200 with workers")
            .await;
        window.shows("#list h3", "net 9950").await;
        let cards = "return document.querySelectorAll('article').length";
        assert_eq!(window.js(cards).await, 24);
        window.shows("#page", "Page 1 of 417").await;
        window.click("#next").await;
        window.shows("#page", "Page 2 of 417").await;
        window.shows("#list h3", "net 8750").await;
        let search = window.client.find(Locator::Id("search")).await.unwrap();
        search.send_keys("NET 123").await.unwrap();
        window.shows("#total", "11 of 10,000 networks").await;
        window.js("const s = document.getElementById('show'); s.value = 'online'; s.dispatchEvent(new Event('change'))").await;
        window.shows("#empty", "No network matches.").await;
        window
    });
}

#[test]
fn every_width_and_scheme_can_be_used() {
    in_browser(320, async |window| {
        let long = "x".repeat(250);
        window.board.import(&json!({
            new_token(): with_workers(&long, "federated", &long[..63], 3),
            new_token(): with_workers("garage", "mlx_worker", "my_net", 1),
        }));
        for (width, dark) in [(320, false), (320, true), (1280, true), (3840, false)] {
            window.width(width).await;
            window.dark(dark).await;
            window.open().await;
            window.shows("#list h3", "x").await;
            window.click("#toggle").await;
            window
                .js("document.querySelectorAll('article .join > button').forEach((b) => b.click())")
                .await;
            window
                .waits(
                    "all are open",
                    "return document.querySelectorAll('.command').length",
                    |n| n.as_u64() >= Some(4),
                )
                .await;
            let wide = window
                .js("return [document.documentElement.scrollWidth, innerWidth]")
                .await;
            assert!(
                wide[0].as_u64() <= wide[1].as_u64(),
                "it scrolls sideways at {width}: {wide}"
            );
            window.axe().await;
        }
        window
    });
}

/// Without a mouse: from the top to an open card.
#[test]
fn the_keyboard_reaches_everything() {
    in_browser(1280, async |window| {
        window.board.added("garage");
        window.open().await;
        window.shows("#list h3", "garage").await;
        let mut reached = Vec::new();
        for _ in 0..12 {
            let body = window.client.active_element().await.unwrap();
            body.send_keys("\u{e004}").await.unwrap();
            let label = "const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.textContent";
            let label = window.js(label).await;
            if label == "How to join garage" {
                break;
            }
            reached.push(label);
        }
        let ids: Vec<&str> = reached.iter().filter_map(Value::as_str).collect();
        assert_eq!(
            ids,
            ["Skip to the networks", "toggle", "search", "show", "sort"]
        );
        let button = window.client.active_element().await.unwrap();
        button.send_keys("\u{e007}").await.unwrap();
        window.shows(".command + .command", "WARREN_TOKEN=").await;
        window
    });
}
