//! Databases and transactions.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Rules, Setup, frames};

#[test]
fn select_is_state_and_goes_out_where_it_is_needed() {
    Setup::rules().gives(&[
        ("SELECT 5 | SET x:a 1 | SELECT 0", ""),
        ("SELECT 5 | SET a 1", "SELECT 5 | SET a 1"),
        ("SET a 1 | SELECT 5 | SELECT 0 | SET b 1", "SELECT 0 | SET a 1 | SET b 1"),
        ("SET a 1 | SELECT 5 | SET x:a 1 | SELECT 0 | SET b 1", "SELECT 0 | SET a 1 | SET b 1"),
        ("select 5 | SET a 1 | SET b 1 | SELECT 0 | DEL a", "SELECT 5 | SET a 1 | SET b 1 | SELECT 0 | DEL a"),
        ("SELECT 5 | PING | PUBLISH c m | SET a 1", "PING | PUBLISH c m | SELECT 5 | SET a 1"),
        // The same key, asked in the database where it stands.
        (
            "SET d:a 1 | SELECT 3 | SET d:a 2 | SET n:a 1 | SELECT 0 | SET d:a 3",
            "SELECT 0 | SET d:a 1 | SELECT 3 | SET N3:a 1 | SELECT 0 | SET d:a 3",
        ),
        ("SELECT 3 | DEL d:a n:b | SELECT 3 | DEL d:a n:c", "SELECT 3 | DEL N3:b | DEL N3:c"),
    ]);
    Setup { db: 7, ..Setup::rules() }.gives(&[("SET a 1", "SELECT 7 | SET a 1"), ("SET d:a 1", "")]);
}

#[test]
fn transactions_go_out_whole_or_not_at_all() {
    Setup::rules().gives(&[
        ("MULTI | SET a 1 | SET x:b 2 | SET r:c 3 | EXEC", "MULTI | SELECT 0 | SET a 1 | SET R:c 3 | EXEC"),
        ("multi | SET x:a 1 | DEL x:b | exec | SET c 1", "SELECT 0 | SET c 1"),
        ("MULTI | EXEC", ""),
        ("MULTI | SET a 1", ""),
        ("SET a 1 | MULTI | SET b 1 | EXEC", "SELECT 0 | SET a 1 | MULTI | SET b 1 | EXEC"),
        (
            "SELECT 7 | MULTI | SET a 1 | EXEC | SELECT 0 | SET b 1",
            "MULTI | SELECT 7 | SET a 1 | EXEC | SELECT 0 | SET b 1",
        ),
        (
            "MULTI | SELECT 7 | SET a 1 | EXEC | SELECT 0 | SET b 1",
            "MULTI | SELECT 7 | SET a 1 | EXEC | SELECT 0 | SET b 1",
        ),
        (
            "SET z 1 | MULTI | SET a 1 | SELECT 7 | SET b 1 | SELECT 0 | EXEC | SET c 1",
            "SELECT 0 | SET z 1 | MULTI | SET a 1 | SELECT 7 | SET b 1 | EXEC | SELECT 0 | SET c 1",
        ),
        ("SET z 1 | MULTI | SELECT 7 | SET x:b 1 | EXEC | SET c 1", "SELECT 0 | SET z 1 | SELECT 7 | SET c 1"),
        ("MULTI | PUBLISH c m | EXEC", "MULTI | PUBLISH c m | EXEC"),
    ]);
    Setup::rules().halts(&[("MULTI | SET a 1 | MULTI", "", "MULTI"), ("SET a 1 | EXEC", "SELECT 0 | SET a 1", "EXEC")]);
}

#[test]
fn a_transaction_above_its_bound_halts_and_leaves_nothing() {
    let small = Setup { transaction: 100, ..Setup::rules() };
    let value = "v".repeat(30);
    let fits = format!("MULTI | SET a {value} | EXEC");
    small.gives(&[(&fits, &format!("MULTI | SELECT 0 | SET a {value} | EXEC"))]);
    let over = format!("SET z 1 | MULTI | SET a {value} | SET b {value} | SET c {value} | EXEC");
    small.halts(&[(&over, "SELECT 0 | SET z 1", "limits.transaction")]);
    let dropped = over.replace("b v", "x:b v").replace("c v", "x:c v");
    small.gives(&[(&dropped, &format!("SELECT 0 | SET z 1 | MULTI | SET a {value} | EXEC"))]);
    // What is outside of transactions is bounded by nothing.
    small.gives(&[(
        &format!("SET a {value}{value}{value}{value}"),
        &format!("SELECT 0 | SET a {value}{value}{value}{value}"),
    )]);
}

#[test]
fn more_keys_than_one_question_holds_are_asked_in_several() {
    let input: Vec<String> = (0..1500).map(|n| format!("SET {} {n}", ["a", "x:a", "r:a"][n % 3])).collect();
    let output: Vec<String> =
        (0..1500).filter(|n| n % 3 != 1).map(|n| format!("SET {} {n}", ["a", "", "R:a"][n % 3])).collect();
    Setup::rules().gives(&[(&input.join(" | "), &format!("SELECT 0 | {}", output.join(" | ")))]);
    let keys: Vec<String> = (0..700).map(|n| format!("{}{n}", ["a", "x:a"][n % 2])).collect();
    let kept: Vec<String> = (0..700).step_by(2).map(|n| format!("a{n}")).collect();
    let (input, output) = (
        format!("SET q 1 | DEL {} | SET r:q 1", keys.join(" ")),
        format!("SELECT 0 | SET q 1 | DEL {} | SET R:q 1", kept.join(" ")),
    );
    Setup::rules().gives(&[(&input, &output)]);
    let many = format!("DEL {}", vec!["a"; 1024].join(" "));
    Setup::rules().halts(&[(&many, "", "1025 arguments")]);
}

/// A word of a random story.
fn step() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SET a 1",
        "SET x:a 1",
        "SET r:a 1",
        "SET d:a 1",
        "SET n:a 1",
        "DEL a x:b r:c",
        "MSET a 1 x:b 2",
        "SELECT 0",
        "SELECT 1",
        "SELECT 2",
        "PING",
        "\\n",
        "REPLCONF GETACK *",
        "RENAME r:a r:b",
        "PUBLISH c m",
        "XGROUP DESTROY n:s g",
        "FLUSHDB",
        "COPY n:a n:b DB 1",
        "SET r:long vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv",
    ])
}

/// What a replica makes of a stream: each command that writes, with the database it is applied to.
fn applied(story: &str) -> Vec<String> {
    let (mut db, mut effects) = (String::from("0"), Vec::new());
    for frame in story.split(" | ").filter(|frame| !frame.is_empty()) {
        match frame.split_once(' ') {
            Some(("SELECT", selected)) => db = selected.into(),
            _ if ["MULTI", "EXEC", "PING", "\\n"].contains(&frame) || frame.starts_with("REPLCONF") => {}
            _ if frame.starts_with("PUBLISH") => effects.push(frame.into()),
            _ => effects.push(format!("{db}: {frame}")),
        }
    }
    effects
}

/// What the rules make of one effect, written down without any of the projection's means.
fn expected(effect: &str) -> Option<String> {
    let Some((db, frame)) = effect.split_once(": ") else { return Some(effect.into()) };
    let other = if frame.starts_with("COPY") { "1" } else { db };
    let words: Vec<&str> = frame.split(' ').collect();
    let hidden = |word: &str| word.starts_with("x:") || (word.starts_with("d:") && db != "0");
    let kept: Vec<String> = match words[0] {
        "MSET" => vec!["MSET".into(), "a".into(), "1".into()],
        _ if words[0] != "DEL" && words.iter().any(|word| hidden(word)) => return None,
        _ => words
            .iter()
            .enumerate()
            .filter(|(_, word)| !hidden(word))
            .map(|(at, word)| match word.split_once(':') {
                Some(("r", rest)) => format!("R:{rest}"),
                Some(("n", rest)) => format!("N{}:{rest}", if at == 2 { other } else { db }),
                _ => String::from(*word),
            })
            .collect(),
    };
    Some(format!("{db}: {}", kept.join(" ")))
}

proptest! {
    #[test]
    fn every_effect_on_a_kept_key_arrives_once_in_order_and_in_its_database(
        steps in vec((step(), 0u8..10), 1..60),
    ) {
        let mut story: Vec<&str> = Vec::new();
        let mut open = false;
        for (step, turn) in steps {
            match (turn, open) {
                (0 | 1, false) => { story.push("MULTI"); open = true; }
                (0..=3, true) => { story.push("EXEC"); open = false; }
                _ => {}
            }
            story.push(step);
        }
        if open {
            story.push("EXEC");
        }
        let story = story.join(" | ");
        let (out, fault) = Setup::with(Rules::default()).tell(&story);
        prop_assert_eq!(fault, None);
        let effects: Vec<String> = applied(&story).iter().filter_map(|effect| expected(effect)).collect();
        prop_assert_eq!(applied(&out), effects);
        // Every transaction ends, none is empty, none is inside another.
        let mut inside = None;
        for frame in out.split(" | ") {
            match frame {
                "MULTI" => { prop_assert_eq!(inside, None); inside = Some(0); }
                "EXEC" => { prop_assert!(inside.is_some_and(|frames| frames > 0)); inside = None; }
                _ => inside = inside.map(|frames| frames + 1),
            }
        }
        prop_assert_eq!(inside, None);
    }

    #[test]
    fn a_transaction_that_was_cut_short_leaves_the_view_where_it_was(len in 0usize..60) {
        let before = frames("SELECT 2 | SET a 1");
        let cut = frames("MULTI | SELECT 3 | SET b 1 | SET r:c 1");
        let stream = [&before[..], &cut[..len.min(cut.len())]].concat();
        let (out, fault) = Setup::rules().run(&stream, 7);
        prop_assert_eq!((out, fault), (frames("SELECT 2 | SET a 1"), None));
    }
}
