//! Snapshots: how fast a real primary ships its own, and how fast Sluicegate ships what it has of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::Sizes;
use super::body::Dataset;
use super::middle::Sluicegate;
use super::server::Server;
use super::sink::Sink;
use crate::process::{Process, Scratch};
use crate::report::{Report, median, table};
use crate::stream::{View, value};

/// SETs sent at once.
const BATCH: u64 = 1000;
/// The views, and the MiB of backlog of each.
const VIEWS: [View; 2] = [View::Plain, View::Filter];
const BACKLOG: u32 = 16;
/// What is measured.
const TITLES: [&str; 4] = [
    "kevy 6.4 itself, idle",
    "kevy 6.4 itself, poked a thousand times a second",
    "sluicegate, identity view",
    "sluicegate, filtered view (`user:*`)",
];

/// A real primary that holds a dataset.
struct Loaded {
    server: Server,
    dataset: Dataset,
}

impl Loaded {
    fn start(kevy: &Path, mebibytes: u64, dir: &Path) -> Result<Self> {
        let (server, dataset) = (Server::start(kevy, None, dir)?, Dataset::new(mebibytes));
        let mut client = server.client()?;
        for from in (0..dataset.keys).step_by(BATCH as usize) {
            let batch = from..dataset.keys.min(from + BATCH);
            client.set(batch.map(|index| (Dataset::key(index), value(index).to_vec())))?;
        }
        let held = client.keys()?;
        ensure!(held == dataset.keys, "the primary holds {held} keys of {}", dataset.keys);
        Ok(Self { server, dataset })
    }

    /// Keeps it awake until the returned value is dropped: one PING every millisecond.
    fn poke(&self) -> Result<Poke> {
        let (mut client, stopped) = (self.server.client()?, Arc::new(AtomicBool::new(false)));
        let seen = stopped.clone();
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                client.ask(&[b"PING"])?;
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        Ok(Poke { stopped, thread })
    }
}

struct Poke {
    stopped: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Poke {
    fn stop(self) -> Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the poking client panicked"))?.context("poking")
    }
}

/// One ship.
struct Sample {
    /// Bytes of the whole body, before any filter.
    source: u64,
    bytes: u64,
    keys: u64,
    seconds: f64,
    cpu_ns: u64,
}

/// Takes a snapshot, and checks every key and value of it when the time has been taken.
fn ship(from: SocketAddr, process: &Process, dataset: Dataset, view: View, body: &mut Vec<u8>) -> Result<Sample> {
    let before = process.cpu()?;
    let sink = Sink::attach(from, body).with_context(|| process.log_tail())?;
    // A thread of its own may make the snapshot, and is gone with it.
    let cpu_ns = process.cpu()?.whole_since(&before);
    let keys = dataset.check(view, body).with_context(|| format!("{view:?}"))?;
    Ok(Sample {
        source: dataset.body_bytes(),
        bytes: body.len() as u64,
        keys,
        seconds: sink.took.as_secs_f64(),
        cpu_ns,
    })
}

/// Runs every case, interleaved, and reports medians.
pub(super) fn run(report: &mut Report, kevy: &Path, sizes: Sizes) -> Result<()> {
    let scratches = [Scratch::new("kevy-idle")?, Scratch::new("kevy-ship")?, Scratch::new("kevy-sluicegate")?];
    let [idle_dir, dir, own_dir] = scratches.each_ref().map(Scratch::path);
    let (idle, whole) = (Loaded::start(kevy, sizes.idle, idle_dir)?, Loaded::start(kevy, sizes.snapshot, dir)?);
    let poke = whole.poke()?;
    let sluicegate = Sluicegate::start(whole.server.shard, &VIEWS, BACKLOG, own_dir)?;
    // The ships of this round wait for the spool and are not counted.
    let mut body = Vec::new();
    for (listen, view) in sluicegate.listens.iter().zip(VIEWS) {
        ship(*listen, &sluicegate.process, whole.dataset, view, &mut body)?;
    }
    poke.stop()?;
    let mut samples: [Vec<Sample>; 4] = Default::default();
    for round in 1..=sizes.rounds {
        let mut took = Vec::new();
        for (case, samples) in samples.iter_mut().enumerate() {
            let sample = measure(case, &idle, &whole, &sluicegate, &mut body);
            let sample = sample.with_context(|| format!("round {round} of {}", TITLES[case]))?;
            took.push(format!("{:.3}", sample.seconds));
            samples.push(sample);
        }
        eprintln!("kevy ship round {round}/{}: {} s", sizes.rounds, took.join(", "));
    }
    report.add(&text(sizes.rounds, &samples));
    Ok(())
}

fn measure(case: usize, idle: &Loaded, whole: &Loaded, sluicegate: &Sluicegate, body: &mut Vec<u8>) -> Result<Sample> {
    let measured = match case {
        0 => &idle.server.process,
        1 => &whole.server.process,
        _ => &sluicegate.process,
    };
    let sample = match case {
        0 => ship(idle.server.shard, measured, idle.dataset, View::Plain, body)?,
        1 => {
            let poke = whole.poke()?;
            let sample = ship(whole.server.shard, measured, whole.dataset, View::Plain, body)?;
            poke.stop()?;
            sample
        }
        _ => ship(sluicegate.listens[case - 2], measured, whole.dataset, VIEWS[case - 2], body)?,
    };
    // What it leaves to be done does not fall to the next one.
    measured.settle()?;
    Ok(sample)
}

fn text(rounds: usize, samples: &[Vec<Sample>; 4]) -> String {
    let rate = |sample: &Sample| sample.bytes as f64 / sample.seconds / 1e6;
    let rows = samples.iter().zip(TITLES).map(|(samples, title)| {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        let (low, high) =
            samples.iter().map(rate).fold((f64::INFINITY, 0.0f64), |(low, high), rate| (low.min(rate), high.max(rate)));
        let bytes = of(|sample| sample.bytes as f64);
        vec![
            title.into(),
            format!("{:.1} MiB", bytes / f64::from(1 << 20)),
            format!("{:.0}", of(|sample| sample.keys as f64)),
            format!("{:.3} s", of(|sample| sample.seconds)),
            format!("{:.1}", median(samples.iter().map(rate))),
            format!("{low:.1}–{high:.1}"),
            format!("{:.1}", median(samples.iter().map(|sample| sample.source as f64 / sample.seconds / 1e6))),
            format!("{:.1}", of(|sample| sample.cpu_ns as f64) / bytes),
        ]
    });
    let head =
        ["who ships", "body", "keys", "from request to end", "MB/s out", "range", "MB/s of the whole", "CPU ns a byte"];
    format!(
        "## kevy, snapshot\n\nStrings of 62 B with keys of 17 B in one shard of a primary of kevy 6.4, whom nobody else asks \
         anything. *MB/s out* is of what arrives, *of the whole* of what it is made from. Idle, it sends 64 KiB in each of its twenty turns a second, whatever the size; a client \
         that says PING every millisecond wakes it more often. Sluicegate ships what it has spooled. Medians of {rounds} \
         interleaved rounds; every key and value of each snapshot is compared with what is due.\n\n{}",
        table(&head, &rows.collect::<Vec<_>>())
    )
}
