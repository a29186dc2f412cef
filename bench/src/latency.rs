//! Added latency: a paced writer, a real primary, one sink attached to it and one behind a middle, at the same time.
//!
//! Every write carries its number and the moment it was sent. What a middle adds is taken write by write against the
//! sink that hangs on the primary itself, so that whatever shakes the machine shakes both.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use sluicegate_core::resp;

use crate::middle::{self, Kind, Middle};
use crate::process::Scratch;
use crate::rdb::Names;
use crate::report::{Report, median, table};
use crate::sink::Sink;
use crate::stream::{MARKER, View};
use crate::wire;

/// Middles that are compared.
const CASES: [Kind; 4] =
    [Kind::Redis, Kind::Valkey, Kind::Sluicegate(View::Plain), Kind::Sluicegate(View::FilterRename)];
/// Writes in a second.
const RATE: u64 = 20_000;
/// Writes of one run that are not counted: connections and caches warm up.
const WARM_UP: usize = RATE as usize / 2;
/// The quantiles of the report.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// Quantiles of one run, in nanoseconds.
struct Sample {
    direct: [f64; 3],
    behind: [f64; 3],
    added: [f64; 3],
}

/// Runs every case that can be run here, interleaved, `seconds` each, and reports medians.
pub(crate) fn run(report: &mut Report, seconds: u64, rounds: usize) -> Result<()> {
    let (cases, missing): (Vec<Kind>, Vec<Kind>) = CASES.iter().partition(|kind| kind.program().is_some());
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (kind, samples) in cases.iter().zip(&mut samples) {
            let sample = measure(*kind, (RATE * seconds) as usize);
            samples.push(sample.with_context(|| format!("round {round} of {}", kind.title()))?);
            eprintln!("latency round {round}/{rounds}: {}", kind.title());
        }
    }
    report.add(&text(seconds, rounds, &cases, &samples));
    report.missing(&missing);
    Ok(())
}

fn measure(kind: Kind, writes: usize) -> Result<Sample> {
    let scratch = Scratch::new("latency")?;
    let (_primary, address) = middle::real_primary(scratch.path())?;
    let middle = Middle::start(kind, address, 64, scratch.path())?;
    let epoch = Instant::now();
    let direct = Sink::attach(address, &mut Names::default())?;
    let behind = Sink::attach(middle.address, &mut Names::default())?;
    middle.settle()?;
    let (ready, both_ready) = channel();
    let [direct, behind] = [direct, behind].map(|sink| {
        let ready = ready.clone();
        thread::spawn(move || receive(sink, epoch, writes, &ready))
    });
    write(address, epoch, writes, &both_ready)?;
    let joined =
        |sink: thread::JoinHandle<Result<Vec<Arrival>>>| sink.join().map_err(|_| anyhow!("a sink panicked"))?;
    let (direct, behind) = (joined(direct).context("the direct sink")?, joined(behind).context("the sink behind")?);
    let (direct, behind) = (&direct[WARM_UP..], &behind[WARM_UP..]);
    let latency = |arrivals: &[Arrival]| quantiles(arrivals.iter().map(|a| a.at as f64 - a.sent as f64));
    Ok(Sample {
        direct: latency(direct),
        behind: latency(behind),
        added: quantiles(behind.iter().zip(direct).map(|(behind, direct)| behind.at as f64 - direct.at as f64)),
    })
}

/// When a write was sent and when it came, in nanoseconds since the run's epoch.
#[derive(Clone, Copy, Default)]
struct Arrival {
    sent: u64,
    at: u64,
}

/// Writes at the set rate: every wake-up sends what is due, which is one or two writes.
fn write(primary: SocketAddr, epoch: Instant, writes: usize, ready: &Receiver<()>) -> Result<()> {
    let mut stream = TcpStream::connect(primary)?;
    stream.set_nodelay(true)?;
    // Without replies the writer need not read, and nothing but the writes wakes the primary.
    stream.write_all(&wire::command(&[b"CLIENT", b"REPLY", b"OFF"]))?;
    // A primary may hold the stream of a fresh replica back for most of a second.
    stream.write_all(&wire::command(&[b"SET", b"user:ready", b"?"]))?;
    for _ in 0..2 {
        ready.recv_timeout(Duration::from_secs(30)).context("a sink gets no stream")?;
    }
    let began = Instant::now();
    let mut written = 0;
    let mut out = Vec::new();
    while written < writes {
        let due = (began.elapsed().as_nanos() as u64 * RATE / 1_000_000_000) as usize;
        let due = due.min(writes);
        out.clear();
        for number in written..due {
            let key = format!("user:{:012}", number % 10_000);
            let value = format!("{number:010}:{:020}:{:030}", epoch.elapsed().as_nanos(), 0);
            resp::write_command(&mut out, &[b"SET", key.as_bytes(), value.as_bytes()]);
        }
        stream.write_all(&out)?;
        written = due;
        thread::sleep(Duration::from_micros(20));
    }
    stream.write_all(MARKER)?;
    Ok(())
}

/// Takes the stream up to the marker; every write must come, once and in order.
fn receive(mut sink: Sink, epoch: Instant, writes: usize, ready: &Sender<()>) -> Result<Vec<Arrival>> {
    let mut arrivals: Vec<Arrival> = Vec::with_capacity(writes);
    let mut rest = Vec::new();
    sink.drain(|read| {
        let at = epoch.elapsed().as_nanos() as u64;
        rest.extend_from_slice(read);
        let (mut taken, mut ended) = (0, false);
        while let Some(frame) = wire::frame(&rest[taken..])? {
            taken += frame.len;
            match frame.args[..] {
                [_, b"end:marker", _] => ended = true,
                [_, b"user:ready" | b"u:ready", _] => ready.send(())?,
                [_, _, value] if value.len() == 62 => {
                    let number = resp::decimal(&value[..10]).context("a write without its number")?;
                    ensure!(number == arrivals.len() as u64, "write {number} came as number {}", arrivals.len());
                    // The time has 20 digits, of which the first is 0 for the next 300 years.
                    let sent = resp::decimal(&value[12..31]).context("a write without its time")?;
                    arrivals.push(Arrival { sent, at });
                }
                _ => {}
            }
        }
        rest.drain(..taken);
        Ok(ended)
    })?;
    ensure!(arrivals.len() == writes, "{} of {writes} writes came", arrivals.len());
    Ok(arrivals)
}

fn quantiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    QUANTILES.map(|q| values.get(((values.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(f64::NAN))
}

fn text(seconds: u64, rounds: usize, cases: &[Kind], samples: &[Vec<Sample>]) -> String {
    let microseconds = |samples: &[Sample], of: fn(&Sample) -> &[f64; 3]| {
        let at = |index: usize| format!("{:.0}", median(samples.iter().map(|s| of(s)[index])) / 1e3);
        format!("{} / {} / {}", at(0), at(1), at(2))
    };
    let rows = cases.iter().zip(samples).map(|(kind, samples)| {
        vec![
            kind.title().into(),
            microseconds(samples, |s| &s.added),
            microseconds(samples, |s| &s.behind),
            microseconds(samples, |s| &s.direct),
        ]
    });
    let head = ["between primary and sink", "added", "write to sink behind it", "write to direct sink, same run"];
    format!(
        "## Latency\n\n{RATE} writes/s to redis 7.0 for {seconds} s; p50 / p99 / p99.9 in µs; medians of {rounds} interleaved \
         rounds. *Added* is taken write by write: arrival behind the middle less arrival at a sink that hangs on the \
         primary itself.\n\n{}",
        table(&head, &rows.collect::<Vec<_>>())
    )
}
