//! Files that a user names: read with a bound, written as a whole.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::fail::Failure;

/// Whether standard input or output is meant.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file as it is called in messages about it.
pub(crate) fn place(path: &Path) -> String {
    match is_standard(path) {
        true => "standard input".to_owned(),
        false => super::output::clean(&path.display().to_string()),
    }
}

/// All of a file, or of standard input for `-`, unless that is more than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let refused = |e: io::Error| Failure::failed("io", format!("{}: {e}", place(path)));
    let source: Box<dyn Read> = match is_standard(path) {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(refused)?),
    };
    let mut bytes = Vec::new();
    source
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(refused)?;
    if bytes.len() as u64 > limit {
        let name = place(path);
        return Err(Failure::usage(format!(
            "{name}: longer than {limit} bytes, which is the limit"
        )));
    }
    Ok(bytes)
}

/// A file that is being written: into a neighbour, which takes its place when all of it is on
/// disk. Dropped before that it leaves the old file.
pub(crate) struct NewFile {
    path: PathBuf,
    /// `None` where the file is written directly: a pipe or a device.
    neighbour: Option<PathBuf>,
    out: Option<BufWriter<File>>,
}

impl NewFile {
    /// Begins to write `path`, or what it links to. A file that is there keeps its mode.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        Self::create_as(path, 0o666)
    }

    /// As [`NewFile::create`]; a file that was not there before is readable by its owner only.
    pub(crate) fn create_private(path: &Path) -> Result<Self, Failure> {
        Self::create_as(path, 0o600)
    }

    fn create_as(path: &Path, mode: u32) -> Result<Self, Failure> {
        let refused = |e: io::Error| Failure::failed("io", format!("{}: {e}", place(path)));
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let old = path.metadata().ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            let file = OpenOptions::new().write(true).open(&path);
            return Ok(Self {
                path,
                neighbour: None,
                out: Some(BufWriter::new(file.map_err(refused)?)),
            });
        }
        let mut name = OsString::from(&path);
        name.push(format!(".new-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(mode);
        let file = options.open(&name);
        let new = Self {
            path,
            neighbour: Some(PathBuf::from(name)),
            out: Some(BufWriter::new(file.map_err(refused)?)),
        };
        if let (Some(old), Some(out)) = (old, &new.out) {
            out.get_ref()
                .set_permissions(old.permissions())
                .map_err(refused)?;
        }
        Ok(new)
    }

    /// Puts it in place.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let done = self.put_in_place();
        done.map_err(|e| Failure::failed("io", format!("{}: {e}", place(&self.path))))
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        let Some(out) = self.out.take() else {
            return Ok(());
        };
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(neighbour) = &self.neighbour {
            file.sync_all()?;
            std::fs::rename(neighbour, &self.path)?;
            self.neighbour = None;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(neighbour) = &self.neighbour {
            let _ = std::fs::remove_file(neighbour);
        }
    }
}
