//! Steps on single files that more than one module takes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Mode of what nobody else may read.
pub(super) const PRIVATE: u32 = 0o600;

/// Refuses a directory, socket or device where one of our files should be.
pub(super) fn refuse_non_file(path: &Path) -> Result<(), StoreError> {
    let found = match path.metadata() {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.is_dir() => "a directory",
        Ok(_) => "a socket, pipe or device",
        Err(error) => return Err(StoreError::path("read", path, &error)),
    };
    Err(StoreError::NotAFile {
        path: path.to_owned(),
        found,
    })
}

/// Makes names created in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file; that there is none is fine.
pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::path("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Writes `content` to `path` so that a crash leaves the old file or the new one: into a
/// neighbour (0600), synced, renamed over it, directory synced.
pub(super) fn write_atomic(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    write_atomic_as(path, content, PRIVATE)
}

/// As [`write_atomic`]; the file gets this mode.
pub(super) fn write_atomic_as(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::path("write", path, &error);
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let neighbour = PathBuf::from(name);
    remove_file(&neighbour)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(&neighbour)
        .and_then(|mut file| {
            if mode != PRIVATE {
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&neighbour, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&neighbour);
        return Err(failed(error));
    }
    path.parent().map_or(Ok(()), sync_dir).map_err(failed)
}
