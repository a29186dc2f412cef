//! Memory while a snapshot passes: small values by the million and one of 256 MiB, through a filtered and renamed view.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::middle::{Kind, Middle};
use crate::primary::Primary;
use crate::process::Scratch;
use crate::rdb::{Visitor, Writer};
use crate::report::{Report, table};
use crate::sink::Sink;
use crate::stream::{View, noise};

const MIB: u64 = 1 << 20;
/// MiB of the one large value.
const LARGE: u64 = 256;
/// Bytes of every other value.
const SMALL: u64 = 1000;
/// Bytes of one small entry: type, length and name, length and value.
const SMALL_ENTRY: u64 = 1 + 1 + 17 + 2 + SMALL;
/// MiB of backlog, as configured.
const BACKLOG: u32 = 16;
/// What the process may hold beside its backlog, in bytes.
pub(crate) const LIMIT: u64 = 48 * MIB;
/// The view that the snapshot passes through.
pub(crate) const VIEW: View = View::FilterRename;

/// Bytes that no compression shrinks and any part of which can be made again: values are cut out of them.
pub(crate) struct Values(Vec<u8>);

impl Values {
    pub(crate) fn new() -> Self {
        Self((0..MIB / 8).flat_map(|index| noise(index).to_le_bytes()).collect())
    }

    fn small(&self, index: u64) -> &[u8] {
        let from = (noise(index) % (MIB - SMALL)) as usize;
        &self.0[from..from + SMALL as usize]
    }
}

/// The entries of a snapshot of about `bytes`, as (key, value's length); the large one stands in the middle.
#[derive(Clone, Copy)]
pub(crate) struct Dataset {
    /// How many small ones.
    small: u64,
    /// MiB of the large one.
    large: u64,
}

impl Dataset {
    /// About `bytes`, with one value of `large` MiB.
    pub(crate) fn new(bytes: u64, large: u64) -> Self {
        Self { small: bytes.saturating_sub(large * MIB) / SMALL_ENTRY, large }
    }

    fn key(self, index: u64) -> Vec<u8> {
        let family = if noise(index) >> 63 == 0 { "user" } else { "sess" };
        format!("{family}:{index:012}").into_bytes()
    }

    fn is_large_before(self, index: u64) -> bool {
        index == self.small / 2
    }
}

const LARGE_KEY: &[u8] = b"user:the-large-value";

/// Writes it as the primary's snapshot.
pub(crate) fn write(out: &mut dyn Write, dataset: Dataset, values: &Values) -> Result<u64> {
    let mut rdb = Writer::begin(out)?;
    for index in 0..=dataset.small {
        if dataset.is_large_before(index) {
            rdb.entry(LARGE_KEY, dataset.large * MIB)?;
            (0..dataset.large).try_for_each(|_| rdb.put(&values.0))?;
        }
        if index < dataset.small {
            rdb.entry(&dataset.key(index), SMALL)?;
            rdb.put(values.small(index))?;
        }
    }
    rdb.end()
}

/// Compares every entry that comes with the next one that the view has.
pub(crate) struct Checker {
    dataset: Dataset,
    values: Arc<Values>,
    next: u64,
    large_seen: bool,
    /// The small entry whose value is coming, if it is a small one.
    current: Option<u64>,
    at: usize,
    entries: u64,
}

impl Visitor for Checker {
    fn entry(&mut self, key: &[u8], value_len: u64) -> Result<()> {
        self.at = 0;
        self.entries += 1;
        loop {
            if self.dataset.is_large_before(self.next) && !self.large_seen {
                self.large_seen = true;
                self.current = None;
                let due = VIEW.apply(LARGE_KEY);
                ensure!(
                    due.as_deref() == Some(key) && value_len == self.dataset.large * MIB,
                    "{} came for the large value",
                    key.escape_ascii()
                );
                return Ok(());
            }
            ensure!(self.next < self.dataset.small, "{} came after the last entry", key.escape_ascii());
            let index = self.next;
            self.next += 1;
            if let Some(due) = VIEW.apply(&self.dataset.key(index)) {
                ensure!(due == key && value_len == SMALL, "{} came for {}", key.escape_ascii(), due.escape_ascii());
                self.current = Some(index);
                return Ok(());
            }
        }
    }

    fn value(&mut self, mut bytes: &[u8]) -> Result<()> {
        let whole: &[u8] = match self.current {
            Some(index) => self.values.small(index),
            None => &self.values.0,
        };
        while !bytes.is_empty() {
            let due = &whole[self.at % whole.len()..];
            let (part, rest) = bytes.split_at(bytes.len().min(due.len()));
            ensure!(part == &due[..part.len()], "a value differs {} bytes in", self.at);
            self.at += part.len();
            bytes = rest;
        }
        Ok(())
    }
}

impl Checker {
    /// A checker that waits for the first entry.
    pub(crate) fn new(dataset: Dataset, values: Arc<Values>) -> Self {
        Self { dataset, values, next: 0, large_seen: false, current: None, at: 0, entries: 0 }
    }

    /// All that the view has must have come.
    pub(crate) fn finish(self) -> Result<u64> {
        let missing = (self.next..self.dataset.small).find_map(|index| VIEW.apply(&self.dataset.key(index)));
        ensure!(self.large_seen && missing.is_none(), "the snapshot ended before {missing:?}");
        Ok(self.entries)
    }
}

struct Sample {
    in_bytes: u64,
    out_bytes: u64,
    entries: u64,
    in_seconds: f64,
    out_seconds: f64,
    rss_max: u64,
    rss_anon: u64,
    rss_start: u64,
}

/// Measures a small and a large dataset.
pub(crate) fn run(report: &mut Report, mebibytes: &[u64]) -> Result<()> {
    let kind = Kind::Sluicegate(VIEW);
    if kind.program().is_none() {
        report.missing(&[kind]);
        return Ok(());
    }
    let values = Arc::new(Values::new());
    let mut rows = Vec::new();
    let mut verdicts = Vec::new();
    for &size in mebibytes {
        let sample = measure(kind, Dataset::new(size * MIB, LARGE), &values).with_context(|| format!("{size} MiB"))?;
        let limit = LIMIT + u64::from(BACKLOG) * MIB;
        verdicts.push(format!("{size} MiB: {}", if sample.rss_max <= limit { "within" } else { "**above**" }));
        rows.push(row(&sample));
    }
    let head = [
        "snapshot in",
        "out",
        "entries out",
        "primary sending",
        "sink done after",
        "in MB/s",
        "RSS at rest before",
        "RSS max",
        "anonymous after",
    ];
    report.add(&format!(
        "## Memory\n\nA snapshot of values of {SMALL} B and one of {} MiB passes a filtered and renamed view; the sink compares \
         every entry and value and checks the CRC. Backlog {BACKLOG} MiB; limit for RSS max {} MiB + backlog: {}.\n\n{}",
        LARGE,
        LIMIT / MIB,
        verdicts.join(", "),
        table(&head, &rows)
    ));
    Ok(())
}

fn row(sample: &Sample) -> Vec<String> {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    vec![
        mib(sample.in_bytes),
        mib(sample.out_bytes),
        sample.entries.to_string(),
        format!("{:.2} s", sample.in_seconds),
        format!("{:.2} s", sample.out_seconds),
        format!("{:.0}", sample.in_bytes as f64 / sample.out_seconds / 1e6),
        mib(sample.rss_start),
        mib(sample.rss_max),
        mib(sample.rss_anon),
    ]
}

fn measure(kind: Kind, dataset: Dataset, values: &Arc<Values>) -> Result<Sample> {
    let scratch = Scratch::new("memory")?;
    let source = values.clone();
    let primary = Primary::start(Arc::new(move |out: &mut dyn Write| write(out, dataset, &source)))?;
    let middle = Middle::start(kind, primary.address(), BACKLOG, scratch.path())?;
    let process = middle.process.as_ref().context("a process")?;
    let rss_start = process.memory("VmRSS")?;
    let mut checker = Checker::new(dataset, values.clone());
    let sink = Sink::attach(middle.address, &mut checker).with_context(|| process.log_tail())?;
    let link = primary.link(Duration::from_secs(60))?;
    primary.check_undisturbed()?;
    let (out_bytes, ended) = sink.snapshot();
    Ok(Sample {
        in_bytes: link.snapshot_bytes,
        out_bytes,
        entries: checker.finish()?,
        in_seconds: link.snapshot_took.as_secs_f64(),
        out_seconds: ended.duration_since(link.snapshot_began).as_secs_f64(),
        rss_max: process.memory("VmHWM")?,
        rss_anon: process.memory("RssAnon")?,
        rss_start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb;

    /// What a right view would send, without entry `missing`.
    fn view_of(dataset: Dataset, values: &Values, missing: Option<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rdb = Writer::begin(&mut out).expect("memory");
        for index in 0..=dataset.small {
            if dataset.is_large_before(index) {
                let name = VIEW.apply(LARGE_KEY).expect("kept");
                rdb.entry(&name, dataset.large * MIB).expect("memory");
                (0..dataset.large).for_each(|_| rdb.put(&values.0).expect("memory"));
            }
            if let Some(name) = VIEW.apply(&dataset.key(index))
                && index < dataset.small
                && Some(index) != missing
            {
                rdb.entry(&name, SMALL).expect("memory");
                rdb.put(values.small(index)).expect("memory");
            }
        }
        rdb.end().expect("memory");
        out
    }

    fn check(snapshot: &[u8], dataset: Dataset, values: Arc<Values>) -> Result<u64> {
        let mut checker = Checker::new(dataset, values);
        rdb::read(&mut &snapshot[..], &mut checker)?;
        checker.finish()
    }

    #[test]
    fn the_checker_knows_a_right_view_and_every_way_of_a_wrong_one() {
        let values = Arc::new(Values::new());
        let dataset = Dataset { small: 40, large: 1 };
        let kept: Vec<u64> = (0..40).filter(|index| VIEW.apply(&dataset.key(*index)).is_some()).collect();
        let right = view_of(dataset, &values, None);
        assert_eq!(check(&right, dataset, values.clone()).expect("a right view"), kept.len() as u64 + 1);

        for missing in &kept {
            let wrong = view_of(dataset, &values, Some(*missing));
            assert!(check(&wrong, dataset, values.clone()).is_err(), "entry {missing} may not be missing");
        }
        let mut corrupt = right.clone();
        let last = corrupt.len() - 20;
        corrupt[last] ^= 1;
        assert!(check(&corrupt, dataset, values.clone()).is_err(), "a wrong byte in the last value");
        assert!(check(&right[..right.len() - 1], dataset, values).is_err(), "a cut snapshot");
    }
}
