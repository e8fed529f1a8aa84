//! Child processes: they end with their owner, write to a file, and are measured through `/proc`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::Result;

/// Between two looks at something that is awaited.
const POLL: Duration = Duration::from_millis(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The ids of all [`Process`]es that have not been dropped.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// From here on Ctrl-C and SIGTERM make every wait fail, so that owners are dropped and clean up.
pub(crate) fn watch_interrupts() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Whether the run was asked to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Asks until there is an answer, an error, an interrupt, or no patience left.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if interrupted() {
            return Err("interrupted".into());
        }
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > patience {
            return Err(format!("{what}: not within {} s", patience.as_secs()).into());
        }
        std::thread::sleep(POLL);
    }
}

/// A TCP port that was free a moment ago, for programs that cannot choose one themselves.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Where a program of this name is on the `PATH`; `/usr/sbin` counts, as nginx is there.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The program, or an error that says how to get it.
pub(crate) fn required(program: &str, install: &str) -> Result<PathBuf> {
    on_path(program).ok_or_else(|| format!("{program} is not installed: {install}").into())
}

/// A program that runs until it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints goes to `NAME.log` in `dir`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        running().insert(child.id());
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits for a line of its output that `find` makes something of.
    pub(crate) fn line<T>(
        &mut self,
        patience: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let what = format!("{}: the line that says it is ready", self.name);
        until(&what, patience, || {
            self.check()?;
            // A line without its end may still grow.
            let text = fs::read_to_string(&self.log)?;
            Ok(text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .find_map(|line| find(line.trim())))
        })
    }

    /// An error with its last words if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it said nothing");
        Err(format!("{} ended with {status}: {last}", self.name).into())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Time on a processor, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.id())
    }

    /// Resident memory in MiB, now.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The most resident memory it ever had, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Resident memory in MiB, now; of what it shares with others its part only
    /// (proc_pid_smaps(5)).
    pub(crate) fn proportional_mib(&self) -> Result<f64> {
        self.mib("smaps_rollup", "Pss:")
    }

    fn status_mib(&self, field: &str) -> Result<f64> {
        self.mib("status", field)
    }

    /// A line of one of its files in `/proc`.
    fn mib(&self, file: &str, field: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.id()))?;
        let kib: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or_else(|| format!("{}: no {field}", self.name))?
            .parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        running().remove(&self.child.id());
        end(&mut self.child);
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time on a processor of every [`Process`] there is, in seconds; one that has ended counts 0.
pub(crate) fn running_cpu_seconds() -> f64 {
    let ids = running().clone();
    ids.iter().filter_map(|id| cpu_seconds(*id).ok()).sum()
}

/// Time on a processor, in seconds: the first field of `schedstat` (proc(5)), in nanoseconds, of
/// every thread.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the look.
        let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let spent: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
        total += spent / 1e9;
    }
    Ok(total)
}

/// Kills and reaps a child; it may have ended by itself.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What a program prints that is to end by itself, within `limit`, successfully.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut out = child.stdout.take().ok_or("a child without output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let status = until(&program, limit, || Ok(child.try_wait()?));
    // Closes the pipe, which ends the reader.
    end(&mut child);
    let text = reader
        .join()
        .map_err(|_| format!("{program}: its reader panicked"))??;
    let status = status?;
    if status.success() {
        Ok(text)
    } else {
        Err(format!("{program} ended with {status}: {}", text.trim()).into())
    }
}
