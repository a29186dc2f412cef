//! Every way in which a plugin can misbehave, chosen by the setting `mode`. For the tests of the plugin room only.
//!
//! Modes begin with the question in which they strike: `init-`, `filter-`, `rename-`, `original-`, `frames-`, `encode-`,
//! `decode-`.

mod bombs;
mod codec;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sluicegate_plugin::{
    Edits, Error, FrameFilter, Frames, KeyFilter, KeyTransform, Keys, LogLevel, Plugin, Settings, export, log,
};

struct Hostile {
    mode: String,
    prefix: Option<String>,
    calls: AtomicU32,
}

impl Plugin for Hostile {
    const COUNTERS: &'static [&'static str] = &["questions"];

    fn init(settings: &Settings) -> Result<Self, String> {
        let mode = settings.get("mode").unwrap_or("well-behaved").to_owned();
        match mode.as_str() {
            "init-refuse" => return Err("this mode refuses its settings".into()),
            "init-panic" => panic!("a panic in init"),
            "init-loop" => bombs::spin(),
            _ => {}
        }
        Ok(Self { mode, prefix: settings.get("prefix").map(Into::into), calls: AtomicU32::new(0) })
    }

    fn prefixes(&self) -> Vec<Vec<u8>> {
        self.prefix.iter().map(|prefix| prefix.as_bytes().to_vec()).collect()
    }
}

impl KeyFilter for Hostile {
    fn keep(&self, _db: u32, key: &[u8]) -> bool {
        !key.starts_with(b"drop:")
    }

    fn filter(&self, keys: &Keys) -> Result<Vec<u8>, Error> {
        sluicegate_plugin::count(0);
        let calls = self.calls.fetch_add(1, Relaxed);
        let poisoned = keys.iter().any(|key| key == b"poison");
        match self.mode.as_str() {
            "filter-trap" => bombs::trap(),
            "filter-poison" if poisoned => panic!("a poisonous key"),
            "filter-panic" => panic!("the message of the panic"),
            "filter-loop" => bombs::spin(),
            "filter-recurse" => return Ok(vec![bombs::recurse(keys.len() as u64) as u8]),
            "filter-memory" => bombs::eat_memory(),
            "filter-grow" => bombs::use_memory(13 << 20),
            "filter-huge" => return Ok(vec![0; 12 << 20]),
            "filter-short" => return Ok(vec![0; keys.len().saturating_sub(1).max(1)]),
            "filter-long" => return Ok(vec![0; keys.len() + 1]),
            "filter-code" => return Ok(vec![2; keys.len()]),
            "filter-internal" => return Err(Error::Internal("cannot go on".into())),
            "filter-rejected" => return Err(Error::Rejected("will not answer".into())),
            // The first instance fails at its second question, and so does every other.
            "filter-second" if calls == 1 => bombs::trap(),
            "filter-log" => (0..10_000).for_each(|n| log(LogLevel::Warn, || format!("flood {n} {}", "x".repeat(2000)))),
            "filter-print" => println!("a line\nand another with é"),
            "filter-system" => return Err(Error::Rejected(bombs::ask_the_system())),
            "filter-exit" => std::process::exit(3),
            _ => {}
        }
        Ok(keys.verdicts(|key| self.keep(keys.db(), key)))
    }
}

impl FrameFilter for Hostile {
    fn pass(&self, _db: u32, command: &str, subject: &[u8], _size: u32) -> bool {
        !(command == "publish" && subject.starts_with(b"secret"))
    }

    fn filter_frames(&self, frames: &Frames) -> Result<Vec<u8>, Error> {
        match self.mode.as_str() {
            "frames-trap" => bombs::trap(),
            "frames-long" => return Ok(vec![0; frames.len() + 1]),
            _ => {}
        }
        Ok(frames.verdicts(|command, subject, size| self.pass(frames.db(), command, subject, size)))
    }
}

impl KeyTransform for Hostile {
    fn rename(&self, _db: u32, key: &[u8], name: &mut Vec<u8>) -> bool {
        match (self.mode.as_str(), key.strip_prefix(b"user:")) {
            ("rename-all-to-one", _) => name.extend_from_slice(b"one"),
            ("rename-to-empty", _) => {}
            (_, Some(rest)) => {
                name.extend_from_slice(b"u:");
                name.extend_from_slice(rest);
            }
            _ => return false,
        }
        true
    }

    fn original(&self, _db: u32, name: &[u8], key: &mut Vec<u8>) -> bool {
        match (self.mode.as_str(), name.strip_prefix(b"u:")) {
            ("original-lies", Some(rest)) => {
                key.extend_from_slice(b"liar:");
                key.extend_from_slice(rest);
            }
            ("rename-all-to-one", _) => key.extend_from_slice(b"user:1"),
            (_, Some(rest)) => {
                key.extend_from_slice(b"user:");
                key.extend_from_slice(rest);
            }
            _ => return false,
        }
        true
    }

    fn rename_all(&self, keys: &Keys) -> Result<Edits, Error> {
        let edits = |indexes: &[u32], offsets: &[u32], data: &[u8]| {
            Ok(Edits { indexes: indexes.into(), offsets: offsets.into(), data: data.into() })
        };
        let asked = keys.len() as u32;
        match self.mode.as_str() {
            "rename-trap" => bombs::trap(),
            "rename-descending" => edits(&[1, 0], &[0, 1, 2], b"ab"),
            "rename-out-of-range" => edits(&[asked], &[0, 1], b"a"),
            "rename-offsets-back" => edits(&[0, 1], &[0, 2, 1], b"a"),
            "rename-beyond-data" => edits(&[0], &[0, 9], b"a"),
            "rename-no-offsets" => edits(&[0], &[], b"a"),
            _ => Ok(keys.edits(|key, name| self.rename(keys.db(), key, name))),
        }
    }
}

export!(Hostile: key_filter, frame_filter, key_transform, block_codec);
