//! `warren bench NODE`.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use warren::Client;
use warren::api::shapes::{Bench, BenchPhase, BenchProgress, BenchRequest};

use super::args::BenchArgs;
use super::fail::Failure;
use super::output::{Output, Table, Tone, plain};

/// Measures, shows how far it is on a terminal, and prints what was found.
pub(crate) async fn run(client: &Client, args: &BenchArgs, output: Output) -> Result<(), Failure> {
    let request = BenchRequest {
        node: args.node.clone(),
        bytes: args.bytes.0,
        time_ms: u64::try_from(args.time.0.as_millis()).unwrap_or(u64::MAX),
    };
    let bar = Bar::new()?;
    let found = client
        .bench(&request, |progress| bar.show(progress))
        .await
        .inspect_err(|_| bar.clear())?;
    bar.clear();
    match output.json {
        true => output.document(&found),
        false => output.table(table(&found)),
    }
}

/// Progress on standard error; nothing where that is no terminal.
struct Bar {
    bar: ProgressBar,
    counting: ProgressStyle,
    bytes: ProgressStyle,
}

impl Bar {
    fn new() -> Result<Self, Failure> {
        let style = |template: &str| {
            let style = ProgressStyle::with_template(template);
            style.map_err(|error| Failure::failed("internal", error.to_string()))
        };
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Ok(Self {
            bar: ProgressBar::with_draw_target(Some(0), target),
            counting: style("{msg:12} {bar:30} {pos}/{len}")?,
            bytes: style("{msg:12} {bar:30} {decimal_bytes} of {decimal_total_bytes}")?,
        })
    }

    fn show(&self, progress: BenchProgress) {
        let (message, style) = match progress.phase {
            BenchPhase::RoundTrip => ("round trips", &self.counting),
            BenchPhase::Download => ("download", &self.bytes),
            BenchPhase::Upload => ("upload", &self.bytes),
        };
        if progress.of == 0 {
            return;
        }
        if self.bar.message() != message {
            self.bar.reset();
            self.bar.set_style(style.clone());
            self.bar.set_message(message);
        }
        self.bar.set_length(progress.of);
        self.bar.set_position(progress.done);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn table(found: &Bench) -> Table {
    let name = found.name.as_ref().map_or("?", |name| name.as_str());
    let row = |what: &str, value: Option<String>, more: String| {
        let value = value.map_or(("unknown".to_owned(), Tone::Faint), |value| plain(&value));
        vec![plain(what), value, (more, Tone::Faint)]
    };
    let transfer = |bytes: Option<u64>, seconds: Option<f64>| match (bytes, seconds) {
        (Some(bytes), Some(seconds)) => format!("{bytes} bytes in {seconds:.2} s"),
        _ => "too little arrived to tell".to_owned(),
    };
    let mbps = |mbps: Option<f64>| mbps.map(|mbps| format!("{mbps:.1} Mbit/s"));
    let ms = |ms: Option<f64>| ms.map(|ms| format!("{ms:.3} ms"));
    let percent = |loss: f64| format!("{:.2} %", loss * 100.0);
    let provoked = found.upload_loss.map(percent);
    let provoked = provoked.map_or_else(String::new, |loss| format!(", {loss} of packets lost"));
    let median = ms(found.latency_median_ms).unwrap_or_default();
    Table {
        header: &["to", "measured", "from"],
        rows: vec![
            row("node", Some(name.to_owned()), found.id.short()),
            row(
                "latency",
                ms(found.latency_ms),
                format!("least of {}, median {median}", found.round_trips),
            ),
            row(
                "loss",
                found.loss.map(percent),
                format!("{} of {} packets", found.packets_lost, found.packets_sent),
            ),
            row(
                "download",
                mbps(found.download_mbps),
                transfer(found.download_bytes, found.download_s),
            ),
            row(
                "upload",
                mbps(found.upload_mbps),
                transfer(found.upload_bytes, found.upload_s) + &provoked,
            ),
        ],
        empty: "",
    }
}
