//! What a plugin costs a key: the built-in plugins against the same decisions in native code, over batches of 512 keys.
//!
//! `cargo run --release -p sluicegate-guest --example speed`

use std::sync::Arc;
use std::time::Instant;

use sluicegate_core::pipeline::{
    Answers, BATCH_KEYS_MAX, FrameBatch, KeepAll, KeyBatch, Pipeline, PluginFault, Traits,
};
use sluicegate_guest::{PluginSpec, Room, RoomSettings};

const ROUNDS: usize = 4_000;
const SAMPLES: usize = 9;

/// The decisions of the plugins below without a plugin.
enum Native {
    Pack,
    Filter,
    Rename,
}

impl Pipeline for Native {
    fn keys(&mut self, batch: &KeyBatch, answers: &mut Answers) -> Result<(), PluginFault> {
        answers.keep_all(batch.len());
        for index in 0..batch.len() {
            match (&self, batch.get(index).strip_prefix(b"user:")) {
                (Native::Filter, None) => answers.drop_key(index),
                (Native::Rename, Some(rest)) => answers.rename_key(index, &[b"u:", rest].concat()),
                _ => {}
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

/// Nanoseconds a key, packing included: the median of several samples.
fn measure(pipeline: &mut dyn Pipeline, keys: &[String]) -> f64 {
    let (mut batch, mut answers) = (KeyBatch::new(0), Answers::default());
    let mut sample = || {
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            batch.reset(0);
            for key in keys {
                batch.push(key.as_bytes());
            }
            pipeline.keys(&batch, &mut answers).expect("the built-in plugins answer");
        }
        begun.elapsed().as_nanos() as f64 / (ROUNDS * keys.len()) as f64
    };
    let mut samples: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let room = Room::new(RoomSettings::default())?;
    let load = |spec: PluginSpec| room.pipeline(&[Arc::new(room.load(spec)?)]);
    let filter = PluginSpec::new("filter", sluicegate_bundle::KEY_FILTER).set("allow", "user:*");
    let rename = PluginSpec::new("rename", sluicegate_bundle::KEY_RENAME).set("rule", "user:* => u:*");
    let name = |n: usize| if n.is_multiple_of(2) { "user" } else { "sess" };
    let keys: Vec<String> = (0..BATCH_KEYS_MAX).map(|n| format!("{}:{n:015}", name(n))).collect();
    let cases: [(&str, Box<dyn Pipeline>); 5] = [
        ("native: pack only", Box::new(Native::Pack)),
        ("native: filter", Box::new(Native::Filter)),
        ("plugin: filter", Box::new(load(filter)?)),
        ("native: rename, unproved", Box::new(Native::Rename)),
        ("plugin: rename, proved", Box::new(load(rename)?)),
    ];
    for (case, mut pipeline) in cases {
        println!("{case:28} {:6.1} ns a key", measure(pipeline.as_mut(), &keys));
    }
    Ok(())
}
