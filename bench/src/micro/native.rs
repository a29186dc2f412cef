//! The rivals of the component: the same rules in native Rust, inside the core and outside of it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use sluicegate_core::pipeline::{Answers, FrameBatch, KeepAll, KeyBatch, Pipeline, PluginFault, Traits};

use super::{Contender, Rule};

/// What the primary calls it.
const FROM: &[u8] = b"user:";
/// What the view calls it.
const TO: &[u8] = b"u:";

/// A rule as the core's pipeline, without WebAssembly.
pub(crate) struct Native(pub(crate) Rule);

impl Pipeline for Native {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        let mut name = Vec::new();
        for index in 0..batch.len() {
            let key = batch.get(index);
            match (self.0, key.strip_prefix(FROM)) {
                (Rule::Filter, Some(_)) => {}
                (Rule::Filter, None) => answers.drop_key(index),
                (Rule::Rename, Some(rest)) => {
                    name.clear();
                    name.extend_from_slice(TO);
                    name.extend_from_slice(rest);
                    if original(&name) != (FROM, rest) {
                        return Err(clash(key));
                    }
                    answers.rename_key(index, &name);
                }
                (Rule::Rename, None) if original(key) != (&[], key) => return Err(clash(key)),
                (Rule::Rename, None) => {}
            }
        }
        Ok(())
    }

    fn frames(&mut self, batch: &FrameBatch, keep: &mut Vec<bool>) -> Result<(), PluginFault> {
        KeepAll.frames(batch, keep)
    }

    fn traits(&self) -> Traits {
        KeepAll.traits()
    }
}

/// The key that `name` stands for, in two parts.
fn original(name: &[u8]) -> (&'static [u8], &[u8]) {
    name.strip_prefix(TO).map_or((&[], name), |rest| (FROM, rest))
}

fn clash(key: &[u8]) -> PluginFault {
    PluginFault { plugin: "native".into(), what: format!("key `{}` bears another's name", key.escape_ascii()) }
}

/// A rule as a loop over bytes: parse, compare, copy. It takes SET from a trustworthy source and nothing else.
pub(super) struct Plain(pub(super) Rule);

/// Output is handed on in blocks of this many bytes.
const BLOCK_BYTES: usize = 256 * 1024;

impl Contender for Plain {
    fn title(&self) -> &'static str {
        "plain loop"
    }

    fn pass(&mut self, chunks: &[Bytes], sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut out = Vec::with_capacity(2 * BLOCK_BYTES);
        let mut partial = Vec::new();
        for chunk in chunks {
            let mut rest: &[u8] = chunk;
            // A frame that a read has cut in two is gathered.
            while !partial.is_empty() {
                let (&byte, behind) = rest.split_first().context("a stream that ends in a frame")?;
                partial.push(byte);
                rest = behind;
                if let Some(set) = parse(&partial)? {
                    self.apply(&partial, &set, &mut out)?;
                    partial.clear();
                }
            }
            while let Some(set) = parse(rest)? {
                self.apply(rest, &set, &mut out)?;
                rest = &rest[set.end..];
            }
            partial.extend_from_slice(rest);
            if out.len() >= BLOCK_BYTES {
                sink(&out);
                out.clear();
            }
        }
        ensure!(partial.is_empty(), "a stream that ends in a frame");
        sink(&out);
        Ok(())
    }
}

impl Plain {
    #[inline]
    fn apply(&self, bytes: &[u8], set: &Set, out: &mut Vec<u8>) -> Result<()> {
        let key = &bytes[set.key.0..set.key.1];
        match (self.0, key.strip_prefix(FROM)) {
            (Rule::Filter, None) => {}
            (Rule::Rename, Some(rest)) => {
                let at = out.len();
                sluicegate_core::resp::write_array(out, 3);
                out.extend_from_slice(b"$3\r\nSET\r\n$");
                sluicegate_core::resp::write_decimal(out, (TO.len() + rest.len()) as u64);
                out.extend_from_slice(b"\r\n");
                let name = out.len();
                out.extend_from_slice(TO);
                out.extend_from_slice(rest);
                ensure!(original(&out[name..]) == (FROM, rest), "a clash at {at}");
                out.extend_from_slice(&bytes[set.key.1..set.end]);
            }
            (Rule::Rename, None) => {
                ensure!(original(key).0.is_empty(), "a clash");
                out.extend_from_slice(&bytes[..set.end]);
            }
            (Rule::Filter, Some(_)) => out.extend_from_slice(&bytes[..set.end]),
        }
        Ok(())
    }
}

/// Where key and end of a SET lie.
struct Set {
    key: (usize, usize),
    end: usize,
}

/// The SET at the front of `bytes`; `None` until all of it is there.
#[inline]
fn parse(bytes: &[u8]) -> Result<Option<Set>> {
    let mut at = 0;
    let mut key = (0, 0);
    match number(bytes, &mut at, b'*') {
        Some(3) => {}
        Some(count) => anyhow::bail!("a command of {count} arguments"),
        None => return Ok(None),
    }
    for argument in 0..3 {
        let Some(length) = number(bytes, &mut at, b'$') else { return Ok(None) };
        let end = at + length;
        let Some(ends) = bytes.get(end..end + 2) else { return Ok(None) };
        ensure!(ends == b"\r\n", "a bulk string without an end");
        if argument == 1 {
            key = (at, end);
        }
        at = end + 2;
    }
    Ok(Some(Set { key, end: at }))
}

#[inline]
fn number(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    if *bytes.get(*at)? != kind {
        return None;
    }
    let (mut n, mut i) = (0, *at + 1);
    while let digit @ b'0'..=b'9' = *bytes.get(i)? {
        n = n * 10 + usize::from(digit - b'0');
        i += 1;
    }
    bytes.get(i + 1)?;
    *at = i + 2;
    Some(n)
}
