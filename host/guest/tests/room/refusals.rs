//! What is refused at load, and that the reason is named.

use crate::support::{ROOM, hostile};
use sluicegate_guest::PluginSpec;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name, ".wasm")).as_slice()
    };
}

fn refusal(wasm: &[u8]) -> String {
    let error = ROOM.load(PluginSpec::new("stranger", wasm.to_vec())).expect_err("refused").to_string();
    assert!(error.contains("plugin `stranger`"), "{error}");
    error
}

#[test]
fn a_component_that_wants_something_foreign_is_refused_by_its_name() {
    let error = refusal(fixture!("foreign-import"));
    assert!(error.contains("it imports `evil:corp/network@1.0.0`") && error.contains("no authority"), "{error}");
    let error = refusal(fixture!("unknown-interface"));
    assert!(error.contains("it imports `sluicegate:plugin/admin@0.1.0`"), "{error}");
}

#[test]
fn another_version_of_the_contract_is_refused_with_both_versions() {
    let error = refusal(fixture!("newer-import"));
    assert!(error.contains("log@0.2.0") && error.contains("0.1.x"), "{error}");
    let error = refusal(fixture!("newer-export"));
    assert!(error.contains("lifecycle@0.2.0") && error.contains("0.1.x"), "{error}");
}

#[test]
fn what_is_no_plugin_is_refused() {
    let error = refusal(fixture!("empty"));
    assert!(error.contains("does not export sluicegate:plugin/lifecycle"), "{error}");
    let error = refusal(fixture!("module"));
    assert!(error.contains("no plugin") || error.contains("no component"), "{error}");
    refusal(b"#!/bin/sh\n");
}

#[test]
fn a_damaged_file_is_refused_wherever_it_is_cut() {
    for whole in [sluicegate_bundle::KEY_FILTER, sluicegate_bundle::HOSTILE_WASIP2] {
        for length in [0, 1, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
            refusal(&whole[..length]);
        }
    }
}

#[test]
fn a_component_above_its_bound_is_refused_unread() {
    let mut spec = hostile("well-behaved");
    spec.component_bytes_max = 1000;
    let error = ROOM.load(spec).expect_err("too large").to_string();
    assert!(error.contains("more than the 1000 that a component may have"), "{error}");
}

#[test]
fn features_that_plugins_are_not_given_are_refused() {
    for (feature, wasm) in [
        ("memory64", fixture!("feature-memory64")),
        ("multi-memory", fixture!("feature-multi-memory")),
        ("threads", fixture!("feature-threads")),
        ("gc", fixture!("feature-gc")),
        ("exceptions", fixture!("feature-exceptions")),
    ] {
        let error = refusal(wasm);
        assert!(error.contains("no valid component"), "{feature}: {error}");
    }
}
