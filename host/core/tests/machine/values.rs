//! A primary that tells what single keys hold.

use bytes::Bytes;
use sluicegate_core::contract::{Drive, Input, LinkId};
use sluicegate_core::pipeline::{Answers, FrameBatch, KeepAll, KeyBatch, Pipeline, PluginFault, Traits};
use sluicegate_core::resp::write_command;
use sluicegate_core::settings::ViewSettings;
use sluicegate_core::view::State;

use crate::rig::{A, Rig};

/// Keys that begin with this are dropped.
pub(crate) struct Without(pub(crate) &'static [u8]);

impl Pipeline for Without {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        (0..batch.len())
            .filter(|&index| batch.get(index).starts_with(self.0))
            .for_each(|index| answers.drop_key(index));
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        KeepAll.frames(batch, keep)
    }

    fn traits(&self) -> Traits {
        KeepAll.traits()
    }
}

/// What DUMP gives for a value, as far as the proxy looks at it.
pub(crate) fn dump(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[11, 0], &[7; 8]].concat()
}

/// The command that gives `key` that value.
pub(crate) fn restore(key: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(&mut out, &[b"RESTORE", key.as_bytes(), b"0", &dump(value), b"REPLACE", b"ABSTTL"]);
    out
}

/// The answer of the primary whose history `id` stands at `fence`; the keys lie in database 0.
pub(crate) fn answer(id: &str, fence: u64, values: &[Option<&str>]) -> Vec<u8> {
    let info = format!("role:master\r\nmaster_replid:{id}\r\nmaster_repl_offset:{fence}\r\n");
    let commands = 2 + 2 * values.len();
    let mut out = format!("+OK\r\n{}*{commands}\r\n", "+QUEUED\r\n".repeat(commands)).into_bytes();
    out.extend(format!("${}\r\n{info}\r\n+OK\r\n", info.len()).bytes());
    for value in values {
        match value.map(dump) {
            Some(dump) => out.extend([format!("${}\r\n", dump.len()).as_bytes(), &dump, b"\r\n:-1\r\n"].concat()),
            None => out.extend(b"$-1\r\n:-2\r\n"),
        }
    }
    out
}

/// An answer of nothing but this error.
pub(crate) fn error(error: &str, keys: usize) -> Vec<u8> {
    format!("{error}\r\n").repeat(4 + 2 * keys).into_bytes()
}

impl Rig {
    /// A view without `x:…` that repairs, its settings made by `change`; a replica that is at its end.
    pub(crate) fn repairing(change: impl FnOnce(&mut ViewSettings)) -> (Self, LinkId) {
        let mut settings = ViewSettings::new("some");
        change(&mut settings);
        let mut rig = Self::new(vec![settings], vec![Some(Box::new(Without(b"x:")))]);
        rig.attach(A, 100);
        let replica = rig.synced(0);
        rig.got(replica);
        (rig, replica)
    }

    /// Waits until the machine dials for values, and lets it through. What it asks for comes back, a word a space.
    pub(crate) fn connect_values(&mut self) -> String {
        for _ in 0..1000 {
            if self.values_dials > 0 {
                break;
            }
            self.wait(100);
        }
        assert!(std::mem::take(&mut self.values_dials) > 0, "it never dials");
        let link = self.link();
        self.values = Some(link);
        self.handle(Input::Connected(1, link));
        assert_eq!(self.asked(), "CLIENT SETNAME sluicegate-fetch");
        self.say_values("+OK\r\n");
        self.asked()
    }

    /// What was said on the link for values.
    pub(crate) fn asked(&mut self) -> String {
        let Some(outbox) = self.values.and_then(|link| self.machine.outbox(link)) else { return String::new() };
        let text = String::from_utf8(outbox.take()).unwrap();
        let words = text.lines().filter(|line| !line.starts_with('$') && !line.starts_with('*'));
        words.collect::<Vec<_>>().join(" ")
    }

    /// The primary says this on the link for values.
    pub(crate) fn say_values(&mut self, bytes: impl AsRef<[u8]>) {
        let link = self.values.expect("a link for values");
        self.handle(Input::Bytes(link, Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// How far the primary's stream is.
    pub(crate) fn here(&self) -> u64 {
        self.machine.upstream_position().unwrap().2
    }

    /// What halted view `index`.
    pub(crate) fn halted(&self, index: usize) -> Option<String> {
        match self.machine.views()[index].state() {
            State::Halted(fault) => Some(fault.to_string()),
            _ => None,
        }
    }

    /// The acknowledgements that the primary has heard since it was last asked.
    pub(crate) fn acks(&mut self) -> Vec<u64> {
        let text = String::from_utf8(self.told_up()).unwrap();
        let parts = text.split("$3\r\nACK\r\n");
        parts.skip(1).map(|part| part.split("\r\n").nth(1).unwrap().parse().unwrap()).collect()
    }
}
