//! A snapshot read from disk, walked, filtered and written anew in one thread: with the filter as a component, and with the
//! same filter in native Rust, in the same run. Beside it what the parts of that cost, and what redis-server takes to load
//! the same file.

use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::rdb::{Crc64, Head, Intake, Rewriter};
use sluicegate_guest::{PluginSpec, Room, RoomSettings};

use crate::micro::{Native, Rule, thread_cpu_ns};
use crate::middle::Kind;
use crate::process::{Process, Scratch, free_address};
use crate::rdb::Writer;
use crate::report::{Report, median, table};
use crate::stream::noise;

const MIB: u64 = 1 << 20;
/// Bytes read at once, as a ship does.
const READ_BYTES: usize = 128 * 1024;
/// What the view's snapshot says of its history.
const HEAD: Head = Head { repl_id: [b'a'; 40], repl_offset: 4711, stream_db: 0 };
/// Bytes of the values of each dataset.
const VALUES: [(&str, u64); 2] = [("small keys, 62 B", 62), ("4 KiB", 4096)];

/// A snapshot of strings in a file, half of them `user:*`, without an order that could be learned.
struct Dataset {
    value: u64,
    entries: u64,
    users: u64,
    bytes: u64,
}

impl Dataset {
    fn write(path: &Path, bytes: u64, value: u64) -> Result<Self> {
        let body: Vec<u8> = (0..value.div_ceil(8)).flat_map(|word| noise(word).to_le_bytes()).collect();
        let mut rdb = Writer::begin(BufWriter::with_capacity(1 << 20, File::create(path)?))?;
        // Type, two lengths, a name of 17 bytes.
        let entries = bytes / (value + 20);
        let mut users = 0;
        for index in 0..entries {
            let is_user = noise(index) >> 63 == 0;
            users += u64::from(is_user);
            let family = if is_user { "user" } else { "sess" };
            rdb.entry(format!("{family}:{index:012}").as_bytes(), value)?;
            rdb.put(&body[..value as usize])?;
        }
        Ok(Self { value, entries, users, bytes: rdb.end()? })
    }
}

/// What is done with the file.
enum Work<'p> {
    /// Read.
    Read,
    /// Read and summed up.
    Sum,
    /// Taken in: walked and verified.
    TakeIn,
    /// Walked and written anew for a view with this pipeline.
    Rewrite(&'p mut dyn Pipeline),
}

/// What a pass cost.
struct Pass {
    cpu_ns: f64,
    wall_ns: f64,
    /// The checksum of the view's bytes, and the keys in them.
    sum: u64,
    kept: u64,
}

fn pass(path: &Path, work: &mut Work<'_>, verify: bool) -> Result<Pass> {
    let (mut file, mut piece) = (File::open(path)?, vec![0; READ_BYTES]);
    let (mut crc, mut intake, mut rewriter) = (Crc64::new(), Intake::new(), Rewriter::new(HEAD));
    let mut made = Vec::with_capacity(READ_BYTES);
    let (cpu, wall) = (thread_cpu_ns(), Instant::now());
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        let bytes = &piece[..read];
        match work {
            Work::Read => {}
            Work::Sum => crc.update(bytes),
            Work::TakeIn => _ = intake.push(bytes)?,
            Work::Rewrite(pipeline) => {
                made.clear();
                rewriter.push(bytes, &mut **pipeline, &mut made).map_err(|error| anyhow::anyhow!("{error}"))?;
                if verify {
                    crc.update(&made);
                }
            }
        }
    }
    let (cpu_ns, wall_ns) = (thread_cpu_ns() - cpu, wall.elapsed().as_nanos() as f64);
    let kept = rewriter.stats().kept;
    Ok(Pass { cpu_ns, wall_ns, sum: crc.sum(), kept })
}

/// Walks both datasets.
pub(super) fn run(report: &mut Report, mebibytes: u64, rounds: usize) -> Result<()> {
    let room = Room::new(RoomSettings::default())?;
    let wasm = sluicegate_bundle::builtin("key-filter").context("a built-in plugin")?;
    let plugin = Arc::new(room.load(PluginSpec::new("key-filter", wasm).set("allow", "user:*"))?);
    let mut rows = Vec::new();
    for (title, value) in VALUES {
        let scratch = Scratch::new("walk")?;
        let path = scratch.path().join("dump.rdb");
        let dataset = Dataset::write(&path, mebibytes * MIB, value)?;
        let mut component = room.pipeline(std::slice::from_ref(&plugin))?;
        rows.push(measure(title, &dataset, &path, &mut component, rounds)?);
    }
    let head = [
        "values",
        "snapshot",
        "keys",
        "read",
        "read + CRC",
        "taken in",
        "native",
        "component",
        "of native",
        "redis-server loads",
    ];
    report.add(&format!(
        "## Snapshot: walk, filter, rewrite\n\nA snapshot of strings, half of them `user:*`, is read from the page cache in \
         pieces of {} KiB, walked, filtered by `user:*` and written anew, in one thread; MB of the snapshot a second of thread \
         CPU time (in parentheses: by the clock), medians of {rounds} interleaved rounds. Native and component put out the same \
         bytes. *Taken in* is the walk that verifies the upstream's snapshot.\n\n{}",
        READ_BYTES / 1024,
        table(&head, &rows)
    ));
    Ok(())
}

fn measure(
    title: &str,
    dataset: &Dataset,
    path: &Path,
    component: &mut dyn Pipeline,
    rounds: usize,
) -> Result<Vec<String>> {
    let mut native = Native(Rule::Filter);
    let mut works = [Work::Read, Work::Sum, Work::TakeIn, Work::Rewrite(&mut native), Work::Rewrite(component)];
    // A round that is not counted: it fills the page cache, and shows that both filters make the same of it.
    let first = works.iter_mut().map(|work| pass(path, work, true)).collect::<Result<Vec<_>>>()?;
    let [_, _, _, by_native, by_component] = &first[..] else { unreachable!("five works") };
    ensure!(by_native.sum == by_component.sum, "the component puts out other bytes than the native filter");
    ensure!(by_native.kept == dataset.users, "{} keys are kept instead of {}", by_native.kept, dataset.users);
    let mut samples: Vec<Vec<(f64, f64)>> = works.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (work, samples) in works.iter_mut().zip(&mut samples) {
            let pass = pass(path, work, false)?;
            samples.push((pass.cpu_ns, pass.wall_ns));
        }
    }
    let rate = |ns: f64| dataset.bytes as f64 * 1e3 / ns;
    let cpu = |work: usize| median(samples[work].iter().map(|sample| sample.0));
    let cell = |work: usize| format!("{:.0} ({:.0})", rate(cpu(work)), rate(median(samples[work].iter().map(|s| s.1))));
    let mut row =
        vec![title.into(), format!("{:.0} MiB", dataset.bytes as f64 / MIB as f64), dataset.entries.to_string()];
    row.extend((0..5).map(cell));
    row.push(format!("{:.0} %", cpu(3) / cpu(4) * 100.0));
    row.push(match loaded_by_a_server(dataset, path)? {
        Some(took) => format!("{:.1} s, {:.0} MB/s", took.as_secs_f64(), rate(took.as_nanos() as f64)),
        None => "no redis-server here".into(),
    });
    eprintln!("walked {} entries of {} B", dataset.entries, dataset.value);
    Ok(row)
}

/// How long a redis-server takes for the same file, as it tells it itself.
fn loaded_by_a_server(dataset: &Dataset, path: &Path) -> Result<Option<Duration>> {
    let Some(program) = Kind::Redis.program() else { return Ok(None) };
    let (address, dir) = (free_address()?, path.parent().context("the file lies in a directory")?);
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--dir"]).arg(dir);
    let mut process = Process::start("loading", command, dir)?;
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        process.check_alive()?;
        let log = process.log_tail();
        if let Some(line) = log.lines().find(|line| line.contains("DB loaded from disk")) {
            let seconds = line.split_whitespace().rev().nth(1).and_then(|number| number.parse::<f64>().ok());
            let keys = log.lines().find_map(|line| line.split("keys loaded: ").nth(1)?.split(',').next()?.parse().ok());
            ensure!(keys == Some(dataset.entries), "redis-server has loaded {keys:?} of {} keys", dataset.entries);
            fs::remove_file(path)?;
            return Ok(Some(Duration::from_secs_f64(seconds.context("a time in the server's log")?)));
        }
        ensure!(Instant::now() < deadline, "redis-server has not loaded the file; its log:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
