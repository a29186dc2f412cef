//! A long way between primary and replica: a relay that passes so many bytes a second and holds each of them back for a while.
//! Direct replication over it, beside a Sluicegate at each of its ends, with and without packing between them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::client::Client;
use crate::middle::{self, Kind};
use crate::process::{Scratch, free_address};
use crate::rdb::Visitor;
use crate::report::{Report, median, table};
use crate::sink::Sink;
use crate::stream::{View, noise};

const MIB: u64 = 1 << 20;
/// Bytes a second in each direction.
const RATE: u64 = 20_000_000;
/// How long a byte is on its way, one way: a round trip takes 50 ms.
const ONE_WAY: Duration = Duration::from_millis(25);
/// SETs of the live stream, at once.
const FRAMES: u64 = 100_000;
/// Single SETs into a silent stream, for the latency.
const SINGLES: u64 = 20;
/// Codecs that may be configured between two Sluicegates.
const CODECS: [&str; 2] = ["zstd", "lz4"];

/// What stands at the ends of the way.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// The primary and the replica.
    Direct,
    /// A Sluicegate each, with the plugin that packs between them.
    Pair(Option<&'static str>),
}

impl Ends {
    fn title(self) -> String {
        match self {
            Self::Direct => "direct".into(),
            Self::Pair(None) => "sluicegate pair".into(),
            Self::Pair(Some(codec)) => format!("sluicegate pair, {codec}"),
        }
    }
}

/// Sends so many MiB of values over the long way.
pub(super) fn run(report: &mut Report, mebibytes: u64) -> Result<()> {
    let needed = [Kind::Redis, Kind::Sluicegate(View::Plain)];
    let missing: Vec<Kind> = needed.into_iter().filter(|kind| kind.program().is_none()).collect();
    if !missing.is_empty() {
        report.missing(&missing);
        return Ok(());
    }
    let entries = mebibytes * MIB / value(0).len() as u64;
    let (packing, unknown): (Vec<_>, Vec<_>) = CODECS.into_iter().partition(|codec| is_known(codec));
    let ends =
        [Ends::Direct, Ends::Pair(None)].into_iter().chain(packing.into_iter().map(|codec| Ends::Pair(Some(codec))));
    let mut rows = Vec::new();
    for ends in ends {
        rows.push(measure(ends, entries).with_context(|| ends.title())?);
        eprintln!("long way: {}", ends.title());
    }
    let not = if unknown.is_empty() {
        String::new()
    } else {
        format!(" Not known to this build: packing by {}.", unknown.join(", "))
    };
    let head = ["between", "synced after", "bytes on the way", "of the stream", "stream done after", "one SET, p50"];
    report.add(&format!(
        "## Snapshot: a long way\n\nredis 7.0 holds {mebibytes} MiB in values of {} B of JSON; a relay passes {} MB/s each way and \
         takes {} ms for a round trip. A replica that has nothing attaches and loads; then {FRAMES} SETs pass at once, then single \
         ones.{not}\n\n{}",
        value(0).len(),
        RATE / 1_000_000,
        2 * ONE_WAY.as_millis(),
        table(&head, &rows)
    ));
    Ok(())
}

fn key(index: u64) -> String {
    format!("user:{index:012}")
}

/// What applications keep: a few words, and numbers that differ. Too short for the primary's own packing to find anything.
fn value(index: u64) -> Vec<u8> {
    const CITIES: [&str; 8] = ["Lisbon", "Riga", "Oslo", "Quito", "Hanoi", "Turin", "Perth", "Accra"];
    let drawn = noise(index);
    let city = CITIES[(drawn >> 61) as usize];
    format!(
        "{{\"id\":{index:012},\"name\":\"customer {:06}\",\"city\":\"{city:>8}\",\"active\":true,\"balance\":{:010},\"tags\":[\"newsletter\",\
         \"eu-west\"],\"session\":\"{:016x}\",\"updated_at\":\"2026-01-{:02}T12:{:02}:00Z\"}}",
        drawn % 1_000_000,
        drawn >> 32,
        noise(drawn),
        drawn % 28 + 1,
        drawn % 60
    )
    .into_bytes()
}

fn measure(ends: Ends, entries: u64) -> Result<Vec<String>> {
    let scratch = Scratch::new("wan")?;
    let (_primary, primary) = middle::real_primary(scratch.path())?;
    let mut client = Client::connect(primary)?;
    client.fill(entries, |index| (key(index), value(index)))?;
    let codec = if let Ends::Pair(codec) = ends { codec } else { None };
    // The near end has stood there for long: it has its snapshot, and another one there would have been served from it.
    let near = match ends {
        Ends::Direct => None,
        Ends::Pair(_) => {
            let listen = free_address()?;
            let data = scratch.path().join("near");
            let process =
                middle::sluicegate(&near_config(codec, primary, listen, &data), listen, "near", scratch.path())?;
            let mut count = Count(0);
            Sink::attach(listen, &mut count)?;
            ensure!(count.0 == entries, "the near end has {} of {entries} keys", count.0);
            Some((process, listen))
        }
    };
    let way = LongWay::start(near.as_ref().map_or(primary, |(_, listen)| *listen))?;
    let began = Instant::now();
    let far = match ends {
        Ends::Direct => None,
        Ends::Pair(_) => {
            let listen = free_address()?;
            let data = scratch.path().join("far");
            let process =
                middle::sluicegate(&far_config(codec, way.address, listen, &data), listen, "far", scratch.path())?;
            Some((process, listen))
        }
    };
    let mut count = Count(0);
    let sink = Sink::attach(far.as_ref().map_or(way.address, |(_, listen)| *listen), &mut count)?;
    let synced = sink.snapshot().1.duration_since(began);
    ensure!(count.0 == entries, "{} of {entries} keys came", count.0);
    let for_snapshot = way.down.load(Ordering::Relaxed);

    let receiver = receive(sink);
    let (stream, singles) = live(&mut client, &receiver, entries)?;
    let for_stream = way.down.load(Ordering::Relaxed) - for_snapshot;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    Ok(vec![
        ends.title(),
        format!("{:.1} s", synced.as_secs_f64()),
        mib(for_snapshot),
        mib(for_stream),
        format!("{:.1} s", stream.as_secs_f64()),
        format!("{:.1} ms", median(singles.iter().map(|time| time.as_secs_f64() * 1e3))),
    ])
}

/// Sends the live stream and single SETs: how long the first took to come out whole, and each of the others.
fn live(client: &mut Client, receiver: &Receiver<Result<u64>>, entries: u64) -> Result<(Duration, Vec<Duration>)> {
    let wait = |number: u64| -> Result<()> {
        while receiver.recv_timeout(Duration::from_secs(120)).context("the stream stands still")?? != number {}
        Ok(())
    };
    let began = Instant::now();
    client.fill(FRAMES, |index| (key(index % entries), value(index + entries)))?;
    client.call(&["SET", "end:0", "!"])?;
    wait(0)?;
    let stream = began.elapsed();
    let mut singles = Vec::new();
    for number in 1..=SINGLES {
        // Silence, so that what is packed is packed for this one alone.
        thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        client.call(&["SET", &format!("end:{number}"), "!"])?;
        wait(number)?;
        singles.push(began.elapsed());
    }
    Ok((stream, singles))
}

/// Reads the stream in a thread, and tells each number that ends a part of it.
fn receive(mut sink: Sink) -> Receiver<Result<u64>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut rest: Vec<u8> = Vec::new();
        let drained = sink.drain(|bytes| {
            rest.extend_from_slice(bytes);
            while let Some(at) = rest.windows(4).position(|window| window == b"end:") {
                let Some(line) = rest[at..].iter().position(|byte| *byte == b'\r') else { break };
                let number = std::str::from_utf8(&rest[at + 4..at + line])?.parse()?;
                rest.drain(..at + line);
                if sender.send(Ok(number)).is_err() || number == SINGLES {
                    return Ok(true);
                }
            }
            if !rest.windows(4).any(|window| window == b"end:") {
                rest.drain(..rest.len().saturating_sub(3));
            }
            Ok(false)
        });
        if let Err(error) = drained {
            let _ = sender.send(Err(error));
        }
    });
    receiver
}

fn near_config(codec: Option<&str>, primary: SocketAddr, listen: SocketAddr, data: &std::path::Path) -> String {
    let pack = codec.map_or_else(String::new, |codec| format!("pack = \"{codec}\"\n"));
    format!(
        "[server]\ndata_dir = {data:?}\n\n[upstream]\naddress = \"{primary}\"\n\n[[view]]\nname = \"all\"\nlisten = [\"{listen}\"]\n{pack}{}",
        plugin(codec)
    )
}

fn far_config(codec: Option<&str>, upstream: SocketAddr, listen: SocketAddr, data: &std::path::Path) -> String {
    let pack = codec.map_or_else(String::new, |codec| format!("pack = \"{codec}\"\n"));
    format!(
        "[server]\ndata_dir = {data:?}\n\n[upstream]\naddress = \"{upstream}\"\n{pack}\n[[view]]\nname = \"all\"\nlisten = [\"{listen}\"]\n{}",
        plugin(codec)
    )
}

fn plugin(codec: Option<&str>) -> String {
    codec.map_or_else(String::new, |codec| format!("\n[[plugin]]\nname = \"{codec}\"\nbuiltin = \"{codec}\"\n"))
}

/// Whether this build can pack by it: it finds nothing wrong with such a configuration.
fn is_known(codec: &str) -> bool {
    let valid = || -> Result<bool> {
        let (scratch, address) = (Scratch::new("known")?, free_address()?);
        let program = Kind::Sluicegate(View::Plain).program().context("no sluicegate")?;
        let mut configs = [near_config, far_config].into_iter().enumerate();
        configs.try_fold(true, |valid, (nth, config)| {
            let file = scratch.path().join(format!("{nth}.toml"));
            std::fs::write(&file, config(Some(codec), address, free_address()?, scratch.path()))?;
            let output = Command::new(&program).args(["validate", "--config"]).arg(&file).output()?;
            Ok(valid && output.status.success())
        })
    };
    valid().unwrap_or(false)
}

/// Counts keys.
struct Count(u64);

impl Visitor for Count {
    fn entry(&mut self, _key: &[u8], _value_len: u64) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn value(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// The relay.
struct LongWay {
    address: SocketAddr,
    /// Bytes that have gone from upstream to downstream.
    down: Arc<AtomicU64>,
}

impl LongWay {
    /// Relays whoever connects to `upstream`, until the program ends.
    fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, down) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = down.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(upstream) else { continue };
                for (from, to, counter) in [(&near, &far, None), (&far, &near, Some(counted.clone()))] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        thread::spawn(move || drop(pass(from, to, counter)));
                    }
                }
            }
        });
        Ok(Self { address, down })
    }
}

/// One direction: what is read is held back for as long as the way takes, and for as long as its bytes take to be sent.
fn pass(mut from: TcpStream, mut to: TcpStream, counter: Option<Arc<AtomicU64>>) -> Result<()> {
    to.set_nodelay(true)?;
    let (sender, arriving) = channel::<(Instant, Vec<u8>)>();
    let far = thread::spawn(move || -> Result<()> {
        for (due, bytes) in arriving {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            to.write_all(&bytes)?;
        }
        to.shutdown(Shutdown::Write)?;
        Ok(())
    });
    let (mut buffer, mut free_at) = (vec![0; 16 * 1024], Instant::now());
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if let Some(counter) = &counter {
            counter.fetch_add(read as u64, Ordering::Relaxed);
        }
        free_at = free_at.max(Instant::now()) + Duration::from_nanos(read as u64 * 1_000_000_000 / RATE);
        if sender.send((free_at + ONE_WAY, buffer[..read].to_vec())).is_err() {
            break;
        }
        thread::sleep(free_at.saturating_duration_since(Instant::now()));
    }
    drop(sender);
    far.join().map_err(|_| anyhow!("a relay panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_as_long_and_as_narrow_as_it_says() -> Result<()> {
        let upstream = TcpListener::bind("127.0.0.1:0")?;
        let way = LongWay::start(upstream.local_addr()?)?;
        let mut near = TcpStream::connect(way.address)?;
        let (mut far, _) = upstream.accept()?;
        let bytes: Vec<u8> = (0..RATE / 8 / 5).flat_map(|index| noise(index).to_le_bytes()).collect();
        let (began, sent) = (Instant::now(), bytes.clone());
        let writing = thread::spawn(move || far.write_all(&sent));
        let mut came = vec![0; bytes.len()];
        near.read_exact(&mut came)?;
        // A fifth of a second's bytes.
        assert!(began.elapsed() >= Duration::from_millis(200) + ONE_WAY, "{:?}", began.elapsed());
        assert!(came == bytes && way.down.load(Ordering::Relaxed) == bytes.len() as u64);
        writing.join().expect("the writer")?;
        Ok(())
    }
}
