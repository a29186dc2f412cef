//! What `sluicegate explain` says to an operator, through real plugins.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

const CONFIG: &str = r#"[upstream]
address = "127.0.0.1:6379"

[[view]]
name = "eu"
listen = [":7000"]
pipeline = ["users", "under-eu"]

[[view]]
name = "all"
listen = [":7001"]

[[plugin]]
name = "users"
builtin = "key-filter"
config = { allow = "user:*" }

[[plugin]]
name = "under-eu"
builtin = "key-rename"
config = { rule = "user:* => eu:user:*" }
"#;

fn explain(args: &[&str]) -> Output {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("sluicegate.toml"), CONFIG).expect("writing the configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("explain").args(args).current_dir(folder.path());
    command.output().expect("the program starts")
}

fn said(args: &[&str]) -> String {
    let output = explain(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_command_is_told_with_its_keys_and_the_reason() {
    assert_eq!(
        said(&["DEL 'user:a b' \"cart\\x00\"", "--view", "eu"]),
        "replica  DEL \"eu:user:a b\"\n\
         keys     \"user:a b\"  written  kept as \"eu:user:a b\"\n         \
         \"cart\\x00\"  written  dropped\n\
         why      what it does to one key does not depend on the others: the kept ones are left\n"
    );
}

#[test]
fn the_database_and_the_view_are_chosen() {
    let text = said(&["MOVE cart 3", "--view", "all", "--database", "2"]);
    assert!(text.starts_with("replica  MOVE cart 3\nkeys     cart "), "{text}");
    assert!(text.contains("cart in database 3  "), "{text}");
}

#[test]
fn the_table_is_told_for_any_view_and_for_one() {
    assert_eq!(said(&["--all"]), include_str!("../../../docs/commands.md"));
    let eu = said(&["--all", "--view", "eu"]);
    assert!(eu.starts_with("# What the view `eu` makes of each command\n") && eu.contains("| Renamed |"), "{eu}");
}

#[test]
fn what_makes_no_sense_is_said_with_exit_code_64() {
    let mistakes: [(&[&str], &str); 5] = [
        (&["GET a"], "which --view? There are eu, all"),
        (&["GET a", "--view", "us"], "the views are eu, all"),
        (&["SET a \"", "--view", "eu"], "a quote that does not end"),
        (&["", "--view", "eu"], "the command is empty"),
        (&["--all", "GET a"], "cannot be used with"),
    ];
    for (args, says) in mistakes {
        let output = explain(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
    }
}
