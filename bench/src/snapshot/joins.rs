//! What replicas cost a real primary while they join: twenty of four unlike views through Sluicegate, the same number of them
//! attached to the primary itself, and none at all.
//!
//! A writer sends one SET after another, at a set rate, and notes how long each took; beside it the primary is asked again and
//! again what its replicas cost it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::client::{Client, number};
use crate::middle::{self, Kind, PLUGINS};
use crate::process::{Process, Scratch, free_address};
use crate::rdb::Visitor;
use crate::report::{Report, table};
use crate::sink::Sink;
use crate::stream::{View, noise};

const MIB: u64 = 1 << 20;
/// Bytes of a value.
const VALUE: usize = 1000;
/// SETs in a second.
const RATE: u64 = 1000;
/// The views, each in a process of four.
const VIEWS: [View; 4] = [View::Plain, View::Filter, View::Rename, View::FilterRename];
/// The key that ends a run; every view has it under this name.
const END: &str = "end:marker";
/// How often the primary is asked what it holds.
const EVERY: Duration = Duration::from_millis(50);

/// Where the replicas attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Nobody,
    Sluicegate,
    Direct,
}

impl Case {
    fn title(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Sluicegate => "through sluicegate, 4 views",
            Self::Direct => "attached to the primary",
        }
    }
}

/// Lets `replicas` join within `seconds`, in each case.
pub(super) fn run(report: &mut Report, mebibytes: u64, replicas: usize, seconds: u64) -> Result<()> {
    let needed = [Kind::Redis, Kind::Sluicegate(View::Plain)];
    let missing: Vec<Kind> = needed.into_iter().filter(|kind| kind.program().is_none()).collect();
    if !missing.is_empty() {
        report.missing(&missing);
        return Ok(());
    }
    let entries = mebibytes * MIB / (VALUE as u64 + 20);
    let mut rows = Vec::new();
    for case in [Case::Nobody, Case::Sluicegate, Case::Direct] {
        rows.push(measure(case, entries, replicas, seconds).with_context(|| case.title())?);
        eprintln!("joined: {}", case.title());
    }
    let head = [
        "replicas",
        "forks",
        "SET p50 / p99 / p99.9 / max, ms",
        "mem_clients_slaves max",
        "mem_total_replication_buffers max",
        "last replica loaded after",
    ];
    report.add(&format!(
        "## Snapshot: replicas that join\n\nredis 7.0, with its default backlog of 1 MiB, holds {mebibytes} MiB in values of {VALUE} B; \
         {RATE} SETs a second are sent to it one by one for {seconds} s, in which {replicas} replicas join one after the other. \
         Through Sluicegate its own attaching, and so the one fork, is within that time. Every replica counted its keys and waited for the last SET.\n\n{}",
        table(&head, &rows)
    ));
    Ok(())
}

fn key(index: u64) -> String {
    let family = if noise(index) >> 63 == 0 { "user" } else { "sess" };
    format!("{family}:{index:012}")
}

fn value(index: u64) -> Vec<u8> {
    (0..VALUE as u64 / 8).flat_map(|word| noise(index ^ word << 40).to_le_bytes()).collect()
}

fn measure(case: Case, entries: u64, replicas: usize, seconds: u64) -> Result<Vec<String>> {
    let scratch = Scratch::new("joins")?;
    let (_primary, address) = middle::real_primary(scratch.path())?;
    let mut client = Client::connect(address)?;
    // What is packed costs the primary processor time, in every fork anew: not what is measured here.
    client.call(&["CONFIG", "SET", "rdbcompression", "no"])?;
    // As servers have it by default: what replicas cost beyond it is what is asked.
    client.call(&["CONFIG", "SET", "repl-backlog-size", "1mb"])?;
    client.fill(entries, |index| (key(index), value(index)))?;
    let forks = client.info("total_forks")?;

    let (began, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let watch = watch(address, over.clone());
    let writer = thread::spawn(move || write(address, entries, Duration::from_secs(seconds)));
    let middle = if case == Case::Sluicegate { Some(four_views(address, &scratch)?) } else { None };
    let joining: Vec<_> = (0..if case == Case::Nobody { 0 } else { replicas })
        .map(|nth| {
            let view = VIEWS[nth % VIEWS.len()];
            let (at, view) = match &middle {
                Some((_, ports)) => (ports[nth % VIEWS.len()], view),
                None => (address, View::Plain),
            };
            let wait = Duration::from_secs(seconds).mul_f64(nth as f64 / replicas as f64);
            thread::spawn(move || join(at, view, entries, began, wait))
        })
        .collect();

    let latencies = writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    // Again and again: a replica that attaches to the primary may get a snapshot that is newer than the first of them.
    while joining.iter().any(|replica| !replica.is_finished()) {
        client.call(&["SET", END, "!"])?;
        thread::sleep(EVERY);
    }
    let mut last = Duration::ZERO;
    for (nth, replica) in joining.into_iter().enumerate() {
        let loaded = replica.join().map_err(|_| anyhow!("a replica panicked"))?;
        let loaded = loaded.with_context(|| match &middle {
            Some((process, _)) => format!("replica {nth}; the end of sluicegate's log:\n{}", process.log_tail()),
            None => format!("replica {nth}"),
        })?;
        last = last.max(loaded);
    }
    over.store(true, Ordering::Relaxed);
    let peak = watch.join().map_err(|_| anyhow!("the watch panicked"))??;
    let forks = client.info("total_forks")? - forks;
    ensure!(case != Case::Sluicegate || forks == 1, "{forks} forks through sluicegate");
    let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize] as f64 / 1e6;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    Ok(vec![
        case.title().into(),
        forks.to_string(),
        format!("{:.2} / {:.2} / {:.2} / {:.1}", at(0.5), at(0.99), at(0.999), at(1.0)),
        mib(peak.clients),
        mib(peak.buffers),
        if last.is_zero() { "-".into() } else { format!("{:.1} s", last.as_secs_f64()) },
    ])
}

/// Sluicegate with four views, and where each listens.
fn four_views(primary: SocketAddr, scratch: &Scratch) -> Result<(Process, Vec<SocketAddr>)> {
    let ports = VIEWS.iter().map(|_| free_address()).collect::<Result<Vec<_>>>()?;
    let data = scratch.path().join("data");
    let mut config = format!("[server]\ndata_dir = {data:?}\n\n[upstream]\naddress = \"{primary}\"\n");
    for (nth, (view, port)) in VIEWS.iter().zip(&ports).enumerate() {
        config += &format!("\n[[view]]\nname = \"v{nth}\"\nlisten = [\"{port}\"]\npipeline = {:?}\n", view.pipeline());
    }
    config += PLUGINS;
    let process = middle::sluicegate(&config, ports[0], "middle", scratch.path())?;
    Ok((process, ports))
}

/// Sends SETs to keys that are there, each when the one before is answered and its time has come; the sorted times, in ns.
fn write(primary: SocketAddr, entries: u64, time: Duration) -> Result<Vec<u64>> {
    let mut client = Client::connect(primary)?;
    let (began, mut took) = (Instant::now(), Vec::new());
    let mut out = Vec::new();
    while began.elapsed() < time {
        let index = noise(took.len() as u64) % entries;
        out.clear();
        sluicegate_core::resp::write_command(&mut out, &[b"SET", key(index).as_bytes(), &value(index)]);
        let sent = Instant::now();
        client.send(&out)?;
        client.answer()?;
        took.push(sent.elapsed().as_nanos() as u64);
        let due = Duration::from_nanos(took.len() as u64 * 1_000_000_000 / RATE);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    took.sort_unstable();
    ensure!(!took.is_empty(), "no SET was sent");
    Ok(took)
}

/// The most that replicas cost the primary, in bytes.
#[derive(Default)]
struct Peak {
    clients: u64,
    buffers: u64,
}

fn watch(primary: SocketAddr, over: Arc<AtomicBool>) -> thread::JoinHandle<Result<Peak>> {
    thread::spawn(move || {
        let (mut client, mut peak) = (Client::connect(primary)?, Peak::default());
        while !over.load(Ordering::Relaxed) {
            let info = client.call(&["INFO", "memory"])?;
            let read = |field| number(&info, field).with_context(|| format!("INFO has no {field}"));
            peak.clients = peak.clients.max(read("mem_clients_slaves")?);
            peak.buffers = peak.buffers.max(read("mem_total_replication_buffers")?);
            thread::sleep(EVERY);
        }
        Ok(peak)
    })
}

/// Counts the keys of a view.
struct Count {
    view: View,
    keys: u64,
}

impl Visitor for Count {
    fn entry(&mut self, key: &[u8], value_len: u64) -> Result<()> {
        if key == END.as_bytes() {
            return Ok(());
        }
        ensure!(value_len == VALUE as u64, "{} has a value of {value_len} bytes", key.escape_ascii());
        let ours = match self.view {
            View::Plain => key.starts_with(b"user:") || key.starts_with(b"sess:"),
            View::Filter => key.starts_with(b"user:"),
            View::Rename => key.starts_with(b"u:") || key.starts_with(b"sess:"),
            View::FilterRename => key.starts_with(b"u:"),
        };
        ensure!(ours, "{} is no key of this view", key.escape_ascii());
        self.keys += 1;
        Ok(())
    }

    fn value(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// A replica that joins after `wait`, loads, and reads until the last SET; when it had loaded, from `began` on.
fn join(at: SocketAddr, view: View, entries: u64, began: Instant, wait: Duration) -> Result<Duration> {
    thread::sleep(wait.saturating_sub(began.elapsed()));
    let mut count = Count { view, keys: 0 };
    let mut sink = Sink::attach(at, &mut count)?;
    let loaded = sink.snapshot().1.duration_since(began);
    let due = (0..entries).filter(|index| view.apply(key(*index).as_bytes()).is_some()).count() as u64;
    ensure!(count.keys == due, "a view of {} keys came with {}", due, count.keys);
    let mut tail = Vec::new();
    sink.drain(|bytes| {
        tail.extend_from_slice(bytes);
        let found = tail.windows(END.len()).any(|window| window == END.as_bytes());
        tail.drain(..tail.len().saturating_sub(END.len()));
        Ok(found)
    })?;
    Ok(loaded)
}
