//! What plugins say reaches the operator, cut and counted; an ordinary `wasm32-wasip2` build loads and learns nothing.

use crate::support::{ask, hostile, logged, pipeline, record_log};
use sluicegate_guest::{PluginSpec, limits};

fn wasip2(name: &str, mode: &str) -> PluginSpec {
    PluginSpec::new(name.to_owned(), sluicegate_bundle::HOSTILE_WASIP2).set("mode", mode)
}

#[test]
fn a_flood_is_limited_and_long_messages_are_cut() {
    record_log();
    let mut spec = hostile("filter-log");
    spec.name = "flooder".into();
    spec.deadline_ms = 1_000;
    let mut view = pipeline([spec]).expect("loads");
    ask(&mut view, 0, &["a"]).expect("answers");
    let lines = logged("\"flooder\"");
    let seconds = 10;
    assert!(
        !lines.is_empty() && lines.len() <= seconds * (limits::LOG_MESSAGES_PER_SECOND as usize + 1),
        "{}",
        lines.len()
    );
    let flood: Vec<_> = lines.iter().filter(|line| line.contains("flood")).collect();
    assert!(flood.iter().all(|line| line.contains("bytes cut") && line.len() < 1200), "{flood:?}");
}

#[test]
fn an_ordinary_wasip2_build_loads_and_its_output_goes_to_the_log_line_by_line() {
    record_log();
    let mut view = pipeline([wasip2("printer", "filter-print")]).expect("loads");
    assert_eq!(ask(&mut view, 0, &["user:1"]).expect("answers"), [Some("u:1".into())]);
    let lines = logged("\"printer\"");
    assert!(lines.iter().any(|line| line.contains("a line ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("and another with é")), "{lines:?}");
}

#[test]
fn a_panic_of_a_wasip2_build_is_told() {
    let mut view = pipeline([wasip2("panicker", "filter-panic")]).expect("loads");
    let fault = ask(&mut view, 0, &["user:1"]).expect_err("panics");
    assert!(fault.what.contains("the message of the panic"), "{}", fault.what);
}

#[test]
fn the_system_tells_nothing_and_the_same_every_time() {
    let said = |_| {
        let mut view = pipeline([wasip2("curious", "filter-system")]).expect("loads");
        ask(&mut view, 0, &["a"]).expect_err("reports by rejecting").what
    };
    let [first, second] = [0, 1].map(said);
    assert_eq!(first, second);
    assert!(first.contains("file Err(\"refused\"), arguments 0, environment 0, clock 0"), "{first}");
}

#[test]
fn what_the_shim_does_not_give_traps_with_its_name() {
    let mut view = pipeline([wasip2("leaver", "filter-exit")]).expect("loads");
    let fault = ask(&mut view, 0, &["a"]).expect_err("exits");
    assert!(fault.what.contains("wasi:cli/exit#exit"), "{}", fault.what);
}
