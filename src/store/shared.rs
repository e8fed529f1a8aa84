//! A file that belongs to others as well: read and replaced under the lock that they take, too.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StoreError;
use super::disk::{PRIVATE, refuse_non_file, write_atomic_as};

/// How often a lock that another process holds is tried again, and with which pauses.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// A file, with `FILE.lock` held as LocalAI holds it (an exclusive `flock`), until this is
/// dropped.
#[derive(Debug)]
pub struct SharedFile {
    /// The file itself, where the path is a link.
    path: PathBuf,
    _lock: File,
}

impl SharedFile {
    /// Locks the file, which need not be there. Blocks for ten seconds at most.
    ///
    /// # Errors
    /// [`StoreError::Path`]: the lock cannot be made, or another process does not let go of it.
    pub fn lock(path: &Path) -> Result<Self, StoreError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        refuse_non_file(&lock_path)?;
        let failed = |error: io::Error| StoreError::path("lock", &lock_path, &error);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&lock_path)
            .map_err(failed)?;
        for _ in 0..TRIES {
            match lock.try_lock() {
                Ok(()) => {
                    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                    return Ok(Self { path, _lock: lock });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let held = io::Error::other("another process has held it for ten seconds");
        Err(failed(held))
    }

    /// What the file holds; nothing if there is no file.
    ///
    /// # Errors
    /// [`StoreError::Path`], also if it is over `limit` bytes.
    pub fn read(&self, limit: usize) -> Result<Vec<u8>, StoreError> {
        refuse_non_file(&self.path)?;
        let failed = |error: io::Error| StoreError::path("read", &self.path, &error);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
        match bytes.len() > limit {
            true => Err(failed(io::Error::other(format!(
                "it is over {limit} bytes"
            )))),
            false => Ok(bytes),
        }
    }

    /// Puts `content` in its place: a crash leaves the old file or the new one. It keeps its mode.
    ///
    /// # Errors
    /// [`StoreError::Path`]; the old file is still there.
    pub fn replace(&self, content: &[u8]) -> Result<(), StoreError> {
        let mode = self.path.metadata().map_or(PRIVATE, |old| old.mode());
        write_atomic_as(&self.path, content, mode & 0o777)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("explorer.json"), dir.path().join("link"));
        let shared = SharedFile::lock(&path).unwrap();
        assert_eq!(shared.read(10).unwrap(), b"");
        shared.replace(b"one").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        drop(shared);

        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(&path, mode).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let shared = SharedFile::lock(&link).unwrap();
        shared.replace(b"two").unwrap();
        assert_eq!(shared.read(3).unwrap(), b"two");
        assert!(
            shared
                .read(2)
                .unwrap_err()
                .to_string()
                .contains("over 2 bytes")
        );
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        // The lock of the name that was given, as LocalAI takes it.
        assert!(dir.path().join("link.lock").exists());
    }

    #[test]
    fn who_holds_the_lock_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("explorer.json");
        let other = File::create(dir.path().join("explorer.json.lock")).unwrap();
        other.lock().unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || SharedFile::lock(&path).unwrap().read(10).unwrap()
        });
        std::fs::write(&path, b"theirs").unwrap();
        other.unlock().unwrap();
        assert_eq!(waiting.join().unwrap(), b"theirs");
    }
}
