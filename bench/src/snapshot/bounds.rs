//! Memory while everything is large at once: a snapshot far beyond memory, one huge value in it, replicas that ask for it and
//! then stop reading, and a stream that goes on meanwhile.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_core::limits;

use crate::memory::{self, Checker, Dataset, LIMIT, VIEW, Values};
use crate::middle::{Kind, Middle};
use crate::primary::Primary;
use crate::process::Scratch;
use crate::report::{Report, table};
use crate::sink::Sink;
use crate::stream;

const MIB: u64 = 1 << 20;
/// MiB of backlog, as configured.
const BACKLOG: u64 = 16;
/// SETs of the stream behind the snapshot: more than the backlog holds.
const FRAMES: u64 = 400_000;

/// What may be held: the base, the backlog, the spool's and each replica's bound.
fn limit(replicas: usize) -> u64 {
    LIMIT + BACKLOG * MIB + limits::SPOOL_UNWRITTEN_BYTES_MAX as u64 + (replicas * limits::REPLICA_OUTPUT_BYTES) as u64
}

/// Measures one snapshot of so many MiB with a value of `large` MiB, with and without `stalled` replicas.
pub(super) fn run(report: &mut Report, mebibytes: u64, large: u64, stalled: usize) -> Result<()> {
    let kind = Kind::Sluicegate(VIEW);
    if kind.program().is_none() {
        report.missing(&[kind]);
        return Ok(());
    }
    let values = Arc::new(Values::new());
    let dataset = Dataset::new(mebibytes * MIB, large);
    let mut rows = Vec::new();
    for stalled in [0, stalled] {
        rows.push(measure(kind, dataset, &values, stalled).with_context(|| format!("{stalled} stalled replicas"))?);
    }
    let head = [
        "replicas that stop reading",
        "snapshot in",
        "of the view",
        "sink done after",
        "RSS at rest before",
        "RSS max",
        "bound",
        "anonymous at the end",
    ];
    report.add(&format!(
        "## Snapshot: memory\n\nA snapshot of {mebibytes} MiB with one value of {large} MiB passes a filtered and renamed view to a \
         sink that checks every byte, then {FRAMES} SETs pass; the stalled replicas have asked for the snapshot and read nothing \
         at all. *Bound* is {} MiB for the program, the backlog of {BACKLOG} MiB, and what the spool and each replica may hold.\n\n{}",
        LIMIT / MIB,
        table(&head, &rows)
    ));
    Ok(())
}

fn measure(kind: Kind, dataset: Dataset, values: &Arc<Values>, stalled: usize) -> Result<Vec<String>> {
    let scratch = Scratch::new("bounds")?;
    let source = values.clone();
    let primary = Primary::start(Arc::new(move |out: &mut dyn Write| memory::write(out, dataset, &source)))?;
    let middle = Middle::start(kind, primary.address(), BACKLOG as u32, scratch.path())?;
    let process = middle.process.as_ref().context("a process")?;
    let at_rest = process.memory("VmRSS")?;
    let link = primary.link(Duration::from_secs(600)).with_context(|| process.log_tail())?;
    let began = Instant::now();
    let held: Vec<TcpStream> = (0..stalled).map(|_| Sink::stalled(middle.address)).collect::<Result<_>>()?;
    let mut checker = Checker::new(dataset, values.clone());
    let mut sink = Sink::attach(middle.address, &mut checker).with_context(|| process.log_tail())?;
    let (view_bytes, ended) = sink.snapshot();
    checker.finish()?;
    let stream = stream::build(FRAMES);
    let mut writer = link.stream.try_clone()?;
    let writing = std::thread::spawn(move || writer.write_all(&stream));
    let mut stream = stream::Checker::new(FRAMES, VIEW);
    sink.drain(|bytes| stream.feed(bytes))?;
    ensure!(writing.join().is_ok_and(|written| written.is_ok()), "the stream could not be written");
    primary.check_undisturbed()?;
    let (max, bound) = (process.memory("VmHWM")?, limit(stalled + 1));
    drop(held);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    Ok(vec![
        stalled.to_string(),
        mib(link.snapshot_bytes),
        mib(view_bytes),
        format!("{:.2} s", ended.duration_since(began).as_secs_f64()),
        mib(at_rest),
        mib(max),
        format!("{}, {}", mib(bound), if max <= bound { "within" } else { "**above**" }),
        mib(process.memory("RssAnon")?),
    ])
}
