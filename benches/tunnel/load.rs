//! The loads, and how each is read from the program that makes it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::place::Place;
use crate::process::{Process, on_path, output, until};
use crate::servers::FILE;
use crate::{fair, idle, print};

/// As many as LocalAI's balancer was measured with.
const CLIENTS: &str = "64";
/// How many requests the time to the first byte is taken from, one after another.
const FIRST_BYTES: usize = 300;
/// What a load may take beyond its time, and a single answer altogether.
const GRACE: Duration = Duration::from_secs(10);
/// A try at a tunnel that is not up yet.
const TRY: Duration = Duration::from_secs(3);
/// With this argument the benchmark is the client that takes the time to the first byte.
pub(crate) const FIRST_BYTE_ROLE: &str = "first-byte";
const GIGABYTE: f64 = 1e9;
const REQUESTS: f64 = 1e4;
/// Makes wrk print what `--latency` leaves out.
const WRK_SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\n{"requests":%d,"us":%d,"p50":%d,"p99":%d,"p999":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// Loads with one target, and one instance of each tunnel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Bulk,
    Requests,
    Fairness,
    Idle,
}

impl Group {
    pub(crate) const ALL: &[Self] = &[Self::Bulk, Self::Requests, Self::Fairness, Self::Idle];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Requests => "requests",
            Self::Fairness => "fairness",
            Self::Idle => "idle",
        }
    }
}

/// One load.
pub(crate) struct Load {
    /// Its measures are `KEY.…` in the report.
    pub(crate) key: &'static str,
    pub(crate) group: Group,
    what: What,
}

enum What {
    Transfer { streams: &'static str, down: bool },
    FirstByte,
    Requests { keep_alive: bool },
    Fair,
    Idle,
}

/// In the order in which they run.
pub(crate) const ALL: &[Load] = &[
    transfer("up_1", "1", false),
    transfer("up_8", "8", false),
    transfer("down_1", "1", true),
    transfer("down_8", "8", true),
    Load {
        key: "first_byte",
        group: Group::Requests,
        what: What::FirstByte,
    },
    requests("keep_alive", true),
    requests("close", false),
    Load {
        key: "fair",
        group: Group::Fairness,
        what: What::Fair,
    },
    Load {
        key: "tunnels",
        group: Group::Idle,
        what: What::Idle,
    },
];

const fn transfer(key: &'static str, streams: &'static str, down: bool) -> Load {
    Load {
        key,
        group: Group::Bulk,
        what: What::Transfer { streams, down },
    }
}

const fn requests(key: &'static str, keep_alive: bool) -> Load {
    Load {
        key,
        group: Group::Requests,
        what: What::Requests { keep_alive },
    }
}

/// What a load came to.
pub(crate) struct Outcome {
    /// Measures by name, without the load's key.
    pub(crate) measures: Vec<(&'static str, f64)>,
    /// How many units of work were done, and the name of the CPU seconds that one costs.
    pub(crate) work: Option<(&'static str, f64)>,
    /// Who keeps connections open that are to be seen in the tunnel's memory.
    pub(crate) keeper: Option<Process>,
}

impl Outcome {
    fn of(measures: Vec<(&'static str, f64)>) -> Self {
        Self {
            measures,
            work: None,
            keeper: None,
        }
    }
}

impl Load {
    /// Puts the load on `entry` from the near end.
    pub(crate) fn run(
        &self,
        place: &Place,
        entry: SocketAddr,
        time: Duration,
        dir: &Path,
    ) -> Result<Outcome> {
        match self.what {
            What::Transfer { streams, down } => {
                let mut command = iperf(place, entry, dir)?;
                command.args(["-J", "-P", streams, "-t", &time.as_secs().to_string()]);
                if down {
                    command.arg("-R");
                }
                // The server may not have noticed yet that the client before this one is through.
                until("iperf3's server to be free", GRACE, || {
                    transferred(&output(&mut command, time + GRACE)?)
                })
            }
            What::FirstByte => {
                let answer = output(
                    &mut first_byte(place, entry, FIRST_BYTES, dir)?,
                    time + GRACE,
                )?;
                let answer: Value = serde_json::from_str(&answer)?;
                Ok(Outcome::of(vec![
                    ("p50_ms", number(&answer["p50_ms"])?),
                    ("p99_ms", number(&answer["p99_ms"])?),
                ]))
            }
            What::Requests { keep_alive } => Client::found()?.run(
                place,
                &format!("http://{entry}{FILE}"),
                keep_alive,
                time,
                dir,
            ),
            What::Fair => {
                let mut client = fair::client(place, entry, time, dir)?;
                let answer = output(&mut client, time * fair::PARTS + GRACE)?;
                let answer: Value = serde_json::from_str(&answer)?;
                let measures = fair::MEASURES.iter();
                let measures = measures.map(|name| Ok((*name, number(&answer[name])?)));
                Ok(Outcome::of(measures.collect::<Result<_>>()?))
            }
            What::Idle => {
                let client = idle::client(place, entry, idle::CONNECTIONS, dir)?;
                let mut keeper = Process::start("idle-client", client, dir)?;
                let answer: Value =
                    keeper.line(idle::PATIENCE, |line| serde_json::from_str(line).ok())?;
                Ok(Outcome {
                    keeper: Some(keeper),
                    ..Outcome::of(vec![("open", number(&answer["open"])?)])
                })
            }
        }
    }
}

/// Waits until the server behind `entry` answers a client at the near end; `check` may give up.
pub(crate) fn wait_for_answer(
    group: Group,
    place: &Place,
    entry: SocketAddr,
    dir: &Path,
    patience: Duration,
    mut check: impl FnMut() -> Result<()>,
) -> Result<()> {
    until(&format!("an answer at {entry}"), patience, || {
        check()?;
        let mut command = match group {
            Group::Requests => first_byte(place, entry, 1, dir)?,
            Group::Bulk => {
                let mut command = iperf(place, entry, dir)?;
                command.args(["-n", "1K", "--connect-timeout", "1000"]);
                command
            }
            Group::Fairness | Group::Idle => idle::client(place, entry, 1, dir)?,
        };
        Ok(output(&mut command, TRY).ok().map(drop))
    })
}

fn iperf(place: &Place, entry: SocketAddr, dir: &Path) -> Result<Command> {
    let program = crate::process::required("iperf3", "apt install iperf3")?;
    let mut command = place.near.command(&program, dir);
    command
        .args(["-c", &entry.ip().to_string()])
        .args(["-p", &entry.port().to_string()]);
    Ok(command)
}

/// The receiver's figures of an iperf3 run; nothing if its server serves somebody else.
fn transferred(text: &str) -> Result<Option<Outcome>> {
    let report: Value = serde_json::from_str(text)?;
    let error = report["error"].as_str().unwrap_or_default();
    if error.contains("server is busy") {
        return Ok(None);
    }
    let received = &report["end"]["sum_received"];
    let bytes = number(&received["bytes"]).map_err(|_| format!("iperf3 says: {error}"))?;
    Ok(Some(Outcome {
        work: Some(("cpu_s_per_gb", bytes / GIGABYTE)),
        ..Outcome::of(vec![(
            "gbit_s",
            number(&received["bits_per_second"])? / 1e9,
        )])
    }))
}

/// The program that makes many requests.
enum Client {
    Wrk(PathBuf),
    Oha(PathBuf),
}

impl Client {
    fn found() -> Result<Self> {
        if let Some(wrk) = on_path("wrk") {
            return Ok(Self::Wrk(wrk));
        }
        on_path("oha")
            .map(Self::Oha)
            .ok_or_else(|| "neither wrk (apt install wrk) nor oha (cargo install oha)".into())
    }

    fn run(
        &self,
        place: &Place,
        url: &str,
        keep_alive: bool,
        time: Duration,
        dir: &Path,
    ) -> Result<Outcome> {
        let seconds = format!("{}s", time.as_secs());
        match self {
            Self::Wrk(program) => {
                let script = dir.join("wrk.lua");
                fs::write(&script, WRK_SCRIPT)?;
                let mut command = place.near.command(program, dir);
                command
                    .args(["-t", "2", "-c", CLIENTS, "-d", &seconds, "--latency", "-s"])
                    .arg(script);
                if !keep_alive {
                    command.args(["-H", "Connection: close"]);
                }
                command.arg(url);
                wrk_outcome(&output(&mut command, time + GRACE)?)
            }
            Self::Oha(program) => {
                let mut command = place.near.command(program, dir);
                command
                    .args(["--no-tui", "--output-format", "json"])
                    .args(["-z", &seconds, "-c", CLIENTS]);
                if !keep_alive {
                    command.arg("--disable-keepalive");
                }
                command.arg(url);
                oha_outcome(&output(&mut command, time + GRACE)?)
            }
        }
    }
}

fn wrk_outcome(text: &str) -> Result<Outcome> {
    let line = text
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or("wrk printed no result")?;
    let result: Value = serde_json::from_str(line)?;
    let get = |key: &str| number(&result[key]);
    Ok(answered(
        get("requests")?,
        get("us")? / 1e6,
        [get("p50")? / 1e3, get("p99")? / 1e3, get("p999")? / 1e3],
        get("errors")?,
    ))
}

fn oha_outcome(text: &str) -> Result<Outcome> {
    let result: Value = serde_json::from_str(text)?;
    let count = |key: &str| -> f64 {
        result[key]
            .as_object()
            .into_iter()
            .flatten()
            // What was under way when the time was up.
            .filter(|(name, _)| !name.contains("deadline"))
            .filter_map(|(_, count)| count.as_f64())
            .sum()
    };
    let percentile =
        |key: &str| Ok::<_, crate::Failure>(number(&result["latencyPercentiles"][key])? * 1e3);
    Ok(answered(
        count("statusCodeDistribution"),
        number(&result["summary"]["total"])?,
        [percentile("p50")?, percentile("p99")?, percentile("p99.9")?],
        count("errorDistribution"),
    ))
}

fn answered(requests: f64, seconds: f64, [p50, p99, p999]: [f64; 3], errors: f64) -> Outcome {
    Outcome {
        work: Some(("cpu_s_per_10k", requests / REQUESTS)),
        ..Outcome::of(vec![
            ("kreq_s", requests / seconds / 1e3),
            ("p50_ms", p50),
            ("p99_ms", p99),
            ("p999_ms", p999),
            ("errors", errors),
        ])
    }
}

fn number(value: &Value) -> Result<f64> {
    value
        .as_f64()
        .ok_or_else(|| format!("not a number: {value}").into())
}

/// This program again, at the near end, as the client of [`first_byte_role`].
fn first_byte(place: &Place, entry: SocketAddr, count: usize, dir: &Path) -> Result<Command> {
    let mut command = place.near.command(&std::env::current_exe()?, dir);
    command.args([FIRST_BYTE_ROLE, &entry.to_string(), &count.to_string()]);
    Ok(command)
}

/// The client's half: prints one JSON object.
pub(crate) fn first_byte_role(args: &[String]) -> Result<()> {
    let [entry, count] = args else {
        return Err("an address and a count".into());
    };
    let (entry, count) = (entry.parse()?, count.parse::<usize>()?.max(1));
    let mut took = (0..count)
        .map(|_| one_first_byte(entry))
        .collect::<Result<Vec<f64>>>()?;
    took.sort_by(f64::total_cmp);
    print(&json!({
        "p50_ms": took[took.len() / 2],
        "p99_ms": took[(took.len() - 1) * 99 / 100],
    }))
}

/// From `connect` to the first byte of the answer, in milliseconds.
fn one_first_byte(entry: SocketAddr) -> Result<f64> {
    let request = format!("GET {FILE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let start = Instant::now();
    let mut stream = TcpStream::connect(entry)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GRACE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = vec![0; 4096];
    let mut read = stream.read(&mut answer)?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    loop {
        match stream.read(&mut answer[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            // Some tunnels end a connection this way; the answer is whole by then or it is not.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    if answer[..read].starts_with(b"HTTP/1.1 200") {
        Ok(took)
    } else {
        Err(format!("no 200 from {entry}").into())
    }
}
