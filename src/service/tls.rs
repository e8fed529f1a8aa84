//! TLS towards the clients of an ingress and of an explorer. The mesh itself has no X.509 and uses nothing of this.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::spec::TlsSpec;
use crate::clock;

/// How long a client's handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often the files are looked at, at most, and only while connections come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest certificate or key file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is larger than any certificate chain.
    #[error("{} has {len} bytes, at most {MAX_FILE_BYTES} are read", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
    /// A file holds no PEM of the kind needed.
    #[error("{} holds no PEM {what}", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// The certificate and the key cannot be used together, or at all.
    #[error("certificate and key do not make a TLS server: {0}")]
    Unusable(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
}

impl TlsError {
    /// What to do about it.
    pub const HINT: &'static str = "--tls-cert and --tls-key name PEM files of one certificate and \
        its key; --tls-self-signed makes both";
}

/// A server's certificate, kept current.
#[derive(Debug)]
pub struct TlsSource {
    config: ArcSwap<ServerConfig>,
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    stamps: Stamps,
}

type Stamp = Option<(u64, Option<SystemTime>)>;
type Stamps = (Stamp, Stamp);

impl TlsSource {
    /// Reads the files, or makes a certificate for `localhost`, the loopback addresses, `host`
    /// and `listen`.
    ///
    /// # Errors
    /// Which file is wrong and how.
    pub fn new(spec: &TlsSpec, listen: IpAddr, host: Option<&str>) -> Result<Self, TlsError> {
        match spec {
            TlsSpec::SelfSigned => Ok(Self {
                config: ArcSwap::new(self_signed(listen, host)?),
                files: None,
            }),
            TlsSpec::Files { cert, key } => {
                let stamps = (stamp(cert), stamp(key));
                let config = from_files(cert, key)?;
                Ok(Self {
                    config: ArcSwap::new(config),
                    files: Some(Files {
                        cert: cert.clone(),
                        key: key.clone(),
                        seen: Mutex::new(Seen {
                            at: clock::instant(),
                            stamps,
                        }),
                    }),
                })
            }
        }
    }

    /// Does the handshake with one client. Call it in the client's own task.
    ///
    /// # Errors
    /// What went wrong; the client has got its alert.
    pub async fn accept(self: &Arc<Self>, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        if self.is_look_due() {
            let this = self.clone();
            // A certificate on a network disk must not hold up the data path.
            let look = tokio::task::spawn_blocking(move || this.reload_if_changed());
            if let Err(error) = look.await {
                tracing::warn!(%error, "certificate files were not looked at");
            }
        }
        let acceptor = TlsAcceptor::from(self.config.load_full());
        match timeout(HANDSHAKE_LIMIT, acceptor.accept(tcp)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Reads the files again if they have changed. A pair that cannot be used is reported and
    /// the one in use stays: files are replaced one after the other.
    pub fn reload_if_changed(&self) {
        let Some(files) = &self.files else { return };
        let stamps = (stamp(&files.cert), stamp(&files.key));
        {
            let mut seen = files.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.stamps == stamps {
                return;
            }
            seen.stamps = stamps;
        }
        match from_files(&files.cert, &files.key) {
            Ok(config) => {
                self.config.store(config);
                tracing::info!(cert = %files.cert.display(), "certificate loaded again");
            }
            Err(error) => {
                tracing::warn!(%error, "the new certificate is not used, the old one stays");
            }
        }
    }

    fn is_look_due(&self) -> bool {
        let Some(files) = &self.files else {
            return false;
        };
        let now = clock::instant();
        let mut seen = files.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now.duration_since(seen.at) >= LOOK_EVERY;
        if due {
            seen.at = now;
        }
        due
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()))
}

fn from_files(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let not_pem = |path: &Path, what| TlsError::NotPem {
        path: path.to_owned(),
        what,
    };
    let cert_pem = read(cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert_pem).collect();
    let chain = chain.map_err(|_| not_pem(cert, "certificate"))?;
    if chain.is_empty() {
        return Err(not_pem(cert, "certificate"));
    }
    let key_pem = read(key)?;
    let key_der =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| not_pem(key, "private key"))?;
    Ok(config(chain, key_der)?)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |cause| TlsError::Read {
        path: path.to_owned(),
        cause,
    };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > MAX_FILE_BYTES {
        return Err(TlsError::TooLong {
            path: path.to_owned(),
            len,
        });
    }
    fs::read(path).map(Zeroizing::new).map_err(failed)
}

fn self_signed(listen: IpAddr, host: Option<&str>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    names.extend(host.map(str::to_owned));
    if !listen.is_unspecified() && !listen.is_loopback() {
        names.push(listen.to_canonical().to_string());
    }
    names.dedup();
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    Ok(config(vec![made.cert.der().clone()], key)?)
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // The bytes behind it go to servers that speak HTTP/1.1 in clear; h2 must not be agreed on.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn source(dir: &Path) -> Result<TlsSource, TlsError> {
        let spec = TlsSpec::Files {
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        };
        TlsSource::new(&spec, Ipv4Addr::LOCALHOST.into(), None)
    }

    #[test]
    fn new_files_are_taken_and_a_bad_pair_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair();
        fs::write(dir.path().join("cert.pem"), &cert).unwrap();
        fs::write(dir.path().join("key.pem"), &key).unwrap();
        let source = source(dir.path()).unwrap();
        let first = source.config.load_full();

        source.reload_if_changed();
        assert!(Arc::ptr_eq(&first, &source.config.load_full()));

        fs::write(dir.path().join("cert.pem"), "no certificate at all").unwrap();
        source.reload_if_changed();
        assert!(Arc::ptr_eq(&first, &source.config.load_full()));

        let (cert, key) = pair();
        // A comment makes the length differ whatever the clock of the file system says.
        fs::write(dir.path().join("cert.pem"), format!("# new\n{cert}")).unwrap();
        source.reload_if_changed();
        assert!(
            Arc::ptr_eq(&first, &source.config.load_full()),
            "a new certificate with the old key is not used"
        );
        fs::write(dir.path().join("key.pem"), format!("# new\n{key}")).unwrap();
        source.reload_if_changed();
        assert!(!Arc::ptr_eq(&first, &source.config.load_full()));
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = source(dir.path()).unwrap_err().to_string();
        assert!(missing.contains("cert.pem"), "{missing}");
        let (cert, _) = pair();
        fs::write(dir.path().join("cert.pem"), &cert).unwrap();
        fs::write(dir.path().join("key.pem"), &cert).unwrap();
        let no_key = source(dir.path()).unwrap_err().to_string();
        assert!(
            no_key.ends_with("key.pem holds no PEM private key"),
            "{no_key}"
        );
    }
}
