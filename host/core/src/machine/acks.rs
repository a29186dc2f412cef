//! What the primary is told of how far we are: never more than what every view's replicas can have.

use alloc::vec::Vec;

use super::Machine;
use crate::command::{Class, Service, Table};
use crate::frame::Frames;
use crate::resp;
use crate::upstream::Phase;
use crate::view::View;

impl Machine {
    /// Acknowledges what is applied.
    pub(super) fn acknowledge(&mut self) {
        let mut out = Vec::new();
        match (self.upstream.phase(), &self.follow) {
            (Phase::Streaming, Some(follow)) => {
                let held = held_back_from(&self.views);
                self.ack_owed.take_if(|owed| held.is_none_or(|held| held >= *owed));
                write_ack(&mut out, held.map_or(follow.applied, |held| held.min(follow.applied)));
            }
            // A replica that loads says so with newlines.
            (Phase::Copying(_) | Phase::Verifying, _) => out.push(b'\n'),
            _ => return,
        }
        self.up_out.push_copy(&out);
    }
}

/// What every view's replicas can have, where a view holds more back.
pub(super) fn held_back_from(views: &[View]) -> Option<u64> {
    views.iter().filter_map(View::holds_back_from).min()
}

/// Follows SELECT, MULTI and EXEC, and answers GETACK. An offset comes back if the primary waits for it and was answered less,
/// because a view holds back what is behind `held`.
pub(super) fn serve_frames(
    table: &Table,
    frames: &Frames<'_>,
    (applied, applied_db, db, in_transaction): &mut (u64, u32, u32, bool),
    held: Option<u64>,
    out: &mut Vec<u8>,
) -> Option<u64> {
    let mut owed = None;
    for frame in frames.frames {
        let Some(Class::Service(service)) = frame.command.map(|id| table.row(id).class) else { continue };
        let start = frames.offset + u64::from(frame.start);
        match service {
            Service::Select => {
                if let Some(selected) = resp::decimal(frames.span(frame.key)).and_then(|db| u32::try_from(db).ok()) {
                    *db = selected;
                }
            }
            Service::Multi if !*in_transaction => (*applied, *applied_db, *in_transaction) = (start, *db, true),
            Service::Exec => *in_transaction = false,
            // A replica answers with what it had applied before the question itself.
            Service::GetAck => {
                let read = if *in_transaction { *applied } else { start };
                if held.is_some_and(|held| held < read) {
                    owed = Some(read);
                }
                write_ack(out, held.map_or(read, |held| held.min(read)));
            }
            _ => {}
        }
    }
    if let Some(last) = frames.frames.last().filter(|_| !*in_transaction) {
        (*applied, *applied_db) = (frames.offset + u64::from(last.end), *db);
    }
    owed
}

pub(super) fn write_ack(out: &mut Vec<u8>, offset: u64) {
    let mut digits = Vec::new();
    resp::write_decimal(&mut digits, offset);
    resp::write_command(out, &[b"REPLCONF", b"ACK", &digits]);
}
