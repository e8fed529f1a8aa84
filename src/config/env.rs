//! Environment variables: `WARREN_*` for each flag, and LocalAI's names where they have a
//! meaning here. Our own must parse; an unusable value of LocalAI's is a warning, because the
//! same environment also serves LocalAI itself, which reads it more loosely.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{ConfigError, EnvScope, Layer, Notice, multiaddr};

const OWN_PREFIX: &str = "WARREN_";
const LOCALAI_PREFIX: &str = "LOCALAI_P2P_";

/// LocalAI's variables and the settings they are, the first that is set wins
/// (`core/cli/run.go`, `core/cli/federated.go`).
const LOCALAI: &[(&str, &str)] = &[
    ("LOCALAI_P2P_TOKEN", "token"),
    ("P2P_TOKEN", "token"),
    ("LOCALAI_P2P_NETWORK_ID", "network-id"),
    ("P2P_NETWORK_ID", "network-id"),
    ("LOCALAI_P2P_DHT_INTERVAL", "dht-interval"),
    ("P2P_DHT_INTERVAL", "dht-interval"),
    ("LOCALAI_P2P_OTP_INTERVAL", "otp-interval"),
    ("P2P_OTP_INTERVAL", "otp-interval"),
    ("LOCALAI_P2P_LOGLEVEL", "log-level"),
];

/// More of them, read by `federated` only.
const LOCALAI_FEDERATED: &[(&str, &str)] = &[
    ("TOKEN", "token"),
    ("LOCALAI_ADDRESS", "address"),
    ("ADDRESS", "address"),
    ("LOCALAI_RANDOM_WORKER", "random-worker"),
    ("RANDOM_WORKER", "random-worker"),
    ("LOCALAI_TARGET_WORKER", "target-worker"),
    ("TARGET_WORKER", "target-worker"),
];

/// More of them, read by `explorer` only (`core/cli/explorer.go`).
const LOCALAI_EXPLORER: &[(&str, &str)] = &[
    ("LOCALAI_ADDRESS", "address"),
    ("ADDRESS", "address"),
    ("LOCALAI_POOL_DATABASE", "pool-database"),
    ("POOL_DATABASE", "pool-database"),
    ("LOCALAI_CONNECTION_TIMEOUT", "connection-timeout"),
    ("CONNECTION_TIMEOUT", "connection-timeout"),
    (
        "LOCALAI_CONNECTION_ERROR_THRESHOLD",
        "connection-error-threshold",
    ),
    ("CONNECTION_ERROR_THRESHOLD", "connection-error-threshold"),
    ("LOCALAI_WITH_SYNC", "with-sync"),
    ("WITH_SYNC", "with-sync"),
    ("LOCALAI_ONLY_SYNC", "only-sync"),
    ("ONLY_SYNC", "only-sync"),
];

/// LocalAI's lists of libp2p addresses (`core/p2p/p2p.go`).
const MULTIADDRS: &[(&str, &str)] = &[
    ("LOCALAI_P2P_LISTEN_MADDRS", "listen"),
    ("LOCALAI_P2P_BOOTSTRAP_PEERS_MADDRS", "connect"),
    ("LOCALAI_P2P_DHT_ANNOUNCE_MADDRS", "advertise"),
];

/// Accepted, with the reason why nothing needs to be done.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "LOCALAI_P2P_DISABLE_DHT",
        "there is no public DHT here to switch off; nothing is announced outside the network",
    ),
    (
        "LOCALAI_P2P_ENABLE_LIMITS",
        "limits are always on here, whatever this says",
    ),
    (
        "LOCALAI_P2P_LIB_LOGLEVEL",
        "there is no libp2p here; --log-level and WARREN_LOG set the level of every part",
    ),
];

/// LocalAI's names that need no word: p2p is all this program does.
const SILENT: &[&str] = &["LOCALAI_P2P"];

/// What the environment says.
pub(crate) struct EnvLayers {
    /// `WARREN_*`.
    pub(crate) own: Layer,
    /// LocalAI's names.
    pub(crate) localai: Layer,
    /// `WARREN_CONFIG`.
    pub(crate) config: Option<PathBuf>,
    /// What to tell the user.
    pub(crate) notices: Vec<Notice>,
}

/// Reads `vars`.
///
/// # Errors
/// The first `WARREN_*` variable that does not parse.
pub(crate) fn read(
    vars: &BTreeMap<String, String>,
    scope: EnvScope,
) -> Result<EnvLayers, ConfigError> {
    let mut notices = Vec::new();
    let own = read_own(vars, &mut notices)?;
    let mut localai = Layer::default();
    read_localai(vars, LOCALAI, &mut localai, &mut notices);
    let more = match scope {
        EnvScope::Prefixed => &[][..],
        EnvScope::Federated => LOCALAI_FEDERATED,
        EnvScope::Explorer => LOCALAI_EXPLORER,
    };
    read_localai(vars, more, &mut localai, &mut notices);
    read_multiaddrs(vars, &mut localai, &mut notices);
    explain(vars, &mut notices);
    let config = vars.get("WARREN_CONFIG").filter(|path| !path.is_empty());
    Ok(EnvLayers {
        own,
        localai,
        config: config.map(PathBuf::from),
        notices,
    })
}

fn read_own(
    vars: &BTreeMap<String, String>,
    notices: &mut Vec<Notice>,
) -> Result<Layer, ConfigError> {
    let mut own = Layer::default();
    // WARREN_LOG is the short form of WARREN_LOG_LEVEL, which comes later and wins.
    if let Some(level) = vars.get("WARREN_LOG").filter(|level| !level.is_empty()) {
        own.set("log-level", std::slice::from_ref(level))
            .map_err(|reason| ConfigError::Env {
                name: "WARREN_LOG".to_owned(),
                reason,
            })?;
    }
    let keys: BTreeMap<String, &str> = Layer::KEYS
        .iter()
        .map(|key| (own_name(key), *key))
        .collect();
    for (name, value) in vars.range(OWN_PREFIX.to_owned()..) {
        if !name.starts_with(OWN_PREFIX) {
            break;
        }
        let Some(key) = keys.get(name) else {
            if !matches!(name.as_str(), "WARREN_LOG" | "WARREN_CONFIG") {
                let known: Vec<&str> = keys.keys().map(String::as_str).collect();
                notices.push(unknown(name, &known));
            }
            continue;
        };
        let secret = key.starts_with("token");
        if value.trim().is_empty() && !secret {
            continue;
        }
        own.set(key, &split(key, value))
            .map_err(|reason| ConfigError::Env {
                name: name.clone(),
                reason,
            })?;
    }
    Ok(own)
}

fn own_name(key: &str) -> String {
    format!("{OWN_PREFIX}{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// Lists are written with commas; everything else is one value, whatever is in it.
fn split(key: &str, value: &str) -> Vec<String> {
    let list = matches!(
        key,
        "listen" | "advertise" | "connect" | "expose" | "ingress"
    );
    match list {
        true => value
            .split(',')
            .filter(|item| !item.trim().is_empty())
            .map(str::to_owned)
            .collect(),
        false => vec![value.to_owned()],
    }
}

fn read_localai(
    vars: &BTreeMap<String, String>,
    names: &[(&str, &str)],
    into: &mut Layer,
    notices: &mut Vec<Notice>,
) {
    for (name, key) in names {
        // LocalAI's compose files set what they do not use to nothing.
        let Some(value) = vars.get(*name).filter(|value| !value.trim().is_empty()) else {
            continue;
        };
        if into.given().contains(key) {
            continue;
        }
        match into.set(key, std::slice::from_ref(value)) {
            Ok(()) if matches!(*name, "TOKEN" | "ADDRESS") => notices.push(Notice::Info(format!(
                "{name} from the environment is used as --{key}, as LocalAI does; \
                 WARREN_{name} is the unmistakable name"
            ))),
            Ok(()) => {}
            Err(reason) => notices.push(Notice::Warn(format!("{name} is not used: {reason}"))),
        }
    }
}

fn read_multiaddrs(vars: &BTreeMap<String, String>, into: &mut Layer, notices: &mut Vec<Notice>) {
    for (name, key) in MULTIADDRS {
        let Some(value) = vars.get(*name) else {
            continue;
        };
        let mut usable = Vec::new();
        for text in value
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let checked = multiaddr::to_host_port(text).and_then(|at| {
                let at = at.to_string();
                Layer::default().set(key, std::slice::from_ref(&at))?;
                Ok(at)
            });
            match checked {
                Ok(at) => usable.push(at),
                Err(reason) => {
                    notices.push(Notice::Warn(format!(
                        "{name}: an entry is not used: {reason}"
                    )));
                }
            }
        }
        if !usable.is_empty() && into.set(key, &usable).is_ok() {
            notices.push(Notice::Info(format!(
                "{name} is used as --{key} {}",
                usable.join(",")
            )));
        }
    }
}

fn explain(vars: &BTreeMap<String, String>, notices: &mut Vec<Notice>) {
    for (name, why) in EXPLAINED {
        if vars.contains_key(*name) {
            notices.push(Notice::Info(format!(
                "{name} is accepted and not needed: {why}"
            )));
        }
    }
    if vars
        .get("LOCALAI_FEDERATED")
        .is_some_and(|v| v == "true" || v == "1")
    {
        notices.push(Notice::Warn(
            "LOCALAI_FEDERATED does not say where LocalAI listens; \
             offer it with --expose federated=HOST:PORT"
                .to_owned(),
        ));
    }
    let known: Vec<&str> = [LOCALAI, MULTIADDRS, EXPLAINED]
        .into_iter()
        .flatten()
        .map(|(name, _)| *name)
        .chain(SILENT.iter().copied())
        .collect();
    for name in vars.keys().filter(|name| name.starts_with(LOCALAI_PREFIX)) {
        if !known.contains(&name.as_str()) {
            notices.push(unknown(name, &known));
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> Notice {
    Notice::Warn(match super::nearest(name, known) {
        Some(near) => {
            format!("the variable {name} is unknown and has no effect; did you mean {near}?")
        }
        None => format!("the variable {name} is unknown and has no effect"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(scope: EnvScope, pairs: &[(&str, &str)]) -> EnvLayers {
        let vars = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        read(&vars, scope).unwrap()
    }

    fn texts(notices: &[Notice]) -> String {
        format!("{notices:?}")
    }

    #[test]
    fn every_flag_has_its_variable() {
        let read = env(
            EnvScope::Prefixed,
            &[
                ("WARREN_LISTEN", "127.0.0.1:0, :7717"),
                ("WARREN_EXPOSE", "a=h:1,b=h:2"),
                ("WARREN_NO_MDNS", "1"),
                ("WARREN_HTTP", "off"),
                ("WARREN_LOG", "debug"),
                ("WARREN_CONFIG", "/c"),
                ("WARREN_NAME", ""),
            ],
        );
        assert_eq!(read.own.listen.unwrap().len(), 2);
        assert_eq!(read.own.expose.unwrap()[1].service.as_str(), "b");
        assert_eq!(read.own.no_mdns, Some(true));
        assert_eq!(read.own.http.unwrap().0, None);
        assert_eq!(read.own.log_level.unwrap().0, "warn,warren=debug");
        assert_eq!(read.config, Some(PathBuf::from("/c")));
        assert_eq!(read.own.name, None);
        assert_eq!(read.notices, []);
    }

    #[test]
    fn our_own_unusable_value_is_an_error_and_an_unknown_name_a_warning() {
        let bad = |name: &str, value: &str| {
            let vars = [(name.to_owned(), value.to_owned())].into_iter().collect();
            read(&vars, EnvScope::Prefixed)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert!(bad("WARREN_LISTEN", "nowhere").contains("WARREN_LISTEN"));
        assert!(bad("WARREN_TOKEN", "").contains("empty"));
        assert!(bad("WARREN_NO_MDNS", "maybe").contains("maybe"));
        let typo = env(EnvScope::Prefixed, &[("WARREN_LISTN", ":1")]);
        assert!(texts(&typo.notices).contains("did you mean WARREN_LISTEN"));
    }

    #[test]
    fn bare_names_are_read_by_federated_alone_and_with_a_word() {
        let pairs = [
            ("TOKEN", "t"),
            ("ADDRESS", ":9"),
            ("LOCALAI_RANDOM_WORKER", "true"),
        ];
        let other = env(EnvScope::Prefixed, &pairs);
        assert_eq!(other.localai.given(), Vec::<&str>::new());
        let federated = env(EnvScope::Federated, &pairs);
        assert_eq!(
            federated.localai.given(),
            ["token", "address", "random-worker"]
        );
        assert_eq!(federated.notices.len(), 2);
        assert!(!texts(&federated.notices).contains("\"t\""));
        let prefixed_first = env(EnvScope::Federated, &[("TOKEN", "a"), ("P2P_TOKEN", "b")]);
        assert_eq!(prefixed_first.localai.token.unwrap().expose(), "b");
    }

    #[test]
    fn an_explorer_is_set_up_by_localais_names() {
        let pairs = [
            ("TOKEN", "t"),
            ("ADDRESS", ":9"),
            ("LOCALAI_CONNECTION_TIMEOUT", "1m30s"),
            ("CONNECTION_ERROR_THRESHOLD", "5"),
            ("LOCALAI_WITH_SYNC", "true"),
            ("POOL_DATABASE", "explorer.json"),
        ];
        let explorer = env(EnvScope::Explorer, &pairs).localai;
        assert_eq!(explorer.given().len(), 5, "{:?}", explorer.given());
        assert_eq!(explorer.connection_timeout.unwrap().0.as_secs(), 90);
        assert_eq!(explorer.connection_error_threshold, Some(5));
        assert_eq!(
            (explorer.with_sync, explorer.token.is_none()),
            (Some(true), true)
        );
    }

    #[test]
    fn libp2p_addresses_are_used_where_they_can_be_read() {
        let read = env(
            EnvScope::Prefixed,
            &[
                (
                    "LOCALAI_P2P_LISTEN_MADDRS",
                    "/ip4/0.0.0.0/tcp/1,/ip4/0.0.0.0/udp/2/quic-v1",
                ),
                (
                    "LOCALAI_P2P_BOOTSTRAP_PEERS_MADDRS",
                    "/dns4/a.example/udp/3",
                ),
                ("LOCALAI_P2P_DHT_ANNOUNCE_MADDRS", "/ip6/2001:db8::1/udp/4"),
            ],
        );
        assert_eq!(read.localai.listen.unwrap()[0].0.to_string(), "0.0.0.0:2");
        assert_eq!(
            read.localai.connect.unwrap()[0].0.to_string(),
            "a.example:3"
        );
        assert_eq!(
            read.localai.advertise.unwrap()[0].0.to_string(),
            "[2001:db8::1]:4"
        );
        assert!(texts(&read.notices).contains("not tcp"));
    }

    #[test]
    fn what_has_no_meaning_is_explained_and_what_is_unknown_is_said() {
        let read = env(
            EnvScope::Prefixed,
            &[
                ("LOCALAI_P2P", "true"),
                ("LOCALAI_P2P_DISABLE_DHT", "true"),
                ("LOCALAI_P2P_TOKN", "x"),
                ("LOCALAI_P2P_NETWORK_ID", "a b"),
            ],
        );
        let said = texts(&read.notices);
        assert!(said.contains("no public DHT"), "{said}");
        assert!(said.contains("did you mean LOCALAI_P2P_TOKEN"), "{said}");
        assert!(
            said.contains("LOCALAI_P2P_NETWORK_ID is not used"),
            "{said}"
        );
        assert_eq!(read.notices.len(), 3);
        assert_eq!(read.localai.network_id, None);
    }
}
