//! The live stream: how fast a sink gets what a canned primary writes, and how fast a real replica takes it.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::Sizes;
use super::middle::Sluicegate;
use super::primary::{Link, Primary};
use super::server::{Client, Server};
use super::sink::Sink;
use super::stream::{self, Checker, Ending};
use crate::middle::{Kind, Middle};
use crate::process::{CpuTimes, Process, Scratch};
use crate::report::{Report, median, table};
use crate::stream::{FRAME_BYTES, View, key, value};

/// MiB of backlog in every view, and while every frame is compared, which makes a slow sink.
const BACKLOG: u32 = 64;
const BACKLOG_COMPARING: u32 = 1024;
/// The replica gets one frame of so many: it takes its time.
const REPLICA_SHARE: u64 = 4;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// A sink behind nothing, the relay or Sluicegate.
    Sink(Kind),
    /// A real replica; nothing is behind it.
    Replica,
}

/// Rivals first, so that every round measures them and us in the same minute.
const CASES: [Case; 5] = [
    Case::Sink(Kind::Direct),
    Case::Sink(Kind::Relay),
    Case::Replica,
    Case::Sink(Kind::Sluicegate(View::Plain)),
    Case::Sink(Kind::Sluicegate(View::Filter)),
];

/// The figures of one run.
#[derive(Default)]
struct Sample {
    /// Until the last frame had come.
    seconds: f64,
    /// Until it was applied, too: of a replica.
    applied: f64,
    cpu_ns: u64,
    rss_max: u64,
}

/// The stream and its length.
struct Load {
    bytes: Arc<Vec<u8>>,
    frames: u64,
}

impl Load {
    fn new(frames: u64) -> Self {
        Self { bytes: Arc::new(stream::build(frames)), frames }
    }

    fn send(&self, link: &Link) -> Result<thread::JoinHandle<Result<()>>> {
        let (mut stream, bytes) = (link.stream.try_clone()?, self.bytes.clone());
        Ok(thread::spawn(move || {
            bytes.chunks(16 << 20).try_for_each(|part| stream.write_all(part)).map_err(Into::into)
        }))
    }
}

/// Runs every case, interleaved, and reports medians.
pub(super) fn run(report: &mut Report, kevy: &Path, sizes: Sizes) -> Result<()> {
    let (load, small) = (Load::new(sizes.frames), Load::new(sizes.frames / REPLICA_SHARE));
    let mut samples: Vec<Vec<Sample>> = CASES.iter().map(|_| Vec::new()).collect();
    // The first round compares every frame and is not counted.
    for round in 0..=sizes.rounds {
        for (case, samples) in CASES.iter().zip(&mut samples) {
            let sample = match case {
                Case::Sink(kind) => to_sink(*kind, &load, round == 0),
                Case::Replica => to_replica(kevy, &small),
            };
            let sample = sample.with_context(|| format!("round {round} of {}", title(*case)))?;
            eprintln!("kevy live round {round}/{}: {} {:.3} s", sizes.rounds, title(*case), sample.seconds);
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    report.add(&text(load.frames, small.frames, sizes.rounds, &samples));
    Ok(())
}

/// What stands between primary and sink.
struct Between {
    process: Option<Process>,
    address: std::net::SocketAddr,
}

impl Between {
    fn start(kind: Kind, primary: &Primary, backlog: u32, dir: &Path) -> Result<Self> {
        if let Kind::Sluicegate(view) = kind {
            let sluicegate = Sluicegate::start(primary.address(), &[view], backlog, dir)?;
            return Ok(Self { address: sluicegate.listens[0], process: Some(sluicegate.process) });
        }
        let Middle { process, address } = Middle::start(kind, primary.address(), backlog, dir)?;
        Ok(Self { process, address })
    }

    fn cpu(&self) -> Result<Option<CpuTimes>> {
        self.process.as_ref().map(Process::cpu).transpose()
    }
}

fn to_sink(kind: Kind, load: &Load, compare: bool) -> Result<Sample> {
    let scratch = Scratch::new("kevy-live")?;
    let primary = Primary::start()?;
    let between = Between::start(kind, &primary, if compare { BACKLOG_COMPARING } else { BACKLOG }, scratch.path())?;
    let log = || between.process.as_ref().map(Process::log_tail).unwrap_or_default();
    let mut body = Vec::new();
    let mut sink = Sink::attach(between.address, &mut body).with_context(log)?;
    let snapshot = body.windows(20).filter(|window| window == b"user:in-the-snapshot").count();
    ensure!(snapshot == 1, "the snapshot is {}", body.escape_ascii());
    let link = primary.link(PATIENCE).with_context(log)?;
    between.process.as_ref().map_or(Ok(()), Process::settle)?;

    let mut ending = Ending::new(load.frames, kind.view(), sink.first)?;
    let mut checker = compare.then(|| Checker::new(load.frames, kind.view(), sink.first));
    let cpu_before = between.cpu()?;
    let began = Instant::now();
    let writer = load.send(&link)?;
    let drained = sink.drain(|read| {
        let ended = ending.feed(read);
        checker.as_mut().map_or(Ok(ended), |checker| checker.feed(read))
    });
    drained.with_context(log)?;
    let seconds = began.elapsed().as_secs_f64();
    let mut sample = Sample { seconds, ..Sample::default() };
    if let (Some(before), Some(after), Some(process)) = (cpu_before, between.cpu()?, &between.process) {
        (sample.cpu_ns, sample.rss_max) = (after.since(&before), process.memory("VmHWM")?);
    }
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    primary.check_undisturbed()?;
    let added = ending.added()?;
    if let Some(checker) = checker {
        ensure!(added == checker.added_bytes, "{added} bytes more than due, {} explained", checker.added_bytes);
    }
    Ok(sample)
}

fn to_replica(kevy: &Path, load: &Load) -> Result<Sample> {
    let scratch = Scratch::new("kevy-live")?;
    let primary = Primary::start()?;
    let replica = Server::start(kevy, Some(primary.address()), scratch.path())?;
    let link = primary.link(PATIENCE).with_context(|| replica.process.log_tail())?;
    replica.process.settle()?;
    let mut client = replica.client()?;
    let held = client.keys()?;
    ensure!(held == 1, "{held} keys after a snapshot of one");

    let cpu_before = replica.process.cpu()?;
    let began = Instant::now();
    let writer = load.send(&link)?;
    link.wait_acked(stream::end(load.frames), PATIENCE).with_context(|| replica.process.log_tail())?;
    let seconds = began.elapsed().as_secs_f64();
    while client.ask(&[b"GET", b"end:marker"])?.is_none() {
        ensure!(began.elapsed() < PATIENCE, "the last frame is not applied");
        thread::sleep(Duration::from_millis(2));
    }
    let applied = began.elapsed().as_secs_f64();
    let cpu_ns = replica.process.cpu()?.since(&cpu_before);
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    primary.check_undisturbed()?;
    check_applied(&mut client, load.frames)?;
    Ok(Sample { seconds, applied, cpu_ns, rss_max: replica.process.memory("VmHWM")? })
}

/// The replica must hold all keys, and the newest values of some of them.
fn check_applied(client: &mut Client, frames: u64) -> Result<()> {
    let (held, due) = (client.keys()?, (0..frames).map(key).collect::<HashSet<_>>().len() as u64 + 2);
    ensure!(held == due, "the replica holds {held} keys, {due} are due");
    // Nothing came after these to the same keys.
    for index in (0..frames).rev().take(1000) {
        let got = client.ask(&[b"GET", &key(index)])?;
        ensure!(got.as_deref() == Some(&value(index)[..]), "{} holds {got:?}", key(index).escape_ascii());
    }
    Ok(())
}

fn title(case: Case) -> &'static str {
    match case {
        Case::Sink(Kind::Sluicegate(View::Plain)) => "sluicegate, identity view",
        Case::Sink(Kind::Sluicegate(_)) => "sluicegate, filtered view (`user:*`)",
        Case::Sink(kind) => kind.title(),
        Case::Replica => "a replica of kevy 6.4, received",
    }
}

fn text(frames: u64, replica_frames: u64, rounds: usize, samples: &[Vec<Sample>]) -> String {
    let mut rows = Vec::new();
    for (case, samples) in CASES.iter().zip(samples) {
        let frames = if *case == Case::Replica { replica_frames } else { frames } as f64;
        let mut row = |title: &str, seconds: fn(&Sample) -> f64, process: bool| {
            let rates = || samples.iter().map(|sample| frames / seconds(sample) / 1e6);
            let (low, high) =
                rates().fold((f64::INFINITY, 0.0f64), |(low, high), rate| (low.min(rate), high.max(rate)));
            let cpu = median(samples.iter().map(|sample| sample.cpu_ns as f64)) / frames;
            let rss = median(samples.iter().map(|sample| sample.rss_max as f64)) / f64::from(1 << 20);
            let measured = |figure: String| if process { figure } else { "–".into() };
            rows.push(vec![
                title.into(),
                format!("{:.2} M", median(rates())),
                format!("{low:.2}–{high:.2}"),
                measured(format!("{cpu:.0}")),
                measured(format!("{rss:.0} MiB")),
            ]);
        };
        row(title(*case), |sample| sample.seconds, !matches!(case, Case::Sink(Kind::Direct) | Case::Replica));
        if *case == Case::Replica {
            row("the same, received and applied", |sample| sample.applied, true);
        }
    }
    let head = ["between primary and sink", "frames/s in", "range", "CPU ns a frame", "RSS max"];
    format!(
        "## kevy, live\n\n{frames} SETs of {FRAME_BYTES} B and an envelope of 17 B (23 B behind Sluicegate, which counts on its \
         own), of which half are `user:*`, in one shard, written as fast as they are read; the time ends with the last frame \
         at the sink. A real replica has no sink behind it, for it passes no \
         live frame on: it gets {replica_frames} of them and ends with its \
         acknowledgement, or with the last value to be had from it. Medians of {rounds} interleaved rounds, after one in \
         which every frame and its offset was compared with what was due; bytes, the end's offset, and the replica's keys are \
         checked in all.\n\n{}",
        table(&head, &rows)
    )
}
