//! Expiries become absolute.

use sluicegate_core::limits::FRAME_ARGS_MAX;

use super::{Setup, commands, words};

#[test]
fn relative_expiries_become_absolute_in_every_view() {
    let stories = [
        ("SET a v EX 2", "SET a v EX 2 | PEXPIREAT a 1000000002000"),
        ("set a v px 2 EX 3", "set a v px 2 EX 3 | PEXPIREAT a 1000000003000"),
        ("SETEX a 2 v", "SETEX a 2 v | PEXPIREAT a 1000000002000"),
        ("psetex a 2 v", "psetex a 2 v | PEXPIREAT a 1000000000002"),
        ("EXPIRE a 2000", "PEXPIREAT a 1000002000000"),
        ("PEXPIRE a +5", "PEXPIREAT a 1000000000005"),
        ("HEXPIRE a 1 NX FIELDS 1 f", "HPEXPIREAT a 1000000001000 NX FIELDS 1 f"),
        ("HPEXPIRE a 1 FIELDS 2 f g", "HPEXPIREAT a 1000000000001 FIELDS 2 f g"),
    ];
    let views = [
        (Setup::plain(), "0"),
        (Setup::plain().at(2), "2"),
        (Setup::plain().over(3), "1"),
        (Setup::rules(), "0"),
        (Setup::rules().at(2), "2"),
        (Setup::rules().over(3), "1"),
    ];
    for (setup, stream) in views {
        for (input, expected) in stories {
            let lines: Vec<String> = expected.split(" | ").map(|line| format!("{stream} {line}")).collect();
            setup.passes(&[(input, &lines.join(" | "))]);
        }
    }
    Setup::rules().over(2).passes(&[
        ("SET r:b v EX 2 | SET x:b v EX 2", "1 SET {b}R v EX 2 | 1 PEXPIREAT {b}R 1000000002000"),
        ("EXPIRE r:b 1 | SETEX x:b 1 v", "1 PEXPIREAT {b}R 1000000001000"),
        ("HEXPIRE r:b 1 FIELDS 1 f", "1 HPEXPIREAT {b}R 1000000001000 FIELDS 1 f"),
    ]);
}

#[test]
fn what_cannot_be_made_exact_or_lasts_is_left_alone() {
    let left = [
        "SET a v",
        "SET a v NX EX 2",
        "SET a v EX 2 XX",
        "SET a v EX",
        "SET a v EX 0",
        "SET a v EX soon",
        "SET a v EX 9223372036854775807",
        "SET a v KEEPTTL",
        "SET EX PX",
        "SETEX a 0 v",
        "SETEX a 2",
        "SETEX a 2 v w",
        "EXPIRE a",
        "EXPIRE a 0",
        "EXPIRE a -1",
        "EXPIRE a 5 GT",
        "EXPIRE a 18446744073709551616",
        "PEXPIREAT a 5",
        "GETEX a",
        "GETEX a PERSIST",
        "GETEX a EX 1",
        "GETEX a EX -1",
        "HEXPIRE a 0 FIELDS 1 f",
        "HPEXPIREAT a 5 FIELDS 1 f",
    ];
    for setup in [Setup::plain(), Setup::rules()] {
        for line in left {
            setup.passes(&[(line, &format!("0 {line}"))]);
        }
        let old = Setup { field_deadlines: false, ..setup };
        for line in ["HEXPIRE a 1 FIELDS 1 f", "HPEXPIRE a 1 FIELDS 1 f"] {
            old.passes(&[(line, &format!("0 {line}"))]);
        }
        old.passes(&[("EXPIRE a 1", "0 PEXPIREAT a 1000000001000")]);
    }
}

/// A replica that is cut off, or made a primary, between the two commands must not keep the key for ever.
#[test]
fn no_command_by_itself_leaves_a_key_without_the_expiry_that_it_came_with() {
    for setup in [Setup::plain(), Setup::rules(), Setup::rules().over(2)] {
        for line in ["SET a v EX 2", "SET r:a v PX 2", "SETEX a 2 v", "PSETEX r:a 2 v"] {
            let told = setup.run(&commands(line), usize::MAX);
            let first = words(&told.out.commands[0].1);
            assert!(first.len() > 3, "{line} begins with a plain {first:?}");
        }
    }
}

/// What is known of a frame's words takes eight bytes a word: those of one that no server takes are not looked at.
#[test]
fn a_frame_with_more_words_than_servers_take_is_not_taken_apart() {
    for setup in [Setup::plain(), Setup::rules()] {
        for verb in ["SET", "HEXPIRE"] {
            let options = ["EX", "5"].into_iter().cycle().take(FRAME_ARGS_MAX);
            let command: Vec<Vec<u8>> = [verb, "a", "5"].into_iter().chain(options).map(Vec::from).collect();
            let told = setup.run(std::slice::from_ref(&command), usize::MAX);
            let (told, halted) = (told.out.commands, told.fault);
            assert_eq!((told.len(), halted), (1, None), "{verb}");
            assert!(words(&told[0].1) == command, "{verb} is as it was");
        }
    }
}

#[test]
fn a_command_that_becomes_two_counts_once() {
    let told = Setup::plain().run(&commands("SETEX a 2 v"), usize::MAX);
    assert_eq!((told.out.commands.len(), told.counts.frames_in, told.counts.frames_out), (2, 1, 1));
}
