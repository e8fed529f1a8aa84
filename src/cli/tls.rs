//! TLS towards clients, as `--tls-cert`, `--tls-key` and `--tls-self-signed` say it.

use std::path::Path;

use warren::api::TlsSpec;

use super::fail::Failure;
use crate::config::Layer;

/// The certificate to serve with; `None` for none.
pub(crate) fn spec(set: &Layer) -> Result<Option<TlsSpec>, Failure> {
    // A daemon that takes the role runs in another directory.
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::from);
    match (&set.tls_cert, &set.tls_key) {
        (Some(cert), Some(key)) => Ok(Some(TlsSpec::Files {
            cert: absolute(cert)?,
            key: absolute(key)?,
        })),
        (None, None) if set.tls_self_signed == Some(true) => Ok(Some(TlsSpec::SelfSigned)),
        (None, None) => Ok(None),
        _ => Err(Failure::usage(
            "tls-cert and tls-key belong together: give both",
        )),
    }
}
