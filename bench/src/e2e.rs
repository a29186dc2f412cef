//! End to end on the loopback: a canned primary sends SETs as fast as they are read, a sink counts what comes out.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::middle::{Kind, Middle};
use crate::primary::{Link, Primary};
use crate::process::Scratch;
use crate::rdb::{Names, Writer};
use crate::report::{Report, median, table};
use crate::sink::Sink;
use crate::stream::{self, Checker, MARKER, View};

/// Rivals first, so that every round measures them and us in the same minute.
pub(crate) const CASES: [Kind; 8] = [
    Kind::Direct,
    Kind::Relay,
    Kind::Redis,
    Kind::Valkey,
    Kind::Sluicegate(View::Plain),
    Kind::Sluicegate(View::Filter),
    Kind::Sluicegate(View::Rename),
    Kind::Sluicegate(View::FilterRename),
];

/// Bytes that a server may add of its own (SELECT, PING) without the count being wrong.
const ADDED_BYTES_MAX: u64 = 4096;
/// MiB of backlog in every middle.
const BACKLOG: u32 = 64;
/// The same while every frame is compared: a sink that looks at each of them is slower than what feeds it.
const BACKLOG_COMPARING: u32 = 1024;

/// The figures of one run.
struct Sample {
    seconds: f64,
    cpu_ns: u64,
    rss_max: u64,
}

/// Runs every case that can be run here, interleaved, and reports medians.
pub(crate) fn run(report: &mut Report, only: &[Kind], frames: u64, rounds: usize) -> Result<()> {
    let stream = Arc::new(stream::build(frames));
    let (cases, missing): (Vec<Kind>, Vec<Kind>) = only.iter().partition(|kind| kind.program().is_some());
    let expected: Vec<u64> = cases.iter().map(|kind| stream::bytes_expected(frames, kind.view())).collect();
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    // The first round compares every frame, which costs the sink more than the middle: it is not counted.
    for round in 0..=rounds {
        for (case, kind) in cases.iter().enumerate() {
            let checker = (round == 0).then(|| Checker::new(frames, kind.view()));
            let sample = measure(*kind, &stream, expected[case], checker);
            let sample = sample.with_context(|| format!("round {round} of {}", kind.title()))?;
            eprintln!("e2e round {round}/{rounds}: {} {:.3} s", kind.title(), sample.seconds);
            if round > 0 {
                samples[case].push(sample);
            }
        }
    }
    report.add(&text(frames, rounds, &cases, &samples));
    report.missing(&missing);
    Ok(())
}

fn measure(kind: Kind, stream: &Arc<Vec<u8>>, expected: u64, mut checker: Option<Checker>) -> Result<Sample> {
    let scratch = Scratch::new("e2e")?;
    let primary = Primary::start(Arc::new(|out: &mut dyn Write| {
        let mut rdb = Writer::begin(out)?;
        rdb.entry(b"user:in-the-snapshot", 5)?;
        rdb.put(b"value")?;
        rdb.end()
    }))?;
    let backlog = if checker.is_some() { BACKLOG_COMPARING } else { BACKLOG };
    let middle = Middle::start(kind, primary.address(), backlog, scratch.path())?;
    let mut names = Names::default();
    let mut sink = Sink::attach(middle.address, &mut names)?;
    let due = kind.view().apply(b"user:in-the-snapshot").map(|name| name.escape_ascii().to_string());
    ensure!(names.0 == Vec::from_iter(due), "the snapshot held {:?}", names.0);
    let link = primary.link(Duration::from_secs(30))?;
    middle.settle()?;

    let cpu_before = middle.process.as_ref().map(|p| p.cpu()).transpose()?;
    let began = Instant::now();
    let writer = send(link, stream.clone());
    let (mut bytes, mut tail) = (0, Vec::new());
    sink.drain(|read| {
        bytes += read.len() as u64;
        let ended = ends_with_marker(&mut tail, read);
        match &mut checker {
            Some(checker) => checker.feed(read),
            None => Ok(ended),
        }
    })
    .with_context(|| middle.process.as_ref().map(|p| p.log_tail()).unwrap_or_default())?;
    let seconds = began.elapsed().as_secs_f64();
    let (cpu_ns, rss_max) = match (&middle.process, cpu_before) {
        (Some(process), Some(before)) => (process.cpu()?.since(&before), process.memory("VmHWM")?),
        _ => (0, 0),
    };
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    primary.check_undisturbed()?;
    let added = bytes.checked_sub(expected).filter(|&added| added <= ADDED_BYTES_MAX);
    ensure!(added.is_some(), "{bytes} bytes came out, {expected} were due");
    if let Some(checker) = checker {
        ensure!(added == Some(checker.added_bytes), "{added:?} bytes more than due, {} explained", checker.added_bytes);
    }
    Ok(Sample { seconds, cpu_ns, rss_max })
}

fn send(mut link: Link, stream: Arc<Vec<u8>>) -> thread::JoinHandle<Result<()>> {
    thread::spawn(move || stream.chunks(16 << 20).try_for_each(|part| link.stream.write_all(part)).map_err(Into::into))
}

/// Keeps the last bytes of the stream in `tail` and tells whether they are the marker.
pub(crate) fn ends_with_marker(tail: &mut Vec<u8>, read: &[u8]) -> bool {
    let from = read.len().saturating_sub(MARKER.len());
    tail.extend_from_slice(&read[from..]);
    let excess = tail.len().saturating_sub(MARKER.len());
    tail.drain(..excess);
    tail == MARKER
}

fn text(frames: u64, rounds: usize, cases: &[Kind], samples: &[Vec<Sample>]) -> String {
    let rate = |case: usize| frames as f64 / median(samples[case].iter().map(|s| s.seconds));
    let rate_of = |kind: Kind| cases.iter().position(|&k| k == kind).map(rate);
    let ratio = |case: usize, to: Kind| rate_of(to).map_or("–".into(), |to| format!("{:.2} ×", rate(case) / to));
    let rows = cases.iter().enumerate().map(|(case, kind)| {
        let cpu = median(samples[case].iter().map(|s| s.cpu_ns as f64)) / frames as f64;
        let rss = median(samples[case].iter().map(|s| s.rss_max as f64)) / f64::from(1 << 20);
        let spread = samples[case].iter().map(|s| frames as f64 / s.seconds / 1e6);
        let (low, high) = spread.fold((f64::INFINITY, 0.0f64), |(low, high), r| (low.min(r), high.max(r)));
        let measured = |figure: String| if *kind == Kind::Direct { "–".into() } else { figure };
        vec![
            kind.title().into(),
            format!("{:.2} M", rate(case) / 1e6),
            format!("{low:.2}–{high:.2}"),
            measured(format!("{cpu:.0}")),
            measured(format!("{rss:.0} MiB")),
            ratio(case, Kind::Redis),
            ratio(case, Kind::Valkey),
        ]
    });
    let head = [
        "between primary and sink",
        "frames/s in",
        "range",
        "CPU ns a frame",
        "RSS max",
        "of redis 7.0",
        "of valkey 9.1",
    ];
    format!(
        "## End to end\n\n{frames} SETs of {} B with keys of which half are `user:*`, written as fast as they are read; the time ends \
         with the last frame at the sink. Medians of {rounds} interleaved rounds, after one in which every frame that came \
         out was compared with what was due; the bytes are counted in all.\n\n{}",
        stream::FRAME_BYTES,
        table(&head, &rows.collect::<Vec<_>>())
    )
}
