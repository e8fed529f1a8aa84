//! The small files beside the database: secrets of one node, one line of text each, mode 0600.
//!
//! | file | line |
//! |---|---|
//! | `identity.key` | the Ed25519 seed, 32 bytes in base32 (`a-z2-7`, 52 characters) |
//! | `token` | the network's token as it was given |
//! | `localai.secret` | hash of a token and the secret derived from it, 32 bytes each in hex |
//!
//! Each is replaced as a whole and synced, file and directory, so a crash leaves the old line or
//! the new one. A file that others can read is made private, with a warning. Call these with the
//! directory open ([`Store::open`](super::Store::open)): its lock is what keeps two processes
//! from making two identities.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE32_NOPAD_NOCASE, HEXLOWER};
use zeroize::Zeroizing;

use super::StoreError;
use super::disk::{refuse_non_file, remove_file, write_atomic};
use crate::mesh::id::Identity;

/// Name of the identity's file.
pub const IDENTITY_FILE: &str = "identity.key";
/// Name of the token's file.
pub const TOKEN_FILE: &str = "token";
/// Name of the file with the secret derived from a LocalAI token.
pub const LOCALAI_SECRET_FILE: &str = "localai.secret";

/// Longest token file that is read. LocalAI's tokens have under 2 KiB.
pub const MAX_TOKEN_FILE_BYTES: usize = 64 * 1024;
const MAX_LINE_BYTES: usize = 256;

/// The node's identity; made from the system's random numbers if there is none yet.
///
/// # Errors
/// The file cannot be read or made, or does not hold a seed. It is never replaced.
pub fn load_or_create_identity(dir: &Path) -> Result<Identity, StoreError> {
    if let Some(identity) = load_identity(dir)? {
        return Ok(identity);
    }
    let path = dir.join(IDENTITY_FILE);
    let seed = random(&path)?;
    let text = Zeroizing::new(BASE32_NOPAD_NOCASE.encode(&*seed).to_ascii_lowercase());
    write_line(&path, &text)?;
    Ok(Identity::from_seed(&seed))
}

/// The node's identity, if there is one yet.
///
/// # Errors
/// The file cannot be read, or does not hold a seed.
pub fn load_identity(dir: &Path) -> Result<Option<Identity>, StoreError> {
    let path = dir.join(IDENTITY_FILE);
    let line = read_line(&path, MAX_LINE_BYTES)?;
    line.map(|line| parse_seed(&path, &line)).transpose()
}

fn parse_seed(path: &Path, line: &str) -> Result<Identity, StoreError> {
    let wrong = |reason: String| StoreError::Secret {
        path: path.to_owned(),
        expected: "a node's key",
        reason,
        loss: "to become a new node",
    };
    let bytes = BASE32_NOPAD_NOCASE
        .decode(line.as_bytes())
        .map(Zeroizing::new)
        .map_err(|error| wrong(format!("it is not base32: {error}")))?;
    let seed: Zeroizing<[u8; 32]> = <[u8; 32]>::try_from(bytes.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| wrong(format!("it has {} bytes, a key has 32", bytes.len())))?;
    Ok(Identity::from_seed(&seed))
}

/// The token of the network this node is in, if it is in one.
///
/// # Errors
/// The file cannot be read, is empty, or is over [`MAX_TOKEN_FILE_BYTES`].
pub fn load_token(dir: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    let path = dir.join(TOKEN_FILE);
    let Some(line) = read_line(&path, MAX_TOKEN_FILE_BYTES)? else {
        return Ok(None);
    };
    if line.is_empty() {
        return Err(StoreError::Secret {
            path,
            expected: "a token",
            reason: "it is empty".to_owned(),
            loss: "to join or found a network again",
        });
    }
    Ok(Some(line))
}

/// Keeps `token` for the next start.
///
/// # Errors
/// It is empty, too long or has control characters, or the file cannot be written; then the old
/// one is still there.
pub fn save_token(dir: &Path, token: &str) -> Result<(), StoreError> {
    let token = token.trim();
    let fits = (1..MAX_TOKEN_FILE_BYTES).contains(&token.len());
    if !fits || token.chars().any(char::is_control) {
        return Err(StoreError::Refused {
            what: format!("a token is one line of at most {MAX_TOKEN_FILE_BYTES} bytes"),
        });
    }
    write_line(&dir.join(TOKEN_FILE), token)
}

/// Forgets the token and what was derived from it. That there is none is fine.
///
/// # Errors
/// A file is there and cannot be removed.
pub fn forget_token(dir: &Path) -> Result<(), StoreError> {
    remove_file(&dir.join(LOCALAI_SECRET_FILE))?;
    remove_file(&dir.join(TOKEN_FILE))
}

/// The secret derived from the token whose hash is `key`, if it was kept. It is a cache: a file
/// of another token, or one that does not read as a secret, is the same as none.
///
/// # Errors
/// The file is there and cannot be read.
pub fn load_localai_secret(
    dir: &Path,
    key: &[u8; 32],
) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
    let Some(line) = read_line(&dir.join(LOCALAI_SECRET_FILE), MAX_LINE_BYTES)? else {
        return Ok(None);
    };
    let secret = line.split_once(' ').and_then(|(of, secret)| {
        (of == HEXLOWER.encode(key)).then(|| HEXLOWER.decode(secret.as_bytes()).ok())?
    });
    let secret = secret.map(Zeroizing::new);
    Ok(secret.and_then(|bytes| {
        <[u8; 32]>::try_from(bytes.as_slice())
            .ok()
            .map(Zeroizing::new)
    }))
}

/// Keeps the secret derived from the token whose hash is `key`, because deriving takes long.
///
/// # Errors
/// The file cannot be written.
pub fn save_localai_secret(
    dir: &Path,
    key: &[u8; 32],
    secret: &[u8; 32],
) -> Result<(), StoreError> {
    let secret = Zeroizing::new(HEXLOWER.encode(secret));
    let line = Zeroizing::new(format!("{} {}", HEXLOWER.encode(key), *secret));
    write_line(&dir.join(LOCALAI_SECRET_FILE), &line)
}

fn random(path: &Path) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let mut bytes = Zeroizing::new([0; 32]);
    match aws_lc_rs::rand::fill(&mut *bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => {
            let error = io::Error::other("the system has no random numbers");
            Err(StoreError::path("make random bytes for", path, &error))
        }
    }
}

fn write_line(path: &Path, line: &str) -> Result<(), StoreError> {
    refuse_non_file(path)?;
    let text = Zeroizing::new(format!("{line}\n"));
    write_atomic(path, text.as_bytes())
}

/// The file's text without the white space around it; `None` if there is no file.
fn read_line(path: &Path, limit: usize) -> Result<Option<Zeroizing<String>>, StoreError> {
    refuse_non_file(path)?;
    let failed = |error: io::Error| StoreError::path("read", path, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    make_private(path, &file);
    // Room for all of it at once: growing would leave copies of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(limit + 1));
    file.take(limit as u64 + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() > limit {
        return Err(StoreError::Secret {
            path: path.to_owned(),
            expected: "one line of text",
            reason: format!("it has over {limit} bytes"),
            loss: "to start without it",
        });
    }
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

fn make_private(path: &Path, file: &File) {
    let open = file.metadata().is_ok_and(|is| is.mode() & 0o077 != 0);
    if !open {
        return;
    }
    let path: PathBuf = path.to_owned();
    match file.set_permissions(Permissions::from_mode(0o600)) {
        Ok(()) => tracing::warn!(
            path = %path.display(),
            "others could read this secret; it is private now, but may be known"
        ),
        Err(error) => tracing::warn!(
            path = %path.display(), %error,
            "others can read this secret, and that cannot be changed; chmod 600 it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn an_identity_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create_identity(dir.path()).unwrap();
        let path = dir.path().join(IDENTITY_FILE);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 53);
        assert_eq!(
            load_or_create_identity(dir.path()).unwrap().id(),
            first.id()
        );

        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        load_or_create_identity(dir.path()).unwrap();
        assert_eq!(
            mode(&path),
            0o600,
            "a key that others could read is made private"
        );
    }

    #[test]
    fn the_text_form_of_an_identity_is_fixed() {
        let dir = tempfile::tempdir().unwrap();
        let text = "aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq\n";
        std::fs::write(dir.path().join(IDENTITY_FILE), text).unwrap();
        let identity = load_or_create_identity(dir.path()).unwrap();
        assert_eq!(identity.id(), Identity::from_seed(&[1; 32]).id());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(IDENTITY_FILE);
        let long = "a".repeat(MAX_LINE_BYTES + 1);
        for wrong in ["", "aeaq", "!", long.as_str()] {
            std::fs::write(&path, wrong).unwrap();
            let error = load_or_create_identity(dir.path()).unwrap_err();
            assert!(matches!(error, StoreError::Secret { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = load_or_create_identity(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn a_token_is_kept_replaced_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_token(dir.path()).unwrap(), None);
        save_token(dir.path(), "one\n").unwrap();
        save_token(dir.path(), "two").unwrap();
        assert_eq!(load_token(dir.path()).unwrap().unwrap().as_str(), "two");
        assert_eq!(mode(&dir.path().join(TOKEN_FILE)), 0o600);
        for wrong in ["", "a\nb", &"x".repeat(MAX_TOKEN_FILE_BYTES)] {
            assert!(save_token(dir.path(), wrong).is_err());
        }
        save_localai_secret(dir.path(), &[1; 32], &[2; 32]).unwrap();
        forget_token(dir.path()).unwrap();
        forget_token(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_derived_secret_belongs_to_its_token() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_localai_secret(dir.path(), &[1; 32]).unwrap(), None);
        save_localai_secret(dir.path(), &[1; 32], &[2; 32]).unwrap();
        let kept = load_localai_secret(dir.path(), &[1; 32]).unwrap();
        assert_eq!(kept.as_deref(), Some(&[2; 32]));
        assert_eq!(load_localai_secret(dir.path(), &[3; 32]).unwrap(), None);
        std::fs::write(dir.path().join(LOCALAI_SECRET_FILE), "damaged").unwrap();
        assert_eq!(load_localai_secret(dir.path(), &[1; 32]).unwrap(), None);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let missing = Path::new("/proc/warren-has-no-directory-here");
        let error = save_token(missing, "t").unwrap_err().to_string();
        assert!(
            error.contains("/proc/warren") && error.contains("; "),
            "{error}"
        );
    }
}
