//! The admin socket's place in the file system: who may reach it, and what may be replaced.
//! Deletes nothing but a socket on which nobody answers.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::cookie::Cookie;
use super::{COOKIE_NAME, SOCKET_NAME};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Bits by which others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why the admin socket could not be opened. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Somebody else could put their own socket in the place of ours.
    #[error("{} belongs to another user or is writable by others: chmod 700 it, or use another data directory", dir.display())]
    OpenDirectory {
        /// The data directory.
        dir: PathBuf,
    },
    /// A file, a directory or a link is where the socket should be. It is left alone.
    #[error("{} is in the way and is not a socket: move it away, or use another data directory", path.display())]
    NotASocket {
        /// Where the socket should be.
        path: PathBuf,
    },
    /// A daemon answers there, although it does not hold this directory's lock.
    #[error("another daemon answers on {}: stop it first", path.display())]
    InUse {
        /// Its socket.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error("{} is too long for a socket ({len} bytes, at most {max}): use a shorter data directory", path.display())]
    TooLong {
        /// Where the socket should be.
        path: PathBuf,
        /// Its bytes.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound admin socket and the secret of this run. Dropping it removes the socket.
pub struct AdminSocket {
    listener: UnixListener,
    cookie: Cookie,
    path: PathBuf,
    file: (u64, u64),
}

impl AdminSocket {
    /// Binds `DATA_DIR/warren.sock` (0600) and writes a new `DATA_DIR/admin.cookie`.
    ///
    /// Call it only while holding the database lock: that is what makes a socket on which nobody
    /// answers a leftover (security amendment D30). Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`]; a leftover may have been removed by then.
    pub fn bind(data_dir: &Path) -> Result<Self, SocketError> {
        check_directory(data_dir)?;
        let path = data_dir.join(SOCKET_NAME);
        let address = SockAddr::unix(&path).map_err(|source| too_long(&path, source))?;
        clear_leftover(&path)?;
        let cookie = Cookie::renew(data_dir)
            .map_err(|source| io_error("write", &data_dir.join(COOKIE_NAME), source))?;

        let listener = bind_private(&path, &address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SocketError::InUse { path: path.clone() },
            _ => io_error("bind", &path, source),
        })?;
        let file = identity(&path).map_err(|source| io_error("read", &path, source))?;
        Ok(Self {
            listener,
            cookie,
            path,
            file,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn cookie(&self) -> &Cookie {
        &self.cookie
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // If somebody moved ours away, what is there now is theirs.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn check_directory(dir: &Path) -> Result<(), SocketError> {
    let meta = fs::metadata(dir).map_err(|source| io_error("read", dir, source))?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if !ours || meta.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(SocketError::OpenDirectory { dir: dir.into() });
    }
    Ok(())
}

fn clear_leftover(path: &Path) -> Result<(), SocketError> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("read", path, source)),
    };
    if !meta.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.into() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| io_error("remove", path, source))
        }
        Ok(_) => Err(SocketError::InUse { path: path.into() }),
        Err(source) => Err(io_error("connect to", path, source)),
    }
}

/// The mode is set on the unbound socket, from which Linux takes the file's mode, so that there is
/// no moment in which others could connect. A umask would do the same on every system, but it
/// belongs to the whole process: two nodes that start in it at once would leave it changed.
fn bind_private(path: &Path, address: &SockAddr) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    #[cfg(target_os = "linux")]
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(address)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

fn too_long(path: &Path, source: io::Error) -> SocketError {
    // sockaddr_un: 108 bytes on Linux, 104 on macOS, one of them for the end.
    let max = if cfg!(target_os = "linux") { 107 } else { 103 };
    let len = path.as_os_str().len();
    if len > max {
        let path = path.into();
        SocketError::TooLong { path, len, max }
    } else {
        io_error("name", path, source)
    }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> SocketError {
    let path = path.into();
    SocketError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener as StdListener;

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let socket = AdminSocket::bind(dir.path()).unwrap();
        let path = socket.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_is_private_from_its_first_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o177, 0);
        }
    }

    #[tokio::test]
    async fn a_leftover_is_replaced_and_a_live_socket_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET_NAME);
        drop(StdListener::bind(&path).unwrap());
        let socket = AdminSocket::bind(dir.path()).unwrap();
        assert!(matches!(
            AdminSocket::bind(dir.path()),
            Err(SocketError::InUse { .. })
        ));
        drop(socket);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET_NAME);
        fs::write(&path, "precious").unwrap();
        let error = AdminSocket::bind(dir.path()).err().unwrap();
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
        assert!(error.to_string().contains("warren.sock"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");

        fs::remove_file(&path).unwrap();
        let listener = StdListener::bind(dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        drop(listener);
        assert!(matches!(
            AdminSocket::bind(dir.path()),
            Err(SocketError::NotASocket { .. })
        ));
        assert!(path.is_symlink());
    }

    #[tokio::test]
    async fn a_socket_that_took_our_place_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = AdminSocket::bind(dir.path()).unwrap();
        let path = socket.path().to_owned();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let _theirs = StdListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn directories_that_cannot_hold_it_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            AdminSocket::bind(&open),
            Err(SocketError::OpenDirectory { .. })
        ));

        let long = dir.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        assert!(matches!(
            AdminSocket::bind(&long),
            Err(SocketError::TooLong { .. })
        ));
        assert!(matches!(
            AdminSocket::bind(&dir.path().join("none")),
            Err(SocketError::Io { .. })
        ));
    }
}
