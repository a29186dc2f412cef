//! The replica's half of the handshake, and primaries that do not play along.

use sluicegate_core::contract::Input;
use sluicegate_core::settings::{RefreshSettings, Settings, UpstreamSettings, ViewSettings};
use sluicegate_core::upstream::Phase;

use crate::rig::{A, B, Rig, frame, snapshot};

#[test]
fn it_says_what_a_real_replica_says() {
    let mut rig = Rig::relay();
    assert_eq!(rig.connect(), 0, "the first attempt is made at once");
    assert_eq!(rig.told_up(), b"*1\r\n$4\r\nPING\r\n");
    rig.up("+PO");
    assert_eq!(rig.told_up(), b"", "an answer is a whole line");
    rig.up("NG\r\n");
    let expected = "*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7000\r\n\
        *5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n\
        *3\r\n$8\r\nREPLCONF\r\n$7\r\nversion\r\n$5\r\n9.1.0\r\n";
    assert_eq!(String::from_utf8(rig.told_up()).unwrap(), expected);
    rig.up("+OK\r\n+OK\r\n");
    assert_eq!(rig.told_up(), b"");
    rig.up("-ERR Unrecognized REPLCONF option: version\r\n");
    assert_eq!(rig.told_up(), b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    rig.up("\n\n");
    assert_eq!(rig.told_up(), b"");
    rig.give_snapshot(A, 500, &snapshot("7.2.4"));
    assert_eq!(rig.told_up(), frame("REPLCONF ACK 500"));
    assert_eq!(rig.info("master_link_status"), "up");
}

fn with_credentials(username: Option<&str>) -> Rig {
    let mut upstream = UpstreamSettings::new("primary", 6379);
    (upstream.username, upstream.password) = (username.map(String::from), Some("secret".into()));
    let settings = Settings {
        upstream,
        views: vec![ViewSettings::new("all")],
        users: Vec::new(),
        refresh: RefreshSettings::default(),
        ships_max: 1,
        version: String::new(),
    };
    Rig::with(settings, Vec::new())
}

#[test]
fn credentials_come_first_and_a_refusal_is_the_operators() {
    for (user, auth) in [(None, "AUTH secret"), (Some("me"), "AUTH me secret")] {
        let mut rig = with_credentials(user);
        rig.connect();
        rig.told_up();
        rig.up("-NOAUTH Authentication required.\r\n");
        assert!(rig.told_up().starts_with(&frame(auth)));
        rig.up("+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
        assert_eq!(rig.told_up(), frame("PSYNC ? -1"));
    }
    let mut rig = with_credentials(None);
    rig.connect();
    rig.up("+PONG\r\n");
    rig.up("-WRONGPASS invalid username-password pair\r\n");
    assert_eq!(rig.up_link(), None);
    let text = rig.noted("upstream-failed").unwrap();
    assert!(text.starts_with("operator:") && !text.contains("secret"), "{text}");
}

/// The wait before each of the next attempts, when every one goes as `fails` has it.
fn waits(rig: &mut Rig, fails: impl Fn(&mut Rig)) -> Vec<u64> {
    rig.connect();
    fails(rig);
    (0..9)
        .map(|_| {
            let waited = rig.connect();
            fails(rig);
            waited
        })
        .collect()
}

#[test]
fn a_primary_that_says_no_is_asked_more_and_more_rarely() {
    let greetings = [
        "-LOADING Redis is loading the dataset in memory",
        "-MISCONF no",
        "-BUSY script",
        "-ERR max number of clients reached",
        "-MASTERDOWN no",
        "garbage",
        "",
        "$5",
    ];
    let answers = [
        "-NOMASTERLINK Can't SYNC while not connected with my master",
        "-LOADING Redis is loading the dataset in memory",
        "-ERR unknown command",
        "+CONTINUE",
        "+DUALCHANNELSYNC",
        "+RDBCHANNELSYNC 5",
        "+FULLRESYNC abc 5",
        "+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -5",
        "+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 99999999999999999999",
        "+CONTINUE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let headers = ["$-1", "$0", "$x", "$EOF:short", "-ERR BGSAVE failed", "*1", "$99999999999999999999"];
    let tell = |told: &str, stage: u8| {
        let fails = |rig: &mut Rig| {
            if stage > 0 {
                rig.up("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n");
            }
            if stage > 1 {
                rig.up(format!("+FULLRESYNC {A} 5\r\n"));
            }
            rig.up(format!("{told}\r\n"));
            assert_eq!(rig.up_link(), None, "the link is closed on {told:?}");
        };
        let waits = waits(&mut Rig::relay(), fails);
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000], "{told:?}");
    };
    greetings.iter().for_each(|told| tell(told, 0));
    answers.iter().for_each(|told| tell(told, 1));
    headers.iter().for_each(|told| tell(told, 2));
}

#[test]
fn a_stream_that_breaks_each_time_costs_the_primary_fewer_and_fewer_snapshots() {
    let mut rig = Rig::relay();
    let waits: Vec<u64> = (0..8)
        .map(|_| {
            let waited = rig.dialed_and_synced(A);
            rig.up("PING\r\n");
            waited
        })
        .collect();
    assert_eq!(waits, [0, 200, 400, 800, 1600, 3200, 6400, 10_000]);
    rig.dialed_and_synced(A);
    for _ in 0..3 {
        rig.cut();
        rig.introduce("");
        rig.up("+CONTINUE\r\n");
    }
    rig.cut();
    assert_eq!(rig.connect(), 200, "one that was only cut goes on at once");
}

#[test]
fn a_primary_that_wants_a_password_is_told_to_the_operator() {
    let mut rig = Rig::relay();
    rig.connect();
    rig.up("-NOAUTH Authentication required.\r\n");
    rig.up("-NOAUTH Authentication required.\r\n");
    assert!(rig.noted("upstream-failed").unwrap().contains("upstream.password_file"));
}

#[test]
fn lines_without_an_end_are_not_gathered_for_ever() {
    for greeting in ["", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n"] {
        let mut rig = Rig::relay();
        rig.connect();
        rig.up(greeting);
        rig.up([b'+'; 2000]);
        assert_eq!(rig.up_link(), None);
    }
    let mut rig = Rig::relay();
    rig.attach(A, 10);
    rig.cut();
    rig.connect();
    rig.up("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!(rig.machine.upstream_phase(), Phase::Inquiring);
    rig.up([b'$'; 2000]);
    assert_eq!(rig.up_link(), None, "nor while INFO is waited for");
}

#[test]
fn a_primary_that_knows_no_info_is_asked_to_go_on_all_the_same() {
    let mut rig = Rig::relay();
    rig.attach(A, 10);
    rig.cut();
    rig.connect();
    rig.up("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n");
    rig.told_up();
    rig.up("-NOPERM this user has no permissions to run the 'info' command\r\n");
    assert_eq!(rig.told_up(), frame(&format!("PSYNC {A} 11")));
}

#[test]
fn silence_is_noticed_wherever_it_falls() {
    let stages: [&[&str]; 4] =
        [&[], &["+PONG\r\n"], &["+PONG\r\n+OK\r\n+OK\r\n+OK\r\n"], &["+PONG\r\n+OK\r\n+OK\r\n+OK\r\n", "\n"]];
    for stage in stages {
        let mut rig = Rig::relay();
        rig.connect();
        stage.iter().for_each(|said| rig.up(said));
        rig.wait(59_000);
        assert!(rig.up_link().is_some(), "{stage:?}");
        rig.wait(2_000);
        assert_eq!(rig.up_link(), None, "{stage:?}");
    }
    let mut rig = Rig::relay();
    rig.dialed();
    rig.wait(61_000);
    assert!(rig.noted("upstream-unreachable").is_some(), "nor is an attempt waited for that never ends");
}

#[test]
fn an_attempt_that_was_given_up_cannot_disturb_the_one_that_came_through() {
    let mut rig = Rig::relay();
    rig.dialed();
    rig.wait(61_000);
    rig.attach(A, 10);
    let late = rig.link();
    rig.handle(Input::Connected(0, late));
    assert!(rig.closed.contains(&late));
    rig.handle(Input::DialFailed(0, "late".into()));
    assert_eq!(rig.machine.upstream_phase(), Phase::Streaming);
    rig.up(frame("SET a 1"));
    assert_eq!(rig.machine.upstream_position().unwrap().2, 10 + frame("SET a 1").len() as u64);
}

#[test]
fn a_continue_that_nobody_asked_for_is_not_joined_to_what_we_hold() {
    let mut rig = Rig::relay();
    rig.attach(A, 10);
    rig.cut();
    let place = rig.introduce("");
    assert_eq!(place.as_bytes(), frame(&format!("PSYNC {A} 11")));
    rig.up("+CONTINUE abc\r\n");
    assert_eq!(rig.up_link(), None, "a short id");
    assert_eq!(rig.introduce("").as_bytes(), frame(&format!("PSYNC {A} 11")), "the place is kept");
    rig.up(format!("+CONTINUE {B}\r\n"));
    assert_eq!(rig.machine.upstream_position().unwrap().0.as_str(), B);
}
