//! `warren token new|show|inspect`. The only commands that print a token, because that is what
//! they were asked for; `inspect` never does.

use rand::TryRng;
use rand::rngs::SysRng;
use serde::Serialize;
use warren::mesh::keys::{Interval, NetworkKeys, Secret};
use warren::mesh::token::{Token, TokenKind};
use zeroize::Zeroizing;

use super::args::{TokenCommand, TokenInspectArgs};
use super::fail::Failure;
use super::output::Output;
use crate::config::{Config, read_token_file};

/// Runs a token command.
pub(crate) fn run(command: TokenCommand, config: &Config, output: Output) -> Result<(), Failure> {
    match command {
        TokenCommand::New(_) => new(config, output),
        TokenCommand::Show => show(config, output),
        TokenCommand::Inspect(args) => inspect(&args, output),
    }
}

#[derive(Serialize)]
struct TokenDocument<'a> {
    token: &'a str,
}

fn print(token: &str, output: Output) -> Result<(), Failure> {
    match output.json {
        true => output.document(&TokenDocument { token }),
        false => output.line(token),
    }
}

/// Intervals of a new network: of its crypto and of its discovery epochs.
pub(crate) fn intervals(config: &Config) -> Result<(Interval, Interval), Failure> {
    let set = &config.set;
    let crypto = interval(set.otp_interval, Interval::DEFAULT_CRYPTO, "--otp-interval")?;
    let discovery = interval(
        set.dht_interval,
        Interval::DEFAULT_DISCOVERY,
        "--dht-interval",
    )?;
    Ok((crypto, discovery))
}

fn new(config: &Config, output: Output) -> Result<(), Failure> {
    let (crypto, discovery) = intervals(config)?;
    let mut secret = Zeroizing::new([0; 32]);
    SysRng.try_fill_bytes(secret.as_mut()).map_err(|reason| {
        Failure::failed(
            "random",
            format!("the system gives no random bytes: {reason}"),
        )
    })?;
    let token = Token::new(Secret::new(*secret), crypto.seconds(), discovery.seconds())?;
    print(&token.to_text(), output)
}

fn interval(given: Option<u64>, default: Interval, flag: &str) -> Result<Interval, Failure> {
    let Some(seconds) = given else {
        return Ok(default);
    };
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    Interval::new(seconds).map_err(|e| Failure::usage(format!("{flag}: {e}")))
}

/// The running daemon's token names addresses; the stored one may not.
fn show(config: &Config, output: Output) -> Result<(), Failure> {
    #[cfg(feature = "p2p")]
    if let Some(token) = super::online::running_token(config)? {
        return print(&token, output);
    }
    let path = config.data_dir()?.join(super::TOKEN_FILE);
    if !path.exists() {
        let dir = config.data_dir()?.display();
        return Err(
            Failure::failed("not_found", format!("no token is stored in {dir}"))
                .hint("`warren up` founds a network, `warren join TOKEN` joins one"),
        );
    }
    print(read_token_file(&path)?.expose(), output)
}

#[derive(Serialize)]
struct Inspected {
    kind: &'static str,
    network: String,
    dht_interval_s: u32,
    otp_interval_s: u32,
    bootstrap: Vec<String>,
}

fn inspect(args: &TokenInspectArgs, output: Output) -> Result<(), Failure> {
    let text = match args.text.expose() {
        "-" => read_token_file("-".as_ref())?,
        _ => args.text.clone(),
    };
    let token = Token::parse(text.expose())?;
    let inspected = Inspected {
        kind: token.kind().as_str(),
        network: NetworkKeys::new(&token).fingerprint(),
        dht_interval_s: token.discovery_interval().seconds(),
        otp_interval_s: token.crypto_interval().seconds(),
        bootstrap: token.bootstrap().iter().map(ToString::to_string).collect(),
    };
    if output.json {
        return output.document(&inspected);
    }
    output.line(format!("kind          {}", inspected.kind))?;
    output.line(format!("network       {}", inspected.network))?;
    output.line(format!("dht interval  {} s", inspected.dht_interval_s))?;
    output.line(format!("otp interval  {} s", inspected.otp_interval_s))?;
    match inspected.bootstrap.as_slice() {
        [] => output.line("bootstrap     none: name a first node with --connect")?,
        nodes => {
            for node in nodes {
                output.line(format!("bootstrap     {node}"))?;
            }
        }
    }
    if token.kind() == TokenKind::LocalAi {
        output.line(LOCALAI_NOTE)?;
    }
    Ok(())
}

/// What a LocalAI token does not do (DESIGN §3).
pub(crate) const LOCALAI_NOTE: &str = "This is a LocalAI token. It makes a network of warren nodes of its own: LocalAI's processes \
     speak libp2p and do not join it. It names no address: the first node is reached with \
     --connect HOST:PORT.";
