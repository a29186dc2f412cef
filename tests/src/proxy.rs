//! The real binary, with a configuration of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::client::Client;
use crate::leash::Leash;
use crate::ports::free_ports;
use crate::wait::{PATIENCE, wait_for};

/// Plugins named `members` and `shorter`; in this order they make what [`View::MEMBERS`](crate::compare::View::MEMBERS) says.
const BUILT_IN: &str = r#"
[[plugin]]
name = "members"
builtin = "key-filter"
  [plugin.config]
  allow = ["user:*", "sess:*"]
[[plugin]]
name = "shorter"
builtin = "key-rename"
  [plugin.config]
  rule = ["user:* => u:*"]
"#;

/// The pipeline of the filtered and renamed view.
pub const FILTERED: &[&str] = &["members", "shorter"];

/// A configuration under construction.
#[derive(Debug, Clone)]
pub struct Config {
    upstream: SocketAddr,
    upstream_lines: String,
    views: Vec<Listed>,
    plugins: String,
    /// Plugins that pack.
    codecs: String,
    /// How many shards the kevy primary has; `None` for Redis and Valkey.
    kevy: Option<u16>,
}

#[derive(Debug, Clone)]
struct Listed {
    name: String,
    pipeline: Vec<String>,
    lines: String,
    /// How many, in a row.
    ports: u16,
}

impl Config {
    /// Follows the primary at `upstream`, with short delays between attempts; no views yet.
    pub fn new(upstream: SocketAddr) -> Self {
        let upstream_lines = "backoff = { min = \"20ms\", max = \"200ms\" }\n".into();
        Self {
            upstream,
            upstream_lines,
            views: Vec::new(),
            plugins: BUILT_IN.into(),
            codecs: String::new(),
            kevy: None,
        }
    }

    /// Follows the kevy primary whose first replication port is `base`, and which has so many shards. Its views have as
    /// many, each on a port of its own.
    pub fn kevy(base: SocketAddr, shards: u16) -> Self {
        Self::of_kevy(base, shards).upstream_line(&format!("shards = {shards}"))
    }

    /// The same, but the proxy is not told what it can ask the primary itself, at its `client` port.
    pub fn kevy_asked(base: SocketAddr, client: SocketAddr, shards: u16) -> Self {
        Self::of_kevy(base, shards).upstream_line(&format!("client_address = \"{client}\""))
    }

    fn of_kevy(base: SocketAddr, shards: u16) -> Self {
        let config = Self::new(base).upstream_line("protocol = \"kevy\"");
        Self { kevy: Some(shards), ..config }
    }

    /// A further line of `[upstream]`.
    pub fn upstream_line(mut self, line: &str) -> Self {
        self.upstream_lines.push_str(line);
        self.upstream_lines.push('\n');
        self
    }

    /// A view on a port of its own, with the plugins of that name.
    pub fn view(self, name: &str, pipeline: &[&str]) -> Self {
        self.view_with(name, pipeline, "")
    }

    /// A view with further TOML lines (`[view.backlog]` …).
    pub fn view_with(self, name: &str, pipeline: &[&str], lines: &str) -> Self {
        let ports = self.kevy.unwrap_or(1);
        self.listed(name, pipeline, lines, ports)
    }

    /// A view of a kevy primary that has another number of shards than the primary.
    pub fn view_of(self, name: &str, pipeline: &[&str], shards: u16) -> Self {
        self.listed(name, pipeline, &format!("shards = {shards}"), shards)
    }

    fn listed(mut self, name: &str, pipeline: &[&str], lines: &str, ports: u16) -> Self {
        let pipeline = pipeline.iter().map(|p| (*p).to_owned()).collect();
        self.views.push(Listed { name: name.to_owned(), pipeline, lines: lines.to_owned(), ports });
        self
    }

    /// Further TOML tables, for plugins and users.
    pub fn tables(mut self, toml: &str) -> Self {
        self.plugins.push_str(toml);
        self
    }

    /// The built-in codec of that name, for `pack = …`.
    pub fn codec(self, name: &str) -> Self {
        self.codec_from(name, &format!("builtin = {name:?}"))
    }

    /// A codec of that name, and further lines that say where it is.
    pub fn codec_from(mut self, name: &str, lines: &str) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.codecs, "[[plugin]]\nname = {name:?}\n{lines}\n");
        self
    }

    /// The identity view `all` and the filtered and renamed view `members`.
    pub fn both_views(self) -> Self {
        self.view("all", &[]).view("members", FILTERED)
    }

    fn toml(&self, data_dir: &Path, ports: &[u16]) -> String {
        let mut text = format!(
            "[log]\nformat = \"text\"\n[server]\ndata_dir = {data_dir:?}\n[upstream]\naddress = \"{}\"\n",
            self.upstream
        );
        text.push_str(&self.upstream_lines);
        for (Listed { name, pipeline, lines, .. }, port) in self.views.iter().zip(ports) {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "[[view]]\nname = {name:?}\nlisten = [\"127.0.0.1:{port}\"]\npipeline = {pipeline:?}\n{lines}\n"
            );
        }
        // A plugin that nobody uses is no reason to fail, but the fewer are compiled the sooner the proxy is up.
        if self.views.iter().any(|view| !view.pipeline.is_empty()) {
            text.push_str(&self.plugins);
        }
        text.push_str(&self.codecs);
        text
    }
}

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    dir: TempDir,
    ports: Vec<u16>,
    process: Option<Leash>,
}

impl Proxy {
    /// Starts it and waits until every view answers PING, or takes connections if it is one of a kevy primary.
    ///
    /// # Errors
    /// The binary cannot be built, or does not come up; the message has its log.
    pub fn start(config: Config) -> Result<Self> {
        let ports = config.views.iter().map(|view| free_ports(view.ports)).collect::<Result<_>>()?;
        let mut proxy = Self { config, dir: tempfile::tempdir()?, ports, process: None };
        proxy.launch()?;
        Ok(proxy)
    }

    /// Starts it again on the same ports and directory, after [`Proxy::kill9`] or [`Proxy::terminate`].
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()
    }

    fn launch(&mut self) -> Result<()> {
        let file = self.config_file();
        let data_dir = self.data_dir();
        std::fs::create_dir_all(&data_dir)?;
        std::fs::write(&file, self.config.toml(&data_dir, &self.ports))?;
        let args = ["run".as_ref(), "--config".as_ref(), file.as_os_str()];
        self.process = Some(Leash::start(binary()?, &args, &[("NO_COLOR", "1")], &self.log_path())?);
        for index in 0..self.ports.len() {
            let (addr, kevy) = (self.addr_of(index), self.config.kevy.is_some());
            wait_for("a view that answers PING", PATIENCE, || {
                self.check_alive()?;
                let connected = Client::connect(addr);
                // A view with users answers with a complaint, which will do. One of a kevy answers nobody but replicas.
                Ok(if kevy {
                    connected.is_ok()
                } else {
                    connected.and_then(|mut client| client.ask(&["PING"])).is_ok()
                })
            })
            .with_context(|| self.context())?;
        }
        Ok(())
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// It has; the message has its log.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(code) = self.process.as_mut().map(Leash::ended).transpose()?.flatten() {
            bail!("the proxy ended by itself with {code}; {}", self.context());
        }
        Ok(())
    }

    fn addr_of(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[index]))
    }

    /// Where a view listens; the first of its ports, if it has several.
    ///
    /// # Panics
    /// There is no view of that name: the story is wrong.
    pub fn addr(&self, view: &str) -> SocketAddr {
        let index = self.config.views.iter().position(|listed| listed.name == view);
        self.addr_of(index.unwrap_or_else(|| panic!("no view {view:?} is configured")))
    }

    /// A new connection to a view.
    ///
    /// # Errors
    /// The proxy does not run.
    pub fn client(&self, view: &str) -> Result<Client> {
        Client::connect(self.addr(view)).with_context(|| self.context())
    }

    /// The text of `INFO section` on a view's port.
    ///
    /// # Errors
    /// The proxy does not run or refuses.
    pub fn info_text(&self, view: &str, section: &str) -> Result<String> {
        Ok(self.client(view)?.call(&["INFO", section])?.text())
    }

    /// One field of `INFO section` on a view's port; empty if it is not there.
    ///
    /// # Errors
    /// As [`Proxy::info_text`].
    pub fn info(&self, view: &str, section: &str, field: &str) -> Result<String> {
        self.client(view)?.info_field(section, field)
    }

    /// All that it has logged, over its restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// How many log lines there are of one kind of event.
    pub fn events(&self, event: &str) -> usize {
        let mark = format!("event={event:?}");
        self.log().lines().filter(|line| line.trim_end().ends_with(&mark)).count()
    }

    /// Waits until a view can be joined.
    ///
    /// # Errors
    /// It cannot within the usual patience; the message has the log.
    pub fn wait_live(&self, view: &str) -> Result<()> {
        wait_for("a live view", PATIENCE, || Ok(self.info(view, "replication", "repl_backlog_active")? == "1"))
            .with_context(|| self.context())
    }

    /// Waits for a log line that holds all these texts, without regard to case, and returns it.
    ///
    /// # Errors
    /// None comes within the usual patience; the message has the log.
    pub fn wait_log(&self, texts: &[&str]) -> Result<String> {
        let found = |line: &&str| {
            let line = line.to_lowercase();
            texts.iter().all(|text| line.contains(&text.to_lowercase()))
        };
        let what = format!("a log line with {texts:?}");
        crate::wait::wait_some(&what, PATIENCE, || Ok(self.log().lines().find(found).map(str::to_owned)))
            .with_context(|| self.context())
    }

    /// The process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the proxy does not run")?.pid())
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// It does not run.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Sends SIGTERM and returns the exit code.
    ///
    /// # Errors
    /// It still runs after ten seconds.
    pub fn terminate(&mut self) -> Result<i32> {
        let mut process = self.process.take().context("the proxy does not run")?;
        process.signal("TERM")?;
        process.wait_end(Duration::from_secs(10)).with_context(|| self.context())
    }

    /// The configuration that it runs with.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("sluicegate.toml")
    }

    /// Where it keeps snapshots.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The end of the log, for messages.
    pub fn context(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        format!("end of the proxy's log:\n{}", lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

/// Runs `sluicegate` with arguments to its end. Returns the exit code and all that it printed.
///
/// # Errors
/// The binary cannot be built or started.
pub fn run_to_end(args: &[&str]) -> Result<(i32, String)> {
    let output = Command::new(binary()?).args(args).env("NO_COLOR", "1").output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
}

/// The binary: `SLUICEGATE_BIN`, or that of this very build, which is brought up to date once a process.
///
/// # Errors
/// It cannot be built.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = BINARY.get() {
        return Ok(path);
    }
    let path = match std::env::var_os("SLUICEGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    ensure!(path.is_file(), "no sluicegate binary at {path:?}");
    Ok(BINARY.get_or_init(|| path))
}

/// Builds into the directory that this test was built into: `<target>/<profile>/deps/<test>`.
fn build() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile_dir = test.parent().and_then(Path::parent).context("a test lies in <target>/<profile>/deps")?;
    let target_dir = profile_dir.parent().context("a test lies in <target>/<profile>/deps")?;
    let profile = profile_dir.file_name().and_then(|name| name.to_str()).context("a profile has a name")?;
    let profile = if profile == "debug" { "dev" } else { profile };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--quiet",
        "--package",
        "sluicegate",
        "--profile",
        profile,
    ]);
    let output = cargo.arg("--target-dir").arg(target_dir).output().context("run cargo")?;
    ensure!(output.status.success(), "sluicegate does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(profile_dir.join("sluicegate"))
}
