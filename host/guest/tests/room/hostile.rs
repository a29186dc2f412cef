//! A plugin can do what it likes: it costs its instance and, at worst, its view. Never the process, never another view.

use std::time::{Duration, Instant};

use crate::support::{ask, hostile, pipeline};
use sluicegate_core::pipeline::{Answers, FrameBatch, KeyBatch, Pipeline};
use sluicegate_guest::{OnError, limits};

const KEYS: [&str; 4] = ["user:1", "user:2", "other", "drop:1"];

#[test]
fn a_well_behaved_plugin_of_all_worlds_filters_renames_and_decides_frames() {
    let mut view = pipeline([hostile("well-behaved")]).expect("loads");
    let answers = ask(&mut view, 0, &KEYS).expect("answers");
    assert_eq!(answers, [Some("u:1".into()), Some("u:2".into()), Some("other".into()), None]);
    let mut keep = Vec::new();
    view.frames(&FrameBatch::single(0, 0, b"secret:channel", 50), &mut keep).expect("answers");
    assert_eq!(keep, [false]);
    view.frames(&FrameBatch::single(0, 2, b"secret-library", 0), &mut keep).expect("answers");
    assert_eq!(keep, [true]);
    assert!(view.traits().decides_frames);
}

/// Each mode, and what its fault must say. The default policy halts.
#[test]
fn every_misdeed_ends_in_a_fault_that_says_what_happened() {
    for (mode, says) in [
        ("filter-trap", "unreachable"),
        ("filter-panic", "the message of the panic"),
        ("filter-recurse", "call stack exhausted"),
        ("filter-memory", "memory limit of 16777216 bytes"),
        ("filter-huge", "fuel allocated for hostcalls"),
        ("filter-short", "answered 3 verdicts to 4 questions"),
        ("filter-long", "answered 5 verdicts to 4 questions"),
        ("filter-code", "neither 0 (keep) nor 1 (drop)"),
        ("filter-internal", "internal error: cannot go on"),
        ("filter-rejected", "rejected: will not answer"),
        ("rename-trap", "unreachable"),
        ("rename-descending", "do not ascend"),
        ("rename-out-of-range", "not asked about"),
        ("rename-offsets-back", "offsets that go back"),
        ("rename-beyond-data", "do not end with the data"),
        ("rename-no-offsets", "0 offsets for 1 names"),
        ("rename-all-to-one", "`user:2` and `user:1` clash"),
        ("rename-to-empty", "clash"),
        ("original-lies", "is `liar:1`"),
    ] {
        // What is not about time is not to end by time, however slow the machine.
        let mut spec = hostile(mode);
        spec.deadline_ms = 5_000;
        let mut view = pipeline([spec]).expect(mode);
        let fault = ask(&mut view, 0, &KEYS).expect_err(mode);
        assert_eq!(fault.plugin, "hostile");
        assert!(fault.what.contains(says), "{mode}: {}", fault.what);
    }
}

#[test]
fn frames_are_checked_like_keys() {
    for mode in ["frames-trap", "frames-long"] {
        let mut view = pipeline([hostile(mode)]).expect(mode);
        let fault = view.frames(&FrameBatch::single(0, 0, b"news", 10), &mut Vec::new()).expect_err(mode);
        assert_eq!(fault.plugin, "hostile");
    }
}

#[test]
fn an_endless_loop_halts_whatever_the_policy_and_is_not_asked_again() {
    let mut spec = hostile("filter-loop");
    spec.on_error = OnError::Pass;
    let mut view = pipeline([spec]).expect("loads");
    let begun = Instant::now();
    let fault = ask(&mut view, 0, &KEYS).expect_err("never answers");
    assert!(fault.what.contains("no answer within 5 ms of processor time"), "{}", fault.what);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let stats = &view.stats().read()[0];
    assert_eq!((stats.calls, stats.restarts), (2, 0), "init and one question");
}

#[test]
fn fuel_stops_a_loop_at_the_same_place_every_time() {
    let mut spec = hostile("filter-loop");
    (spec.fuel, spec.deadline_ms) = (Some(1_000_000), 10_000);
    let mut view = pipeline([spec]).expect("loads");
    let fault = ask(&mut view, 0, &KEYS).expect_err("never answers");
    assert!(fault.what.contains("fuel"), "{}", fault.what);
}

#[test]
fn a_plugin_that_does_not_start_is_refused_at_load() {
    for (mode, says) in [
        ("init-refuse", "this mode refuses its settings"),
        ("init-panic", "a panic in init"),
        ("init-loop", "no answer within 1000 ms"),
    ] {
        let error = pipeline([hostile(mode)]).err().expect(mode).to_string();
        assert!(error.contains("plugin `hostile`") && error.contains(says), "{mode}: {error}");
    }
}

#[test]
fn a_lost_instance_is_replaced_and_the_batch_asked_once_more() {
    // Every instance answers one question and traps at the next: each batch but the first needs a fresh one.
    let mut view = pipeline([hostile("filter-second")]).expect("loads");
    for _ in 0..limits::RESTARTS_PER_MINUTE + 1 {
        assert_eq!(ask(&mut view, 0, &KEYS).expect("a fresh instance answers")[3], None);
    }
    let stats = &view.stats().read()[0];
    assert_eq!((stats.traps, stats.restarts), (limits::RESTARTS_PER_MINUTE as u64, limits::RESTARTS_PER_MINUTE as u64));
    let fault = ask(&mut view, 0, &KEYS).expect_err("a storm of restarts");
    assert!(fault.what.contains("lost 5 instances within a minute"), "{}", fault.what);
}

#[test]
fn the_policy_decides_for_the_poisoned_batch_alone() {
    for (policy, fate) in [(OnError::Drop, None), (OnError::Pass, Some("poison".to_owned()))] {
        let mut spec = hostile("filter-poison");
        spec.on_error = policy;
        let mut view = pipeline([spec]).expect("loads");
        assert!(view.traits().inexact);
        let answers = ask(&mut view, 0, &["poison", "a"]).expect("the policy answers");
        assert_eq!(answers[0], fate);
        assert_eq!(answers[1].is_none(), policy == OnError::Drop);
        assert_eq!(ask(&mut view, 0, &["user:1", "drop:1"]).expect("answers"), [Some("u:1".into()), None]);
        let stats = &view.stats().read()[0];
        assert_eq!((stats.by_policy, stats.traps, stats.restarts), (1, 2, 2));
    }
    let mut view = pipeline([hostile("filter-poison")]).expect("loads");
    assert!(!view.traits().inexact);
    assert!(ask(&mut view, 0, &["poison"]).is_err());
}

#[test]
fn a_key_that_does_not_fit_into_the_plugin_is_an_error_not_a_panic() {
    for bytes in [10 << 20, 64 << 20] {
        let mut view = pipeline([hostile("well-behaved")]).expect("loads");
        let mut batch = KeyBatch::new(0);
        batch.push(&vec![b'k'; bytes]);
        let fault = view.keys(&batch, &mut Answers::default());
        if let Err(fault) = fault {
            assert!(fault.what.contains("memory"), "{}", fault.what);
        } else {
            assert!(bytes < 16 << 20);
        }
        assert!(ask(&mut view, 0, &["user:1"]).is_ok(), "the next batch is answered");
    }
}

#[test]
fn an_instance_whose_memory_has_grown_is_replaced_between_batches() {
    let mut spec = hostile("filter-grow");
    spec.deadline_ms = 5_000;
    let mut view = pipeline([spec]).expect("loads");
    for _ in 0..3 * limits::RESTARTS_PER_MINUTE {
        ask(&mut view, 0, &KEYS).expect("answers");
    }
    let stats = &view.stats().read()[0];
    assert!(stats.recycled >= 3 * limits::RESTARTS_PER_MINUTE as u64 && stats.restarts == 0, "{stats:?}");
    assert!(stats.memory_bytes <= limits::MEMORY_BYTES as u64);
}

#[test]
fn keys_outside_the_declared_prefixes_never_reach_a_plugin() {
    let mut view = pipeline([hostile("filter-code").set("prefix", "user:")]).expect("loads");
    assert!(ask(&mut view, 0, &["drop:1", "other"]).is_ok(), "a filter keeps what it is not asked about");
    assert!(ask(&mut view, 0, &["drop:1", "user:1"]).is_err());
    let mut view = pipeline([hostile("well-behaved").set("prefix", "user:")]).expect("loads");
    let answers = ask(&mut view, 0, &["drop:1", "user:1", "x", "user:2"]).expect("answers");
    assert_eq!(answers, [Some("drop:1".into()), Some("u:1".into()), Some("x".into()), Some("u:2".into())]);
    assert!(ask(&mut view, 0, &["x", "u:1"]).is_err(), "names are proved for keys that it never saw");
}
