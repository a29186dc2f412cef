//! A child process under measurement: what it burned, what it held, and its certain end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A server, proxy or relay that runs as long as this value lives.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The CPU time of every thread of a process at one moment, in nanoseconds, and of the whole process in clock ticks.
pub(crate) struct CpuTimes {
    threads: BTreeMap<u32, u64>,
    ticks: u64,
}

/// How long a clock tick of `/proc/<pid>/stat` lasts; the kernel reports in these units on every common architecture.
const TICK_NS: u64 = 10_000_000;

impl Process {
    /// Starts `command`; all that it says goes to `<dir>/<name>.log`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("starting {name} ({command:?})"))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Waits until it listens at `address`, or says why it does not.
    pub(crate) fn wait_listening(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            self.check_alive()?;
            ensure!(
                Instant::now() < deadline,
                "{} does not listen at {address}; its log:\n{}",
                self.name,
                self.log_tail()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Fails, with the end of its log, if the process is gone.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}); its log:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Waits until it has burned next to nothing for a while, so that its start is not counted.
    pub(crate) fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let before = self.cpu()?;
            thread::sleep(Duration::from_millis(150));
            if self.cpu()?.since(&before) < 5_000_000 {
                return Ok(());
            }
        }
        bail!("{} does not come to rest", self.name)
    }

    /// What it has burned until now.
    pub(crate) fn cpu(&self) -> Result<CpuTimes> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let path = entry?.path();
            let tid = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).context("a thread id")?;
            // A thread may end between the listing and the reading.
            let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
            let ran = stat.split_whitespace().next().and_then(|n| n.parse().ok()).context("schedstat")?;
            threads.insert(tid, ran);
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit_once(')').context("stat")?.1;
        // utime and stime are fields 14 and 15; the state that follows the name is field 3.
        let ticks = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap_or(0)).sum();
        Ok(CpuTimes { threads, ticks })
    }

    /// A line of `/proc/<pid>/status` that counts kilobytes (`VmHWM`, `RssAnon`), in bytes.
    pub(crate) fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).context("a line of status")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of a bench outlives it, whatever state it is in.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl CpuTimes {
    /// CPU nanoseconds from `earlier` to here. Exact by thread; in ticks of 10 ms if a thread ended in between.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        if earlier.threads.keys().any(|tid| !self.threads.contains_key(tid)) {
            return (self.ticks - earlier.ticks) * TICK_NS;
        }
        self.threads.iter().map(|(tid, ran)| ran - earlier.threads.get(tid).copied().unwrap_or(0)).sum()
    }

    /// The same in ticks of 10 ms, with the threads that began and ended in between.
    pub(crate) fn whole_since(&self, earlier: &Self) -> u64 {
        (self.ticks - earlier.ticks) * TICK_NS
    }
}

/// A port of the loopback that nobody listens on just now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A directory that is removed with all its contents when the value is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A fresh directory for this process and `name`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("sluicegate-bench-{}-{name}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
