//! The plugin call in one thread: a key filter and a key rename as components, through the core's own path, beside the
//! same rules in native Rust.
//!
//! Three contenders do the same work and must put out the same bytes: the core with the built-in plugin as a WebAssembly
//! component, the core with a native [`Pipeline`] in its place, and a plain loop that knows nothing but SET.

mod native;

pub(crate) use native::Native;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use sluicegate_core::command::Table;
use sluicegate_core::frame::{Scanned, Scanner};
use sluicegate_core::limits;
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::projection::{Bounds, Projection};
use sluicegate_core::resp;
use sluicegate_core::rope::Rope;
use sluicegate_core::settings::CrossKey;
use sluicegate_guest::{PluginSpec, Room, RoomSettings};

use crate::report::{Report, median, table};
use crate::stream::noise;

/// Frames of one pass: too many for a branch predictor to learn by heart.
const FRAMES: u64 = 262_144;
/// Bytes that the core is handed at once, as the reactor would after one read.
const READ_BYTES: usize = 256 * 1024;
/// Passes of one measurement.
const PASSES: usize = 8;

/// The rule that is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Keep `user:*`.
    Filter,
    /// Make `u:*` of `user:*`, and prove that no two keys meet.
    Rename,
}

/// One stream to measure with.
struct Input {
    frame_bytes: usize,
    predictable: bool,
    chunks: Vec<Bytes>,
}

impl Input {
    /// Frames of `frame_bytes`, every other one (or an unpredictable half) of them `user:*`.
    fn new(frame_bytes: usize, predictable: bool) -> Self {
        let mut out = Vec::new();
        for index in 0..FRAMES {
            let drawn = noise(index);
            let user = if predictable { index % 2 == 0 } else { drawn >> 63 == 0 };
            let key = format!("{}:{:012}", if user { "user" } else { "sess" }, drawn % 1_000_000);
            // Beside the value a frame has 44 bytes, and one more where the value's length has three digits.
            let value = frame_bytes - 44;
            let value = if value < 100 { value } else { value - 1 };
            resp::write_command(&mut out, &[b"SET", key.as_bytes(), &vec![b'v'; value]]);
        }
        let whole = Bytes::from(out);
        let chunks = (0..whole.len()).step_by(READ_BYTES);
        let chunks = chunks.map(|from| whole.slice(from..whole.len().min(from + READ_BYTES))).collect();
        Self { frame_bytes, predictable, chunks }
    }
}

/// Puts one pass of a stream through and hands the output to `sink`.
trait Contender {
    fn title(&self) -> &'static str;
    fn pass(&mut self, chunks: &[Bytes], sink: &mut dyn FnMut(&[u8])) -> Result<()>;
}

/// The core's real path: scan, batch, ask, project, slices.
struct Core {
    title: &'static str,
    table: Arc<Table>,
    pipeline: Box<dyn Pipeline>,
}

impl Contender for Core {
    fn title(&self) -> &'static str {
        self.title
    }

    fn pass(&mut self, chunks: &[Bytes], sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        let bounds = Bounds {
            transaction_bytes_max: limits::TRANSACTION_BYTES_MAX,
            args_max: limits::FRAME_ARGS_MAX,
            restore_version_max: 12,
            floor: None,
            cross_key: CrossKey::Repair,
            tainted_keys_max: limits::REPAIR_KEYS_MAX,
        };
        let mut scanner = Scanner::new(self.table.clone(), 0, limits::FRAME_BYTES_MAX);
        let mut projection = Projection::new(self.table.clone(), Some(&*self.pipeline), false, bounds, 0);
        let mut rope = Rope::default();
        for chunk in chunks {
            scanner.push(chunk.clone());
            while let Some(scanned) = scanner.next().map_err(|error| anyhow::anyhow!("{error:?}"))? {
                let Scanned::Frames(frames) = scanned else { anyhow::bail!("an oversized frame") };
                let projected = projection.project(&frames, Some(&mut *self.pipeline), 0, &mut rope);
                projected.map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
            }
            rope.drain().for_each(|piece| sink(&piece));
        }
        Ok(())
    }
}

/// Runs every contender on every stream, interleaved, and reports medians.
pub(crate) fn run(report: &mut Report, rounds: usize) -> Result<()> {
    let room = Room::new(RoomSettings::default())?;
    let table = Arc::new(Table::builtin());
    let inputs = [(64, true), (64, false), (200, true), (200, false)].map(|(bytes, even)| Input::new(bytes, even));
    for rule in [Rule::Filter, Rule::Rename] {
        let mut rows = Vec::new();
        for input in &inputs {
            let mut contenders = contenders(&room, &table, rule)?;
            rows.push(row(input, &measure(input, &mut contenders, rounds)?));
        }
        report.add(&text(rule, rounds, &rows));
    }
    Ok(())
}

fn contenders(room: &Room, table: &Arc<Table>, rule: Rule) -> Result<Vec<Box<dyn Contender>>> {
    let (plugin, setting, value) = match rule {
        Rule::Filter => ("key-filter", "allow", "user:*"),
        Rule::Rename => ("key-rename", "rule", "user:* => u:*"),
    };
    let wasm = sluicegate_bundle::builtin(plugin).context("a built-in plugin")?;
    let plugin = Arc::new(room.load(PluginSpec::new(plugin, wasm).set(setting, value))?);
    let core = |title, pipeline| Core { title, table: table.clone(), pipeline };
    Ok(vec![
        Box::new(core("component", Box::new(room.pipeline(&[plugin])?))),
        Box::new(core("native pipeline", Box::new(native::Native(rule)))),
        Box::new(native::Plain(rule)),
    ])
}

/// Nanoseconds a frame of each contender.
fn measure(input: &Input, contenders: &mut [Box<dyn Contender>], rounds: usize) -> Result<Vec<f64>> {
    let mut expected: Option<Vec<u8>> = None;
    for contender in contenders.iter_mut() {
        let mut out = Vec::new();
        contender.pass(&input.chunks, &mut |bytes| out.extend_from_slice(bytes))?;
        // A view tells its replicas the database first; the plain loop has no notion of it.
        let out = out.strip_prefix(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n").map(<[u8]>::to_vec).unwrap_or(out);
        let same = expected.get_or_insert_with(|| out.clone()) == &out;
        ensure!(same, "the {} puts out other bytes than those before it", contender.title());
    }
    let due = expected.map_or(0, |out| out.len());
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let began = thread_cpu_ns();
            for _ in 0..PASSES {
                let mut bytes = 0;
                contender.pass(&input.chunks, &mut |piece| bytes += piece.len())?;
                ensure!(bytes.wrapping_sub(due) <= 64, "the {} put out {bytes} bytes for {due}", contender.title());
            }
            samples.push((thread_cpu_ns() - began) / (PASSES as f64 * FRAMES as f64));
        }
    }
    Ok(samples.into_iter().map(median).collect())
}

/// CPU time of this thread: what another process takes of the core is not counted.
pub(crate) fn thread_cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

fn row(input: &Input, ns: &[f64]) -> Vec<String> {
    let cell = |ns: f64| format!("{:.1} M ({ns:.1} ns)", 1e3 / ns);
    let mix = if input.predictable { "alternating" } else { "unpredictable" };
    vec![
        format!("{} B, {mix}", input.frame_bytes),
        cell(ns[0]),
        cell(ns[1]),
        cell(ns[2]),
        format!("{:.2} ×", ns[0] / ns[1]),
        format!("{:.2} ×", ns[0] / ns[2]),
    ]
}

fn text(rule: Rule, rounds: usize, rows: &[Vec<String>]) -> String {
    let what = match rule {
        Rule::Filter => "key filter (`user:*` passes)",
        Rule::Rename => "key rename (`user:* => u:*`, every name proved by its inverse)",
    };
    let head =
        ["frames", "component", "native pipeline", "plain loop", "time of native pipeline", "time of plain loop"];
    format!(
        "## Micro: {what}\n\n{FRAMES} frames a pass, half of them `user:*`, in reads of {} KiB, one thread: scan → batch → call → \
         verdict → output slices. Million frames a second of thread CPU time; medians of {rounds} interleaved rounds. All \
         three put out the same bytes.\n\n{}",
        READ_BYTES / 1024,
        table(&head, rows)
    )
}
