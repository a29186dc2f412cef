//! The built-in plugins do what their documentation says, alone and in a row.

use crate::support::{ROOM, ask, pipeline};
use sluicegate_core::pipeline::Pipeline;
use sluicegate_guest::PluginSpec;

fn filter(settings: &[(&str, &str)]) -> PluginSpec {
    let spec = PluginSpec::new("filter", sluicegate_bundle::KEY_FILTER);
    settings.iter().fold(spec, |spec, (name, value)| spec.set(*name, *value))
}

fn rename(rules: &[&str]) -> PluginSpec {
    let spec = PluginSpec::new("rename", sluicegate_bundle::KEY_RENAME);
    rules.iter().fold(spec, |spec, rule| spec.set("rule", *rule))
}

fn some(names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| Some((*name).to_owned())).collect()
}

#[test]
fn a_filter_keeps_what_is_allowed_and_not_denied() {
    let spec = filter(&[("allow", "user:*"), ("allow", "[st]ess:*"), ("deny", "user:*:secret"), ("databases", "0")]);
    let mut view = pipeline([spec]).expect("loads");
    let answers = ask(&mut view, 0, &["user:1", "user:1:secret", "sess:1", "tess:", "other", ""]).expect("answers");
    let kept: Vec<bool> = answers.iter().map(Option::is_some).collect();
    assert_eq!(kept, [true, false, true, true, false, false]);
    assert_eq!(ask(&mut view, 1, &["user:1"]).expect("answers"), [None]);
    assert!(!view.traits().db_independent && !view.traits().decides_frames && !view.traits().inexact);
    let stats = &view.stats().read()[0];
    assert_eq!((stats.calls, stats.keys, stats.dropped), (3, 7, 4), "one init, two batches");
    assert_eq!(stats.counters, [("batches dropped by database".to_owned(), 1)]);
}

#[test]
fn a_rename_rewrites_prefixes() {
    let mut view = pipeline([rename(&["user:* => u:*", "user:vip:* => v:*"])]).expect("loads");
    let answers = ask(&mut view, 0, &["user:1", "x", "user:vip:2", "user:"]).expect("answers");
    assert_eq!(answers, some(&["u:1", "x", "v:2", "u:"]));
    assert!(view.traits().db_independent);
    assert_eq!(view.stats().read()[0].renamed, 3);
}

#[test]
fn a_rename_is_shown_what_the_filter_kept_and_the_next_plugin_sees_the_names() {
    let specs = [filter(&[("deny", "u:*")]), rename(&["user:* => u:*"]), filter(&[("deny", "u:2")])];
    let mut view = pipeline(specs).expect("loads");
    // `u:1` would clash with `user:1`, but it is dropped before.
    let answers = ask(&mut view, 0, &["u:1", "user:1", "user:2", "other"]).expect("answers");
    assert_eq!(answers, [None, Some("u:1".into()), None, Some("other".into())]);
}

#[test]
fn a_clash_halts_and_names_both_keys() {
    let mut view = pipeline([rename(&["user:* => u:*"])]).expect("loads");
    let fault = ask(&mut view, 0, &["fine", "u:7"]).expect_err("u:7 is what user:7 would be called");
    assert_eq!(fault.plugin, "rename");
    assert!(fault.what.contains("the keys `u:7` and `user:7` clash"), "{}", fault.what);
}

#[test]
fn settings_that_make_no_sense_are_refused_at_load() {
    for (spec, hint) in [
        (filter(&[("alow", "x")]), "unknown setting `alow`"),
        (rename(&["a:* => x:*", "b:* => x:*"]), "can give two keys the same name"),
        (rename(&[]), "no `rule`"),
    ] {
        let error = ROOM.load(spec).expect_err("refused").to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn built_ins_describe_themselves() {
    let plugin = ROOM.load(filter(&[])).expect("loads");
    assert_eq!((plugin.name(), plugin.worlds().as_slice()), ("filter", &["key-filter"][..]));
    assert_eq!(plugin.descriptor().name, "sluicegate-key-filter");
    assert!(plugin.descriptor().db_independent);
    assert_eq!(sluicegate_bundle::builtin("key-rename"), Some(sluicegate_bundle::KEY_RENAME));
}
