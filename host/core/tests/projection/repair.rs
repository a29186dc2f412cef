//! Keys whose values come from the primary.

mod model;

use std::sync::Arc;

use bytes::Bytes;

use sluicegate_core::command::Table;
use sluicegate_core::fetch::{Value, Wanted};
use sluicegate_core::frame::{Scanned, Scanner};
use sluicegate_core::pipeline::Pipeline;
use sluicegate_core::projection::Projection;
use sluicegate_core::rope::Rope;
use sluicegate_core::settings::CrossKey;

use crate::support::{NOW, Rules, Setup, flat, frames, read};

/// A view whose values come when the story says so.
pub(crate) struct Teller {
    rules: Rules,
    projection: Projection,
    scanner: Scanner,
    out: Rope,
}

impl Teller {
    pub(crate) fn new(rules: Rules) -> Self {
        let setup = Setup { cross_key: CrossKey::Repair, ..Setup::with(rules) };
        let table = Arc::new(Table::builtin());
        let projection = Projection::new(table.clone(), Some(&rules as &dyn Pipeline), false, setup.bounds(), 0);
        Self { rules, projection, scanner: Scanner::new(table, 0, 1 << 20), out: Rope::default() }
    }

    /// The upstream sends these frames: what goes out.
    pub(crate) fn hears(&mut self, story: &str) -> String {
        self.scanner.push(Bytes::from(frames(story)));
        while let Some(scanned) = self.scanner.next().expect("well-formed") {
            let Scanned::Frames(frames) = scanned else { panic!("an oversized frame") };
            self.projection.project(&frames, Some(&mut self.rules), NOW, &mut self.out).expect("it is projected");
        }
        read(&flat(&mut self.out))
    }

    /// What the view asks for, as `db:key`.
    pub(crate) fn asks(&mut self) -> Vec<(u32, String)> {
        self.asks_for(usize::MAX)
    }

    /// The same, for at most so many keys.
    pub(crate) fn asks_for(&mut self, most: usize) -> Vec<(u32, String)> {
        let name = |wanted: Wanted| (wanted.db, String::from_utf8(wanted.key).unwrap());
        self.projection.ask(most).into_iter().map(name).collect()
    }

    /// The primary's values, true behind all that was heard: what goes out.
    pub(crate) fn given(&mut self, values: &[(u32, &str, Option<&str>)]) -> String {
        let value = |value: &str| Value { payload: payload(value), expires_ms: None };
        let values = values.iter().map(|&(db, key, held)| (Wanted { db, key: key.into() }, held.map(value))).collect();
        self.projection.restore(values, &mut self.out).expect("it can be restored");
        read(&flat(&mut self.out))
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.projection.is_holding()
    }

    pub(crate) fn in_transaction(&self) -> bool {
        self.projection.in_transaction()
    }
}

/// Looks like a payload of RDB version 11.
fn payload(value: &str) -> Bytes {
    [value.as_bytes(), &[11, 0], b"checksum"].concat().into()
}

fn restore(name: &str, value: &str) -> String {
    format!("RESTORE {name} 0 {value}\\x0b\\x00checksum REPLACE ABSTTL")
}

#[test]
fn a_value_that_depends_on_a_dropped_key_is_fetched_and_given_where_the_key_was_touched_last() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("SET a 1 | SUNIONSTORE d a x:b | SET b 2"), "SELECT 0 | SET a 1");
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.asks(), [], "it is asked for once");
    assert_eq!(view.hears("SET c 3"), "");
    // No other key is touched between: nobody can see a state in which only `d` is old.
    assert_eq!(view.given(&[(0, "d", Some("v"))]), format!("{} | SET b 2 | SET c 3", restore("d", "v")));
    assert!(!view.is_holding());
    assert_eq!(view.hears("SADD d m"), "SADD d m", "the key is like any other again");
}

#[test]
fn from_the_first_touch_to_the_last_it_is_one_transaction() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("SUNIONSTORE r:d x:b | SET b 2 | PING | SADD r:d m | SET c 3"), "");
    assert_eq!(view.asks(), [(0, "r:d".into())]);
    let out = view.given(&[(0, "r:d", Some("v"))]);
    assert_eq!(out, format!("MULTI | SELECT 0 | SET b 2 | {} | EXEC | SET c 3", restore("R:d", "v")));
}

#[test]
fn a_key_that_is_gone_at_the_fence_is_deleted() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("COPY x:a d | DEL d"), "");
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.given(&[(0, "d", None)]), "SELECT 0 | DEL d");
}

#[test]
fn an_unknown_value_spreads() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("RENAME x:a d | COPY d e | RENAME e f | SMOVE d g m"), "");
    let asked = view.asks();
    assert_eq!(asked, [(0, "d".into()), (0, "e".into()), (0, "f".into())]);
    let out = view.given(&[(0, "d", Some("v")), (0, "e", None), (0, "f", Some("w"))]);
    let [d, f] = [restore("d", "v"), restore("f", "w")];
    assert_eq!(out, format!("MULTI | SELECT 0 | DEL e | {f} | SELECT 0 | SADD g m | {d} | EXEC"));
}

#[test]
fn what_was_not_asked_for_waits_for_its_own_answer_and_holds_back_what_it_must() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("COPY x:a d"), "");
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.hears("SET b 1 | COPY x:a e | SET c 1"), "");
    assert_eq!(view.given(&[(0, "d", Some("v"))]), format!("SELECT 0 | {} | SELECT 0 | SET b 1", restore("d", "v")));
    assert_eq!(view.asks(), [(0, "e".into())]);
    assert_eq!(view.given(&[(0, "e", Some("w"))]), format!("{} | SET c 1", restore("e", "w")));
    // Spans that overlap an open one wait for it.
    assert_eq!(view.hears("COPY x:a d"), "");
    view.asks();
    assert_eq!(view.hears("COPY x:a e | SET d 2"), "");
    assert_eq!(view.given(&[(0, "d", Some("v"))]), "");
    assert_eq!(view.asks(), [(0, "e".into())]);
    let [d, e] = [restore("d", "v"), restore("e", "w")];
    assert_eq!(view.given(&[(0, "e", Some("w"))]), format!("MULTI | {e} | {d} | EXEC"));
}

#[test]
fn a_repair_inside_a_transaction_takes_all_of_it() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("SET z 1 | MULTI | SET a 1 | COPY x:a d | SET b 2"), "SELECT 0 | SET z 1");
    assert!(view.in_transaction());
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.hears("EXEC | MULTI | SET c 3 | EXEC | SET d 4"), "");
    let out = view.given(&[(0, "d", Some("4"))]);
    assert_eq!(out, format!("MULTI | SET a 1 | SET b 2 | SET c 3 | {} | EXEC", restore("d", "4")));
    assert_eq!(view.hears("COPY x:a d | MULTI | SET c 4 | EXEC"), "");
    view.asks();
    assert_eq!(view.given(&[(0, "d", Some("v"))]), format!("{} | MULTI | SET c 4 | EXEC", restore("d", "v")));
}

#[test]
fn values_are_given_in_their_database() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("SET a 1 | COPY x:a d DB 3 | SET b 1"), "SELECT 0 | SET a 1");
    assert_eq!(view.asks(), [(3, "d".into())]);
    let out = view.given(&[(3, "d", Some("v"))]);
    assert_eq!(out, format!("SELECT 3 | {} | SELECT 0 | SET b 1", restore("d", "v")));
    // A key that has another name there is moved by its value.
    assert_eq!(view.hears("MOVE n:a 5"), "");
    assert_eq!(view.asks(), [(5, "n:a".into())]);
    let out = view.given(&[(5, "n:a", Some("v"))]);
    assert_eq!(out, format!("MULTI | DEL N0:a | SELECT 5 | {} | SELECT 0 | EXEC", restore("N5:a", "v")));
}

#[test]
fn a_database_that_is_emptied_takes_its_unknown_values_with_it() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("COPY x:a d | COPY x:a e DB 3 | FLUSHDB | SET b 1"), "");
    let asked = view.asks();
    assert_eq!(asked, [(0, "d".into()), (3, "e".into())]);
    let out = view.given(&[(0, "d", None), (3, "e", Some("v"))]);
    let e = restore("e", "v");
    assert_eq!(out, format!("MULTI | SELECT 3 | {e} | SELECT 0 | FLUSHDB | DEL d | EXEC | SET b 1"));
}

#[test]
fn databases_that_change_places_take_their_unknown_values_along() {
    let mut view = Teller::new(Rules { db_independent: true, ..Rules::default() });
    assert_eq!(view.hears("COPY x:a d"), "");
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.hears("SWAPDB 0 2"), "");
    assert_eq!(view.given(&[(0, "d", None)]), "", "this is the key that was in database 2");
    assert_eq!(view.asks(), [(2, "d".into())]);
    let out = view.given(&[(2, "d", Some("v"))]);
    assert_eq!(out, format!("MULTI | SWAPDB 0 2 | SELECT 2 | {} | EXEC", restore("d", "v")));
}

#[test]
fn a_transaction_that_never_happened_leaves_a_key_that_is_fetched_all_the_same() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("SET a 1 | MULTI | COPY x:a d"), "SELECT 0 | SET a 1");
    view.projection.abandon_transaction(0);
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.given(&[(0, "d", Some("v"))]), restore("d", "v"));
    assert_eq!(view.hears("SET b 1"), "SET b 1");
}

#[test]
fn a_value_of_a_version_that_replicas_were_not_promised_halts() {
    let mut view = Teller::new(Rules::default());
    view.hears("COPY x:a d");
    view.asks();
    let payload = Bytes::from_static(b"v\x50\0checksum");
    let values = vec![(Wanted { db: 0, key: b"d".to_vec() }, Some(Value { payload, expires_ms: Some(5) }))];
    let fault = view.projection.restore(values, &mut view.out).expect_err("RDB version 80");
    assert!(fault.to_string().contains("the value of d with a payload of RDB version 80"), "{fault}");
}

#[test]
fn too_many_unknown_values_halt() {
    let mut view = Teller::new(Rules::default());
    let story: Vec<String> = (0..101).map(|n| format!("COPY x:a d{n}")).collect();
    view.scanner.push(Bytes::from(frames(&story.join(" | "))));
    let Ok(Some(Scanned::Frames(frames))) = view.scanner.next() else { panic!("frames") };
    let fault = view.projection.project(&frames, Some(&mut view.rules), NOW, &mut view.out).expect_err("101 keys");
    assert!(fault.to_string().contains("limits.repair_keys"), "{fault}");
}

#[test]
fn a_view_that_may_be_inexact_leaves_the_key_as_it_is() {
    let drop = Setup { cross_key: CrossKey::Drop, ..Setup::rules() };
    drop.gives(&[
        ("SET a 1 | COPY x:a a REPLACE | SET b 1", "SELECT 0 | SET a 1 | SET b 1"),
        ("MOVE n:a 3", "SELECT 0 | DEL N0:a"),
    ]);
}

#[test]
fn a_value_stands_at_its_own_place_within_a_larger_transaction() {
    let mut view = Teller::new(Rules::default());
    assert_eq!(view.hears("RENAME x:a d"), "");
    assert_eq!(view.asks(), [(0, "d".into())]);
    assert_eq!(view.hears("SUNIONSTORE a a d"), "");
    assert_eq!(view.given(&[(0, "d", Some("v"))]), "", "`a` is touched together with it, and unknown");
    assert_eq!(view.hears("MULTI | SADD a 1 | DEL d | EXEC"), "");
    assert_eq!(view.asks(), [(0, "a".into())]);
    let [d, a] = [restore("d", "v"), restore("a", "w")];
    let out = view.given(&[(0, "a", Some("w"))]);
    assert_eq!(out, format!("MULTI | SELECT 0 | {d} | SELECT 0 | DEL d | {a} | EXEC"));
}
