//! Anything, in any order: nobody can make the machine panic or break its own order.

use proptest::collection::vec;
use proptest::prelude::*;

use sluicegate_core::contract::{Input, LinkId};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::replica::Phase;
use sluicegate_core::settings::ViewSettings;
use sluicegate_core::view::State;

use crate::rig::{A, B, Filter, Rig, frame, frames, snapshot};

/// What may happen next.
#[derive(Debug, Clone)]
enum Event {
    Up(Vec<u8>),
    Cut,
    Reach,
    Wait(u64),
    Accept(usize),
    Say(usize, Vec<u8>),
    Read(usize),
    Leave(usize),
    Shipped(usize, bool),
    Probed(usize),
    /// The second connection comes through, or an order is answered: true so far behind what was read.
    Values(u64),
    ValuesLost,
    /// The disk beneath the backlogs: busy, full, and broken, or not; and it does what waits for it.
    Disk(bool, bool, bool),
}

fn upstream() -> impl Strategy<Value = Vec<u8>> {
    let rdb = snapshot("7.2.4");
    let info = format!("master_replid:{B}\r\nmaster_replid2:{A}\r\nsecond_repl_offset:150\r\n");
    let words = [
        "+PONG\r\n".into(),
        "+OK\r\n+OK\r\n+OK\r\n".into(),
        format!("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC {A} 100\r\n${}\r\n", rdb.len()).into_bytes(),
        format!("+FULLRESYNC {B} 7\r\n").into_bytes(),
        format!("+CONTINUE {A}\r\n").into_bytes(),
        format!("+CONTINUE {B}\r\n").into_bytes(),
        "+CONTINUE\r\n".into(),
        "-NOMASTERLINK\r\n".into(),
        "$0\r\n\r\n".into(),
        format!("${}\r\n{info}\r\n", info.len()).into_bytes(),
        rdb.clone(),
        rdb[..20].to_vec(),
        "\n".into(),
        "*".into(),
        frames("SELECT 3 | SET a 1 | SET x:b 2"),
        frame("MULTI"),
        frame("EXEC"),
        frame("REPLCONF GETACK *"),
        frame("SUNIONSTORE a x:b"),
        frame("COPY a c DB 3"),
        frame("UNKNOWN a"),
        frame("SET a 1")[..9].to_vec(),
        frame(&format!("SET a {}", "v".repeat(70_000))),
        frame(&format!("SET a {}", "v".repeat(70_000)))[..66_000].to_vec(),
    ];
    prop::sample::select(words.to_vec())
}

fn replica() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        frame("PING"),
        frame("REPLCONF capa eof capa psync2"),
        frame("REPLCONF listening-port 1"),
        frame("PSYNC ? -1"),
        frame("PSYNC ? -1"),
        frame(&format!("PSYNC {A} 128")),
        frame(&format!("PSYNC {B} 128")),
        frame("REPLCONF ACK 0"),
        frame("REPLCONF ACK 120"),
        frame("INFO"),
        frame("QUIT"),
        b"\n".to_vec(),
        b"*1\r\n".to_vec(),
        b"*1\r\n+\r\n".to_vec(),
        vec![b'x'; 70_000],
    ];
    prop::sample::select(words.to_vec())
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => upstream().prop_map(Event::Up),
        2 => Just(Event::Cut),
        4 => Just(Event::Reach),
        2 => prop::sample::select(vec![100, 1_000, 11_000, 61_000]).prop_map(Event::Wait),
        3 => (0usize..2).prop_map(Event::Accept),
        8 => (0usize..14, replica()).prop_map(|(link, words)| Event::Say(link, words)),
        4 => (0usize..14).prop_map(Event::Read),
        1 => (0usize..14).prop_map(Event::Leave),
        3 => (0usize..14, any::<bool>()).prop_map(|(link, good)| Event::Shipped(link, good)),
        1 => (0usize..14).prop_map(Event::Probed),
        6 => prop::sample::select(vec![0, 0, 27, 54, 70_200]).prop_map(Event::Values),
        1 => Just(Event::ValuesLost),
        2 => any::<bool>().prop_map(|busy| Event::Disk(busy, false, false)),
        1 => any::<(bool, bool, bool)>().prop_map(|(busy, full, broken)| Event::Disk(busy, full, broken)),
    ]
}

fn happens(rig: &mut Rig, links: &mut Vec<LinkId>, event: &Event) {
    let at = |n: usize, links: &[LinkId]| links.len().checked_sub(1).map(|last| links[last - n.min(last)]);
    match event {
        Event::Up(bytes) if rig.up_link().is_some() => rig.up(bytes),
        Event::Cut if rig.up_link().is_some() => rig.cut(),
        Event::Reach if rig.up_link().is_none() => drop(rig.connect()),
        Event::Up(_) | Event::Cut | Event::Reach => {}
        Event::Wait(ms) => rig.wait(*ms),
        Event::Accept(view) => {
            let link = rig.accept(*view);
            links.push(link);
        }
        Event::Say(n, words) => at(*n, links).into_iter().for_each(|link| rig.send(link, words)),
        Event::Read(n) => at(*n, links).into_iter().for_each(|link| drop(rig.got(link))),
        Event::Leave(n) => {
            if let Some(link) = at(*n, links) {
                links.retain(|other| *other != link);
                rig.handle(Input::Closed(link, "gone".into()));
            }
        }
        Event::Shipped(n, good) => {
            let order = rig.ships.get(rig.ships.len().wrapping_sub(1 + n)).cloned();
            match order {
                Some(order) if *good => rig.ship(&order),
                Some(order) => rig.handle(Input::ShipEnded(order.link, Err(Fault::new(Party::Own, "disk")))),
                None => {}
            }
        }
        Event::Values(_) if rig.wants_values => drop(rig.connect_values()),
        Event::Values(behind) => {
            let asked = rig.told_values().iter().filter(|command| command.starts_with("DUMP")).count();
            if let (Some((id, _, read)), 1..) = (rig.machine.upstream_position(), asked) {
                rig.give_values(id.as_str(), read + behind, &vec![Some("v"); asked]);
            }
        }
        Event::Disk(busy, full, broken) => {
            rig.disk_works();
            (rig.disk.busy, rig.disk.full, rig.disk.broken) = (*busy, *full, *broken);
        }
        Event::ValuesLost => rig.values_link().into_iter().for_each(|link| rig.lose_values(link)),
        Event::Probed(n) => at(*n, links).into_iter().for_each(|link| rig.handle(Input::Probed(link, None))),
    }
}

/// What holds at every moment.
fn in_order(rig: &Rig) {
    if let Some((_, applied, read)) = rig.machine.upstream_position() {
        assert!(applied <= read, "{applied} applied of {read}");
        for view in rig.machine.views().iter().filter(|view| view.relays() && *view.state() == State::Live) {
            assert_eq!(view.backlog().end(), read, "a relaying view stands where its primary stands");
        }
    }
    for (link, replica) in rig.machine.replicas() {
        let backlog = rig.machine.views()[replica.view].backlog();
        if replica.phase == Phase::Streaming {
            assert!((backlog.oldest()..=backlog.end()).contains(&replica.cursor), "{link:?} is at {}", replica.cursor);
        }
        if replica.phase.is_replica() {
            assert!(replica.acked <= replica.cursor);
            assert!(
                *rig.machine.views()[replica.view].state() == State::Live,
                "{link:?} follows a view that is closed"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_order_of_events_breaks_the_machines_own(events in vec(event(), 1..120), attached in any::<bool>(), ships in any::<bool>()) {
        let mut settings = [ViewSettings::new("all"), ViewSettings::new("some")];
        settings.iter_mut().for_each(|view| (view.backlog_bytes, view.backlog_disk_bytes) = (100_000, 300_000));
        let mut rig = Rig::new(settings.to_vec(), vec![None, Some(Box::new(Filter))]);
        rig.ships_itself = ships;
        if attached {
            rig.attach(A, 100);
        }
        let mut links = Vec::new();
        for event in &events {
            happens(&mut rig, &mut links, event);
            in_order(&rig);
        }
        rig.handle(Input::Shutdown);
        in_order(&rig);
    }
}
