//! Views that wait for values from the primary: the conversation, and what it does to acknowledgements and replicas.

use sluicegate_core::contract::Input;
use sluicegate_core::settings::ViewSettings;

use crate::rig::{A, B, Rig, frame, frames, snapshot};
use crate::values::{Without, answer, error, restore};

const ASK: &str = "MULTI INFO replication SELECT 0 DUMP a PEXPIRETIME a EXEC";

#[test]
fn what_touches_a_key_is_held_back_and_goes_out_as_one_transaction() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SET b 1 | SUNIONSTORE a x:1 | SET c 1 | SADD a m"));
    assert_eq!(rig.got(replica), frames("SELECT 0 | SET b 1"));
    assert_eq!(rig.connect_values(), ASK);
    let fence = rig.here();
    rig.up(frames("SADD a late | SET d 1"));
    assert_eq!(rig.got(replica), b"", "nothing of it is seen");
    rig.say_values(answer(A, fence, &[Some("v")]));
    let window = [frames("MULTI | SET c 1"), restore("a", "v"), frame("EXEC")].concat();
    assert_eq!(rig.got(replica), [window, frames("SADD a late | SET d 1")].concat());
    assert_eq!(rig.asked(), "", "and nothing is asked again");
}

#[test]
fn values_wait_for_their_place() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.connect_values();
    let behind = frames("SADD a seen | SET c 1");
    let (first, last) = behind.split_at(behind.len() - 3);
    rig.say_values(answer(A, rig.here() + behind.len() as u64, &[Some("v")]));
    rig.up(first);
    assert_eq!(rig.got(replica), b"", "the fence is not reached");
    rig.up(last);
    // The value stands where its key was last touched; what follows needs no transaction.
    assert_eq!(rig.got(replica), [frame("SELECT 0"), restore("a", "v"), frames("SELECT 0 | SET c 1")].concat());
}

#[test]
fn a_primary_that_cannot_answer_now_is_asked_again() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    for text in ["-LOADING Redis is loading the dataset in memory", "-BUSY", "-MASTERDOWN Link with MASTER is down"] {
        assert_eq!(rig.connect_values(), ASK);
        let before = rig.now;
        rig.say_values(error(text, 1));
        assert_eq!((rig.values, rig.values_dials), (None, 0), "not at once");
        while rig.values_dials == 0 && rig.now < before + 1000 {
            rig.wait(10);
        }
        assert!((100..1000).contains(&(rig.now - before)), "{}", rig.now - before);
    }
    assert_eq!(rig.connect_values(), ASK);
    rig.say_values(answer(A, rig.here(), &[None]));
    assert_eq!(rig.got(replica), frames("SELECT 0 | DEL a"));
}

#[test]
fn values_of_another_history_are_not_taken_and_their_link_is_given_up() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.connect_values();
    let old = rig.values.unwrap();
    rig.say_values(answer(B, rig.here(), &[Some("wrong")]));
    assert!(rig.closed.contains(&old), "it leads to another server, and would go on to");
    assert_eq!(rig.connect_values(), ASK);
    rig.say_values(answer(A, rig.here(), &[Some("right")]));
    assert_eq!(rig.got(replica), [frame("SELECT 0"), restore("a", "right")].concat());
}

#[test]
fn a_link_that_is_lost_is_dialed_again_and_the_question_repeated() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.wait(100);
    assert_eq!(rig.values_dials, 1);
    rig.values_dials = 0;
    rig.handle(Input::DialFailed(1, "connection refused".into()));
    assert_eq!(rig.connect_values(), ASK);
    let whole = answer(A, rig.here(), &[Some("v")]);
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        rig.say_values(&whole[..cut]);
        let link = rig.values.take().unwrap();
        rig.handle(Input::Closed(link, "reset".into()));
        assert_eq!(rig.connect_values(), ASK, "cut at {cut}");
    }
    let silent = rig.values.unwrap();
    rig.wait(6_000);
    assert!(rig.closed.contains(&silent), "a silent one is given up");
    rig.connect_values();
    rig.got(replica);
    rig.say_values(&whole);
    assert_eq!(rig.got(replica), [frame("SELECT 0"), restore("a", "v")].concat());
}

#[test]
fn a_failover_in_the_middle_asks_the_new_primary() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SET b 1"));
    let before = rig.here();
    rig.up(frame("SUNIONSTORE a x:1"));
    rig.connect_values();
    let fence = rig.here();
    rig.cut();
    rig.say_values(answer(A, fence, &[Some("old")]));
    let info = format!("master_replid:{B}\r\nmaster_replid2:{A}\r\nsecond_repl_offset:{}\r\n", fence + 1);
    rig.introduce(&info);
    rig.up(format!("+CONTINUE {B}\r\n"));
    assert_eq!(rig.acks(), [before], "not ahead of what is held back");
    assert_eq!(rig.got(replica), frames("SELECT 0 | SET b 1"));
    rig.wait(100);
    assert_eq!(rig.asked(), ASK);
    rig.say_values(answer(B, rig.here(), &[Some("new")]));
    assert_eq!(rig.got(replica), restore("a", "new"));
}

#[test]
fn a_new_segment_forgets_what_was_waited_for() {
    let (mut rig, _) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    rig.connect_values();
    let fence = rig.here();
    rig.cut();
    rig.introduce("");
    rig.give_snapshot(B, fence, &snapshot("7.2.4"));
    let replica = rig.synced(0);
    rig.got(replica);
    rig.say_values(answer(A, fence, &[Some("old")]));
    rig.wait(1000);
    assert_eq!((rig.asked(), rig.machine.views()[0].held()), (String::new(), (0, 0)));
    rig.up(frames("SELECT 0 | SADD a m"));
    assert_eq!(rig.got(replica), frames("SELECT 0 | SADD a m"));
}

#[test]
fn databases_that_changed_places_in_a_transaction_that_never_was_are_back() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1"));
    let whole = rig.here();
    rig.up(frames("MULTI | SWAPDB 0 1 | SET b 1"));
    rig.cut();
    let info = format!("master_replid:{B}\r\nmaster_replid2:{A}\r\nsecond_repl_offset:{}\r\n", whole + 1);
    rig.introduce(&info);
    assert!(rig.noted("upstream-cut-back").is_some());
    rig.up(format!("+CONTINUE {B}\r\n"));
    assert_eq!(rig.connect_values(), ASK, "in the database where it lies");
    rig.say_values(answer(B, rig.here(), &[Some("v")]));
    assert_eq!(rig.got(replica), [frame("SELECT 0"), restore("a", "v")].concat());
}

#[test]
fn what_is_held_back_is_acknowledged_when_it_is_let_go() {
    let (mut rig, _) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SET b 1"));
    let before = rig.here();
    rig.told_up();
    rig.up(frames("SUNIONSTORE a x:1 | SET c 1"));
    let asked_at = rig.here();
    rig.up(frame("REPLCONF GETACK *"));
    rig.wait(2_000);
    let acks = rig.acks();
    assert!(acks.len() > 2 && acks.iter().all(|&ack| ack == before), "{acks:?}, held behind {before}");
    rig.connect_values();
    rig.acks();
    rig.say_values(answer(A, rig.here(), &[Some("v")]));
    assert_eq!(rig.acks(), [rig.here()], "owed since {asked_at}, and given at once");
}

#[test]
fn an_acknowledgement_never_goes_back() {
    let (mut rig, _) = Rig::repairing(|_| {});
    // In one read: more frames than are looked at together.
    let mut read = frames("SELECT 0 | SET b 1 | REPLCONF GETACK *");
    read.extend(frame("SET b 2").repeat(5_000));
    read.extend(frame("REPLCONF GETACK *"));
    read.extend(frame("SET b 3").repeat(5_000));
    read.extend(frame("SUNIONSTORE a x:1"));
    rig.told_up();
    rig.up(read);
    rig.wait(2_000);
    let acks = rig.acks();
    assert!(acks.len() > 3 && acks.is_sorted(), "{acks:?}");
}

#[test]
fn replicas_hear_pings_while_their_view_waits() {
    let (mut rig, replica) = Rig::repairing(|_| {});
    rig.up(frames("SELECT 0 | SUNIONSTORE a x:1 | SET c 1 | SADD a m"));
    let fence = rig.here();
    let mut got = Vec::new();
    for _ in 0..12 {
        rig.up(frame("PING"));
        rig.wait(1_000);
        got.extend(rig.got(replica));
    }
    assert_eq!(got, frame("PING"), "the view's own; the primary's would stand in what is held back");
    rig.connect_values();
    rig.say_values(answer(A, fence + 14 * 12, &[Some("v")]));
    let window = [frames("MULTI | SELECT 0 | SET c 1"), restore("a", "v"), frame("EXEC")].concat();
    assert!(rig.got(replica).starts_with(&window));
}

#[test]
fn a_refusal_halts_the_views_that_want_the_key_and_no_other() {
    let views = vec![ViewSettings::new("no-x"), ViewSettings::new("no-y")];
    let mut rig = Rig::new(views, vec![Some(Box::new(Without(b"x:"))), Some(Box::new(Without(b"y:")))]);
    rig.attach(A, 100);
    let replicas = [rig.synced(0), rig.synced(1)];
    replicas.iter().for_each(|replica| drop(rig.got(*replica)));
    rig.up(frames("SELECT 0 | SUNIONSTORE y:1 x:1"));
    rig.wait(100);
    // Both are asked for together.
    rig.up(frame("SUNIONSTORE x:2 y:2"));
    assert_eq!(rig.connect_values(), ASK.replace(" a", " y:1"));
    rig.say_values(answer(A, rig.here(), &[Some("v")]));
    assert_eq!(rig.asked(), ASK.replace(" a", " x:2"));
    rig.up(frame("SUNIONSTORE y:1 x:1"));
    let denied = "-NOPERM User default has no permissions to run the 'dump' command\r\n";
    rig.say_values(format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{denied}+QUEUED\r\n-EXECABORT\r\n"));
    let fault = rig.halted(1).expect("it cannot be kept right");
    assert!(fault.contains("'x:2'") && fault.contains("ACL SETUSER default") && fault.contains("+dump"), "{fault}");
    assert_eq!(rig.halted(0), None, "it does not want this key");
    assert_eq!(rig.asked(), ASK.replace(" a", " y:1"));
}
