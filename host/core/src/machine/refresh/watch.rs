//! Places of the stream that a newer snapshot may stand for.
//!
//! The snapshot comes on a connection of its own, which says where it stands: behind so many bytes of the history. Our own
//! stream may be behind that place or beyond it by then. In a primary's stream the command right behind it is a SELECT, a
//! MULTI, a PING or a REPLCONF, because the primary makes its replicas select their database anew; so until the place is
//! known the views' places are noted before each of these, and at the end of each read.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::command::{Class, Service, Table};
use crate::frame::{Frame, Frames};
use crate::limits;
use crate::view::View;

/// A place of the upstream's history, and where it lies in each view, with the database that is selected there.
#[derive(Debug)]
pub(in crate::machine) struct Mark {
    pub(super) upstream: u64,
    pub(super) places: Vec<Option<(u64, u32)>>,
}

impl Mark {
    fn new(upstream: u64, views: &[View]) -> Self {
        Self { upstream, places: views.iter().map(|view| view.place(upstream)).collect() }
    }
}

/// What is looked out for.
#[derive(Debug, Default)]
pub(in crate::machine) enum Watch {
    #[default]
    Nothing,
    /// Every place that a snapshot can stand for: the latest.
    Any(VecDeque<Mark>),
    /// This place, until it is found.
    For(u64, Option<Mark>),
}

impl Watch {
    /// One past the last of the frames from `from` on that need no look at the views in between.
    #[inline]
    pub(in crate::machine) fn cut(&self, table: &Table, frames: &Frames<'_>, from: usize) -> usize {
        let all = frames.frames.len();
        let behind = frames.frames.iter().enumerate().skip(from + 1);
        let begins = |frame: &Frame| frames.offset + u64::from(frame.start);
        let next = match self {
            Self::Nothing | Self::For(_, Some(_)) => return all,
            Self::Any(_) => behind.into_iter().find(|(_, frame)| may_follow_a_snapshot(table, frame)),
            Self::For(place, None) => behind.into_iter().find(|(_, frame)| begins(frame) >= *place),
        };
        next.map_or(all, |(index, _)| index)
    }

    /// The stream stands at `upstream`, outside any transaction.
    #[inline]
    pub(in crate::machine) fn pass(&mut self, upstream: u64, views: &[View]) {
        match self {
            Self::Any(marks) => {
                marks.pop_back_if(|last| last.upstream == upstream);
                if marks.len() >= limits::REFRESH_MARKS_MAX {
                    marks.pop_front();
                }
                marks.push_back(Mark::new(upstream, views));
            }
            Self::For(place, found @ None) if *place == upstream => *found = Some(Mark::new(upstream, views)),
            _ => {}
        }
    }

    /// The place is known: `false` if the stream, which stands at `upstream`, has passed it and nobody looked.
    pub(super) fn aim(&mut self, place: u64, upstream: u64) -> bool {
        let marks = match core::mem::take(self) {
            Self::Any(marks) => marks,
            _ => VecDeque::new(),
        };
        let found = marks.into_iter().find(|mark| mark.upstream == place);
        let known = found.is_some() || place > upstream;
        if known {
            *self = Self::For(place, found);
        }
        known
    }

    /// From where on a view's stream may be needed by those who begin at the snapshot.
    pub(in crate::machine) fn needed_from(&self, view: usize) -> Option<u64> {
        let mut marks = match self {
            Self::Nothing => return None,
            Self::Any(marks) => marks.iter(),
            Self::For(_, found) => {
                return found.as_ref()?.places.get(view).copied().flatten().map(|(offset, _)| offset);
            }
        };
        marks.find_map(|mark| mark.places.get(view).copied().flatten()).map(|(offset, _)| offset)
    }

    /// The stream, which stands at `upstream`, outside any transaction, has no such place.
    pub(super) fn is_passed(&self, upstream: u64) -> bool {
        matches!(self, Self::For(place, None) if *place < upstream)
    }

    /// What the stream has behind `upstream` is no longer what it was when the place was told.
    pub(super) fn is_cut_off(&self, upstream: u64) -> bool {
        matches!(self, Self::For(place, None) if *place > upstream)
    }
}

fn may_follow_a_snapshot(table: &Table, frame: &Frame) -> bool {
    frame.command.is_some_and(|id| match table.row(id).class {
        Class::Service(service) => service != Service::Exec,
        _ => false,
    })
}
