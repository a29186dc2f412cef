//! Golden conversations: a script of events with all that the machine says to them written below each.
//!
//! `REWRITE=1 cargo test -p sluicegate-core --test machine script` writes the answers anew; read the difference before you
//! keep it. A script begins with `relay` or `filter`: the kind of its one view. Then every block is an event, `----`, and
//! what came of it: `>` to the primary, `<name` to a replica, `!` to the operator. `line`, `snapshot`, `info`, `up` (whole
//! frames), `part` and `rest` (the first bytes of frames, and those behind them) speak for the primary, `connect`, `cut` and
//! `wait` for the world; any other word is a replica that says the rest.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use sluicegate_core::contract::LinkId;

use crate::rig::{A, B, Rig, frame, frames, snapshot};

struct Stage {
    rig: Rig,
    names: BTreeMap<String, LinkId>,
}

impl Stage {
    /// Words for bytes: `{a}` and `{b}` are ids of primaries.
    fn text(words: &str) -> String {
        words.replace("{a}", A).replace("{b}", B)
    }

    fn play(&mut self, event: &str) -> String {
        let event = Self::text(event);
        let (who, what) = event.split_once(' ').unwrap_or((&event, ""));
        match who {
            "connect" => drop(self.rig.connect()),
            "cut" => self.rig.cut(),
            "wait" => self.rig.wait(what.parse().expect("milliseconds")),
            "line" => self.rig.up(format!("{what}\r\n")),
            "snapshot" => {
                let rdb = snapshot(what);
                self.rig.up(format!("${}\r\n", rdb.len()));
                self.rig.up(rdb);
            }
            "info" => {
                let info = what.replace(' ', "\r\n");
                self.rig.up(format!("${}\r\n{info}\r\n", info.len()));
            }
            "up" => self.rig.up(frames(what)),
            "part" => {
                let (len, what) = what.split_once(' ').expect("a length and frames");
                self.rig.up(&frames(what)[..len.parse::<usize>().expect("a length")]);
            }
            "rest" => {
                let (len, what) = what.split_once(' ').expect("a length and frames");
                self.rig.up(&frames(what)[len.parse::<usize>().expect("a length")..]);
            }
            name => {
                let link = match self.names.get(name) {
                    Some(link) => *link,
                    None => self.rig.accept(0),
                };
                self.names.insert(name.into(), link);
                if !what.is_empty() {
                    self.rig.send(link, frame(what));
                }
            }
        }
        self.told()
    }

    /// All that was said since the last event.
    fn told(&mut self) -> String {
        let mut out = String::new();
        show(&mut out, ">", &self.rig.told_up());
        for (name, link) in self.names.clone() {
            show(&mut out, &format!("<{name}"), &self.rig.got(link));
        }
        for note in std::mem::take(&mut self.rig.notes) {
            writeln!(out, "! {:?} {}: {}", note.level, note.event, note.text).unwrap();
        }
        let closed = self.rig.closed.clone();
        let gone: Vec<_> =
            self.names.iter().filter(|(_, link)| closed.contains(link)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.names.remove(&name);
            writeln!(out, "{name} is closed").unwrap();
        }
        out
    }
}

/// One line for each command or answer; ids of primaries by their names. Of snapshots, whose bytes are for machines, only
/// the length is told.
fn show(out: &mut String, who: &str, mut bytes: &[u8]) {
    let mut promised = false;
    while !bytes.is_empty() {
        let words = match bytes[0] {
            b'*' => command(&mut bytes),
            b'\n' => {
                bytes = &bytes[1..];
                "(newline)".into()
            }
            _ => line(&mut bytes),
        };
        let length = words.strip_prefix('$').and_then(|length| length.parse().ok()).filter(|_| promised);
        bytes = &bytes[length.unwrap_or(0)..];
        let behind = if length.is_some() { " and so many bytes" } else { "" };
        promised |= words.starts_with("+FULLRESYNC");
        writeln!(out, "{who} {}{behind}", words.replace(A, "{a}").replace(B, "{b}")).unwrap();
    }
}

/// Takes one line off the front.
fn line(bytes: &mut &[u8]) -> String {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap_or(bytes.len());
    let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
    *bytes = bytes.get(end + 2..).unwrap_or_default();
    line
}

/// Takes one array of bulk strings off the front. One that is not whole yet is told by its bytes.
fn command(bytes: &mut &[u8]) -> String {
    let whole = *bytes;
    let mut words = Vec::new();
    for _ in 0..line(bytes)[1..].parse::<usize>().unwrap_or(0) {
        let length = line(bytes).get(1..).and_then(|length| length.parse::<usize>().ok());
        let Some(word) = length.and_then(|length| bytes.get(..length)) else {
            *bytes = &[];
            return whole.escape_ascii().to_string();
        };
        words.push(String::from_utf8_lossy(word).into_owned());
        *bytes = bytes.get(word.len() + 2..).unwrap_or_default();
    }
    words.join(" ")
}

fn run(script: &str) -> String {
    let (kind, blocks) = script.split_once("\n\n").expect("the kind of view, then blocks");
    let rig = if kind.ends_with("relay") { Rig::relay() } else { Rig::filter() };
    let mut stage = Stage { rig, names: BTreeMap::new() };
    let mut out = format!("{kind}\n");
    for block in blocks.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let event = block.split("\n----").next().unwrap_or_default().trim();
        let mut told = String::new();
        for line in event.lines().filter(|line| !line.starts_with('#')) {
            told.push_str(&stage.play(line));
        }
        write!(out, "\n{event}\n----\n{told}").unwrap();
    }
    out
}

#[test]
fn conversations_go_as_they_are_written_down() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/script");
    let mut scripts: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 5, "{} scripts in {}", scripts.len(), dir.display());
    for path in scripts {
        let script = std::fs::read_to_string(&path).unwrap();
        let played = run(&script);
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(&path, played).unwrap();
        } else {
            assert!(played == script, "{}\n{}", path.display(), difference(&script, &played));
        }
    }
}

/// The first lines that differ.
fn difference(written: &str, played: &str) -> String {
    let line = written.lines().zip(played.lines()).take_while(|(a, b)| a == b).count();
    let at = |text: &str| text.lines().skip(line).take(3).collect::<Vec<_>>().join("\n");
    format!("line {}\nwritten:\n{}\nplayed:\n{}", line + 1, at(written), at(played))
}
