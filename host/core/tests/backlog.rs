//! Stories about a backlog and its log: whatever is appended, dropped and taken back, what can be read is what was said.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use sluicegate_core::backlog::{Backlog, Order};
use sluicegate_core::fault::{Fault, Party};
use sluicegate_core::rope::Rope;

/// A history, as it was said, and the disk.
struct Rig {
    backlog: Backlog,
    said: Vec<u8>,
    base: u64,
    life: u64,
    disk: Vec<(u64, Bytes)>,
    most: u64,
}

impl Rig {
    fn new(base: u64, memory: usize, disk: u64) -> Self {
        let backlog = Backlog::with_log(base, memory, disk);
        Self { backlog, said: Vec::new(), base, life: 0, disk: Vec::new(), most: disk }
    }

    fn append(&mut self, bytes: usize) {
        let mut rope = Rope::default();
        let first = self.said.len();
        self.said.extend((first..first + bytes).map(|n| (n * 7 + n / 251) as u8));
        rope.write(&self.said[first..]);
        self.backlog.append(&mut rope);
        self.obey();
    }

    fn truncate(&mut self, offset: u64) {
        self.said.truncate((offset - self.base) as usize);
        self.backlog.truncate(offset);
        self.obey();
    }

    fn restart(&mut self, offset: u64) {
        (self.said, self.base) = (Vec::new(), offset);
        self.backlog.restart(offset);
        self.obey();
    }

    /// The disk does what it is told.
    fn obey(&mut self) {
        while let Some((life, order)) = self.backlog.log_order() {
            assert!(life >= self.life, "a log that was left is spoken of again");
            if life > self.life {
                assert!(self.disk.is_empty(), "what was left is still there");
                self.life = life;
            }
            match order {
                Order::Write(offset, bytes) => {
                    let end = self.disk.last().map_or(offset, |(start, bytes)| start + bytes.len() as u64);
                    assert!(end <= offset && !bytes.is_empty());
                    self.backlog.log_written(life, bytes.len());
                    self.disk.push((offset, bytes));
                }
                Order::Drop(before) => self.disk.retain(|(start, bytes)| start + bytes.len() as u64 > before),
                Order::Reset => self.disk.clear(),
            }
        }
    }

    /// Every byte of what is there, from the log and from memory.
    fn check(&self) {
        let (oldest, start, end) = (self.backlog.oldest(), self.backlog.start(), self.backlog.end());
        assert!(oldest <= start && start <= end, "{oldest} ≤ {start} ≤ {end}");
        assert_eq!(end, self.base + self.said.len() as u64);
        assert!(self.backlog.log().bytes() <= self.most);
        assert_eq!(self.backlog.log().unwritten(), 0);
        let mut at = oldest;
        while at < end {
            let bytes = match self.backlog.read(at, 100) {
                Some(bytes) => bytes,
                None => {
                    let holds = |(from, bytes): &&(u64, Bytes)| (*from..from + bytes.len() as u64).contains(&at);
                    let (from, bytes) = self.disk.iter().find(holds).expect("it is on disk");
                    bytes.slice((at - from) as usize..bytes.len().min((start - from) as usize))
                }
            };
            let from = (at - self.base) as usize;
            assert_eq!(bytes, &self.said[from..from + bytes.len()]);
            at += bytes.len() as u64;
        }
        // A log of which files go as a whole holds a little more than its budget.
        let held: u64 = self.disk.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let piece = self.disk.iter().map(|(_, bytes)| bytes.len() as u64).max().unwrap_or(0);
        assert!(held <= self.most + self.most / 16 + piece, "{held} bytes on disk");
    }
}

#[derive(Debug, Clone)]
enum Event {
    Append(usize),
    /// So many bytes before the end.
    Needed(u64),
    Truncate(u64),
    Restart(u64),
    Fail,
    Anew,
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => (1usize..400).prop_map(Event::Append),
        2 => (400usize..5_000).prop_map(Event::Append),
        6 => (0u64..6_000).prop_map(Event::Needed),
        2 => (0u64..900).prop_map(Event::Truncate),
        1 => (0u64..900).prop_map(Event::Restart),
        1 => Just(Event::Fail),
        1 => Just(Event::Anew),
        1 => Just(Event::Close),
    ]
}

proptest! {
    #[test]
    fn what_can_be_read_is_what_was_said(events in vec(event(), 1..200), base in 0u64..1000, disk in prop::sample::select(vec![0u64, 1_000, 5_000])) {
        let mut rig = Rig::new(base, 1_000, disk);
        for event in events {
            let end = rig.backlog.end();
            match event {
                Event::Append(bytes) => rig.append(bytes),
                Event::Needed(behind) => rig.backlog.needed_from(end.saturating_sub(behind).max(rig.base)),
                Event::Truncate(behind) => rig.truncate(end.saturating_sub(behind).max(rig.base)),
                Event::Restart(offset) => rig.restart(offset),
                Event::Fail => drop(rig.backlog.log_failed(rig.backlog.log().life(), &Fault::new(Party::Own, "disk"))),
                Event::Anew => rig.backlog.log_anew(),
                Event::Close => rig.backlog.close_log(),
            }
            rig.obey();
            rig.check();
        }
    }
}

#[test]
fn all_that_is_needed_stays_as_long_as_the_budget_lasts() {
    let mut rig = Rig::new(10, 1_000, 5_000);
    (0..40).for_each(|_| rig.append(100));
    assert_eq!(rig.backlog.oldest(), 10, "nobody has said that it is not");
    rig.backlog.needed_from(2_010);
    rig.obey();
    assert_eq!(rig.backlog.oldest(), 2_010);
    assert!(rig.disk.iter().all(|(start, _)| *start >= 2_010));
    (0..100).for_each(|_| rig.append(100));
    assert_eq!(rig.backlog.start() - rig.backlog.oldest(), 5_000, "the oldest goes");
    rig.backlog.needed_from(rig.backlog.end());
    rig.obey();
    assert!(rig.disk.is_empty() && rig.backlog.oldest() == rig.backlog.start());
    for _ in 0..20 {
        rig.append(100);
        rig.backlog.needed_from(rig.backlog.end());
    }
    assert!(rig.disk.is_empty(), "nobody needs what the memory lets go");
}

#[test]
fn reports_of_an_earlier_history_say_nothing_of_this_one() {
    let mut backlog = Backlog::with_log(0, 100, 1_000);
    let mut rope = Rope::default();
    let fill = |backlog: &mut Backlog, rope: &mut Rope| {
        for _ in 0..5 {
            rope.write(&[1; 90]);
            backlog.append(rope);
        }
    };
    fill(&mut backlog, &mut rope);
    let old = backlog.log().life();
    backlog.restart(7);
    fill(&mut backlog, &mut rope);
    let waits = backlog.log().unwritten();
    assert!(waits > 0 && backlog.oldest() == 7);
    backlog.log_written(old, waits);
    assert!(!backlog.log_failed(old, &Fault::new(Party::Own, "disk")));
    assert_eq!((backlog.log().unwritten(), backlog.oldest()), (waits, 7));
    let life = backlog.log().life();
    assert!(backlog.log_failed(life, &Fault::new(Party::Own, "disk")) && backlog.log().fault().is_some());
    assert_eq!((backlog.log().unwritten(), backlog.oldest()), (0, backlog.start()));
}
