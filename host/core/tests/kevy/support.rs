//! What the stories about kevy share: a reader of the link that forgets how the bytes were cut.

use bytes::Bytes;
use sluicegate_core::command::Table;
use sluicegate_core::kevy::{Event, Scanner, WireError};
use std::sync::Arc;

/// A bound that no frame of most tests reaches.
pub(crate) const WIDE: usize = 1 << 20;

/// What was heard, without the cuts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Ack(Option<u64>, u64),
    Ping(u64, u64),
    Frame { offset: u64, command: Vec<u8>, args: Vec<Vec<u8>>, key: Vec<u8>, known: bool },
    Begin,
    Snapshot(Vec<u8>),
    End(u64),
}

/// A frame with a command of these words.
pub(crate) fn frame(offset: u64, words: &[&[u8]]) -> Heard {
    let mut command = Vec::new();
    sluicegate_core::resp::write_command(&mut command, words);
    let args: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
    let key = args.get(1).cloned().unwrap_or_default();
    Heard::Frame { offset, command, args, key, known: Table::builtin().find(words[0]).is_some() }
}

/// Reads `stream`, handed in as chunks of the sizes that `cuts` goes through again and again.
pub(crate) fn hear(stream: &[u8], cuts: &[usize], bound: usize) -> (Vec<Heard>, Option<WireError>) {
    let mut scanner = Scanner::new(Arc::new(Table::builtin()), bound);
    let (mut heard, mut at) = (Vec::new(), 0);
    let mut sizes = cuts.iter().cycle();
    while at < stream.len() {
        let end = at.saturating_add(sizes.next().copied().unwrap_or(usize::MAX).max(1)).min(stream.len());
        scanner.push(Bytes::copy_from_slice(&stream[at..end]));
        at = end;
        loop {
            match scanner.next() {
                Ok(Some(event)) => note(&mut heard, &event, stream),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(scanner.next().unwrap_err(), error, "an error stays");
                    return (heard, Some(error));
                }
            }
        }
        assert_eq!(scanner.position(), at as u64);
    }
    (heard, None)
}

fn note(heard: &mut Vec<Heard>, event: &Event<'_>, stream: &[u8]) {
    match event {
        Event::Ack { generation, offset } => heard.push(Heard::Ack(*generation, *offset)),
        Event::Ping { generation, next } => heard.push(Heard::Ping(*generation, *next)),
        Event::SnapshotBegin => heard.push(Heard::Begin),
        Event::SnapshotEnd(next) => heard.push(Heard::End(*next)),
        Event::Snapshot(piece) => {
            assert!(!piece.is_empty());
            match heard.last_mut() {
                Some(Heard::Snapshot(bytes)) => bytes.extend_from_slice(piece),
                _ => heard.push(Heard::Snapshot(piece.to_vec())),
            }
        }
        Event::Frames { first, frames } => {
            assert!((1..=512).contains(&frames.frames.len()));
            let mut spans = Vec::new();
            for (index, frame) in frames.frames.iter().enumerate() {
                let args = frames.args(frame, &mut spans);
                assert_eq!(args.len(), frame.argc as usize);
                let args: Vec<Vec<u8>> = args.iter_from(0).map(<[u8]>::to_vec).collect();
                let command = frames.bytes_of(frame).to_vec();
                let place = (frames.offset + u64::from(frame.start)) as usize;
                assert_eq!(&stream[place..place + command.len()], command, "the frame's place on the link");
                heard.push(Heard::Frame {
                    offset: first + index as u64,
                    command,
                    args,
                    key: frames.span(frame.key).to_vec(),
                    known: frame.command.is_some(),
                });
            }
        }
    }
}
