//! `DATA_DIR/admin.cookie`: what a process must have read before the daemon obeys it, besides
//! having the right uid. Workers run under our uid, but cannot read the data directory (security
//! amendment D29).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::COOKIE_NAME;

const COOKIE_BYTES: usize = 32;

/// The secret of one run of a daemon. It has no `Debug` and is wiped when dropped.
#[derive(Clone)]
pub struct Cookie(Zeroizing<String>);

impl Cookie {
    /// Makes a new secret and puts it (0600) in the place of the last run's.
    ///
    /// # Errors
    /// The file cannot be written, or the system has no randomness. The old file stays.
    pub fn renew(data_dir: &Path) -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; COOKIE_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut())
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let cookie = Self(Zeroizing::new(HEXLOWER.encode(bytes.as_ref())));

        let fresh = data_dir.join(format!("{COOKIE_NAME}.new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(cookie.0.as_bytes())?;
        drop(file);
        fs::rename(&fresh, data_dir.join(COOKIE_NAME))?;
        Ok(cookie)
    }

    /// Reads the running daemon's secret.
    ///
    /// # Errors
    /// The file cannot be read, or is not a cookie.
    pub async fn read(data_dir: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(tokio::fs::read_to_string(data_dir.join(COOKIE_NAME)).await?);
        let text = text.trim();
        let is_cookie =
            text.len() == 2 * COOKIE_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_cookie {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not a cookie",
            ));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The value of the `Authorization` header.
    pub(super) fn bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }

    /// Whether `header` carries this secret. Takes the same time wherever they differ.
    pub(super) fn admits(&self, header: &[u8]) -> bool {
        let expected = self.bearer();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), header).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_new_cookie_replaces_the_old_one_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cookie::renew(dir.path()).unwrap();
        fs::write(dir.path().join("admin.cookie.new"), "left by a crash").unwrap();
        let second = Cookie::renew(dir.path()).unwrap();

        let read = Cookie::read(dir.path()).await.unwrap();
        assert!(second.admits(read.bearer().as_bytes()));
        assert!(!first.admits(read.bearer().as_bytes()));
        assert!(!second.admits(b"") && !second.admits(b"Bearer "));
        let mode = fs::metadata(dir.path().join(COOKIE_NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_file_that_is_no_cookie_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(COOKIE_NAME), "x\r\nHost: evil").unwrap();
        assert!(Cookie::read(dir.path()).await.is_err());
    }
}
