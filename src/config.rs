//! One validated configuration out of four sources: flags, then `WARREN_*` variables (then
//! LocalAI's names for the same things), then `warren.toml`, then defaults. A source that says
//! something about a setting hides what lower sources say about it; lists are not joined.
//!
//! Nothing here starts, binds or dials; a token is carried as text and never shown.

mod env;
mod file;
mod layer;
mod multiaddr;
mod quantities;
mod shards;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use warren::mesh::networks::Held;
use zeroize::Zeroizing;

pub(crate) use layer::Layer;
pub(crate) use quantities::{Bytes, PerSecond, Span, SpanOrOff, TunnelMemory};
pub(crate) use shards::Shards;
pub(crate) use values::{
    Expose, FailoverArg, Http, Ingress, Listen, ListenFor, LogFilter, LogFormat, ModeArg, Peer,
    ProxyArg, SecretText, Server, Target,
};

/// How long running connections may take to end when the daemon stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest token file that is read, in bytes; the token itself has a tighter limit.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

/// Why a configuration was refused. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    /// The config file cannot be read or says something wrong.
    #[error("config file {}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A variable does not parse.
    #[error("environment variable {name}: {reason}")]
    Env { name: String, reason: String },
    /// Two settings of one source exclude each other.
    #[error("{first} and {second} exclude each other; give one of them")]
    Conflict {
        first: &'static str,
        second: &'static str,
    },
    /// No place for the data directory is known.
    #[error("no data directory: neither --data-dir nor HOME is set")]
    NoHome,
    /// The token file cannot be used.
    #[error("token {}: {reason}", place(path))]
    TokenFile { path: PathBuf, reason: String },
    /// The file with the key for P2PRC's routes cannot be used.
    #[error("key {}: {reason}", place(path))]
    KeyFile { path: PathBuf, reason: String },
    /// A key without routes that ask for it: whoever sets one believes that something is guarded.
    #[error("--p2prc-http-key-file is given, but not --p2prc-http")]
    KeyAlone,
    /// Machines go after passes that nobody asked for. Whoever sets this believes that they do.
    #[error("--iptable-prune-after is given, but not --iptable-refresh")]
    PruneAlone,
}

impl ConfigError {
    /// What to do about it, where the message does not say it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("its keys are the long flags of `warren up --help`"),
            Self::Env { .. } => Some("correct the variable or unset it"),
            Self::NoHome => Some("say where with --data-dir or WARREN_DATA_DIR"),
            Self::TokenFile { .. } => Some(
                "it holds one line, the token, and this user can read it; \
                 `warren token show` prints it on a machine of the network",
            ),
            Self::KeyFile { .. } => {
                Some("it holds one line, the key; `openssl rand -hex 32` makes one")
            }
            Self::KeyAlone => Some("say with --p2prc-http where P2PRC's routes are answered"),
            Self::PruneAlone => Some("say with --iptable-refresh how often machines are asked"),
            Self::Conflict { .. } => None,
        }
    }
}

fn place(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "on standard input".to_owned(),
        _ => format!("file {}", path.display()),
    }
}

/// Something to tell the user once the log is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Works; here is how it was understood.
    Info(String),
    /// Has no effect, or a bad one.
    Warn(String),
}

/// Which variables without a prefix are read: LocalAI's images set `TOKEN` and `ADDRESS`, and
/// so does half of the world, for other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnvScope {
    /// Only prefixed names.
    Prefixed,
    /// Also `TOKEN`, `ADDRESS` and the other bare names of LocalAI's `federated`.
    Federated,
    /// Also `ADDRESS` and the other bare names of LocalAI's `explorer`.
    Explorer,
}

/// The configuration of one run.
#[derive(Debug)]
pub(crate) struct Config {
    /// All sources, merged.
    pub(crate) set: Layer,
    /// What was given on the command line, for messages.
    pub(crate) flags: Vec<&'static str>,
    /// Where everything is kept, if anything says so.
    data_dir: Option<PathBuf>,
    /// To be logged once the log is open.
    pub(crate) notices: Vec<Notice>,
}

impl Config {
    /// Merges `flags`, the variables in `vars` and the config file.
    ///
    /// # Errors
    /// The first setting that does not parse, by name and source.
    pub(crate) fn load(
        flags: Layer,
        config_flag: Option<PathBuf>,
        vars: &BTreeMap<String, String>,
        scope: EnvScope,
    ) -> Result<Self, ConfigError> {
        let env = env::read(vars, scope)?;
        let path = config_flag.or(env.config).or_else(|| default_file(vars));
        let from_file = path
            .as_deref()
            .map(file::read)
            .transpose()?
            .unwrap_or_default();
        let mut notices = env.notices;
        if flags.token.is_some() {
            notices.push(Notice::Warn(
                "a token on the command line can be read by other users of this machine with ps; \
                 --token-file or WARREN_TOKEN hide it"
                    .to_owned(),
            ));
        }
        for layer in [&flags, &env.own, &from_file] {
            layer.check()?;
        }
        let given = flags.given();
        let set = flags.or(env.own).or(env.localai).or(from_file);
        let data_dir = match &set.data_dir {
            Some(dir) => Some(dir.clone()),
            None => default_data_dir(vars),
        };
        Ok(Self {
            set,
            flags: given,
            data_dir,
            notices,
        })
    }

    /// The token's text, out of the flag, the variable or the file; `None` if none is configured.
    ///
    /// # Errors
    /// The token file is unreadable, too long or empty.
    pub(crate) fn token_text(&self) -> Result<Option<SecretText>, ConfigError> {
        match &self.set.token_file {
            Some(path) => read_token_file(path).map(Some),
            None => Ok(self.set.token.clone()),
        }
    }

    /// The key that requests to P2PRC's routes must carry, if they must.
    ///
    /// # Errors
    /// The file is unreadable or empty, or there are no such routes.
    pub(crate) fn p2prc_key_text(&self) -> Result<Option<SecretText>, ConfigError> {
        let Some(path) = &self.set.p2prc_http_key_file else {
            return Ok(None);
        };
        if self.set.p2prc_http.is_none_or(|http| http.0.is_none()) {
            return Err(ConfigError::KeyAlone);
        }
        let wrong = |reason: String| ConfigError::KeyFile {
            path: path.clone(),
            reason,
        };
        let text = read_secret(path).map_err(wrong)?;
        let key = text.parse().map(Some);
        key.map_err(|_| wrong("it is empty".to_owned()))
    }

    /// How often the IP table is probed without being asked, and after how long machines go.
    ///
    /// # Errors
    /// Machines are to go, and nobody is to ask them.
    pub(crate) fn iptable_refresh(
        &self,
    ) -> Result<Option<(Duration, Option<Duration>)>, ConfigError> {
        let after = self.set.iptable_prune_after.and_then(|after| after.0);
        match self.set.iptable_refresh.and_then(|every| every.0) {
            Some(every) => Ok(Some((every, after))),
            None if after.is_some() => Err(ConfigError::PruneAlone),
            None => Ok(None),
        }
    }

    /// Where everything is kept. Commands that keep nothing do without.
    ///
    /// # Errors
    /// Nothing says where.
    pub(crate) fn data_dir(&self) -> Result<&Path, ConfigError> {
        self.data_dir.as_deref().ok_or(ConfigError::NoHome)
    }

    /// How many networks an explorer keeps.
    pub(crate) fn held(&self) -> Held {
        let default = Held::default();
        let count = |given: u64| usize::try_from(given).unwrap_or(usize::MAX);
        Held {
            rows: self.set.max_networks.map_or(default.rows, count),
            bytes: self
                .set
                .max_network_bytes
                .map_or(default.bytes, |bytes| count(bytes.0)),
        }
    }

    /// How long running connections may take to end.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.set.drain_timeout.map_or(DRAIN_TIMEOUT, |span| span.0)
    }
}

/// Reads a token from a file, or from standard input for `-`.
///
/// # Errors
/// Unreadable, longer than a token can be, or empty.
pub(crate) fn read_token_file(path: &Path) -> Result<SecretText, ConfigError> {
    let wrong = |reason: String| ConfigError::TokenFile {
        path: path.to_owned(),
        reason,
    };
    let text = read_secret(path).map_err(wrong)?;
    text.parse().map_err(wrong)
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, String> {
    use std::io::Read;
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(|e| e.to_string())?),
    };
    let mut text = Zeroizing::new(String::new());
    source
        .take(MAX_TOKEN_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    match text.len() as u64 > MAX_TOKEN_FILE_BYTES {
        true => Err(format!(
            "longer than {MAX_TOKEN_FILE_BYTES} bytes: this is no token"
        )),
        false => Ok(text),
    }
}

/// The known name closest to `given`, if it is close enough to be a slip of the pen.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

fn default_file(vars: &BTreeMap<String, String>) -> Option<PathBuf> {
    let dirs = [
        first_path(vars, "CONFIGURATION_DIRECTORY"),
        first_path(vars, "XDG_CONFIG_HOME").map(|dir| dir.join("warren")),
        first_path(vars, "HOME").map(|dir| dir.join(".config/warren")),
        Some(PathBuf::from("/etc/warren")),
    ];
    dirs.into_iter()
        .flatten()
        .map(|dir| dir.join("warren.toml"))
        .find(|file| file.exists())
}

fn default_data_dir(vars: &BTreeMap<String, String>) -> Option<PathBuf> {
    first_path(vars, "STATE_DIRECTORY")
        .or_else(|| Some(first_path(vars, "XDG_STATE_HOME")?.join("warren")))
        .or_else(|| Some(first_path(vars, "HOME")?.join(".local/state/warren")))
}

/// systemd joins several directories with `:`; relative ones are void by the XDG specification.
fn first_path(vars: &BTreeMap<String, String>, name: &str) -> Option<PathBuf> {
    let first = PathBuf::from(vars.get(name)?.split(':').next()?);
    first.is_absolute().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let home = ("HOME", "/home/u");
        let all = pairs.iter().chain(std::iter::once(&home));
        all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn load(flags: Layer, pairs: &[(&str, &str)], file: Option<&str>) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = file.map(|text| {
            let path = dir.path().join("warren.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        Config::load(flags, path, &vars(pairs), EnvScope::Prefixed).unwrap()
    }

    fn named(name: &str) -> Layer {
        Layer {
            name: Some(name.parse().unwrap()),
            ..Layer::default()
        }
    }

    #[test]
    fn flags_hide_variables_hide_the_file_hides_defaults() {
        let env = [("WARREN_NAME", "env"), ("WARREN_NETWORK_ID", "env")];
        let file = "name = 'file'\nnetwork-id = 'file'\nservice = 'file'\n";
        let config = load(named("flag"), &env, Some(file));
        assert_eq!(config.set.name.unwrap().as_str(), "flag");
        assert_eq!(config.set.network_id.unwrap().as_str(), "env");
        assert_eq!(config.set.service.as_ref().unwrap().as_str(), "file");
        assert_eq!(config.set.http, None);
    }

    #[test]
    fn our_variable_hides_localais() {
        let both = [
            ("WARREN_NETWORK_ID", "ours"),
            ("LOCALAI_P2P_NETWORK_ID", "theirs"),
        ];
        assert_eq!(
            load(Layer::default(), &both, None)
                .set
                .network_id
                .unwrap()
                .as_str(),
            "ours"
        );
        let config = load(Layer::default(), &both[1..], Some("network-id = 'file'"));
        assert_eq!(config.set.network_id.unwrap().as_str(), "theirs");
    }

    #[test]
    fn a_token_file_hides_tokens_of_lower_sources() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, "from-file\n").unwrap();
        let flags = Layer {
            token_file: Some(path),
            ..Layer::default()
        };
        let config = load(
            flags,
            &[("WARREN_TOKEN", "from-env")],
            Some("token = 'from-toml'"),
        );
        assert_eq!(config.token_text().unwrap().unwrap().expose(), "from-file");
    }

    #[test]
    fn a_token_on_the_command_line_warns() {
        let flags = Layer {
            token: Some("x".parse().unwrap()),
            ..Layer::default()
        };
        let config = load(flags, &[], None);
        assert!(
            matches!(&config.notices[..], [Notice::Warn(text)] if text.contains("--token-file"))
        );
    }

    #[test]
    fn an_empty_or_endless_token_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, " \n").unwrap();
        assert!(
            read_token_file(&path)
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
        let huge = read_token_file(Path::new("/dev/zero")).unwrap_err();
        assert!(huge.to_string().contains("no token"), "{huge}");
    }

    #[test]
    fn one_source_cannot_contradict_itself() {
        let env = vars(&[("WARREN_TOKEN", "x"), ("WARREN_TOKEN_FILE", "/y")]);
        let refused = Config::load(Layer::default(), None, &env, EnvScope::Prefixed);
        assert!(matches!(refused, Err(ConfigError::Conflict { .. })));
    }

    #[test]
    fn the_data_directory_follows_systemd_then_xdg_then_home() {
        let dir = |pairs: &[(&str, &str)]| load(Layer::default(), pairs, None).data_dir.unwrap();
        assert_eq!(dir(&[]), PathBuf::from("/home/u/.local/state/warren"));
        let xdg = ("XDG_STATE_HOME", "/x");
        assert_eq!(dir(&[xdg]), PathBuf::from("/x/warren"));
        assert_eq!(
            dir(&[xdg, ("STATE_DIRECTORY", "/s:/t")]),
            PathBuf::from("/s")
        );
        assert_eq!(dir(&[("WARREN_DATA_DIR", "/w"), xdg]), PathBuf::from("/w"));
    }
}
