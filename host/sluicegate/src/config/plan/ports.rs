//! Which ports the views listen on: one for each shard, which may not be known before the primary has said how many it has.

use std::net::SocketAddr;
use std::ops::Range;

use super::{Plan, ViewPlan};
use crate::config::address::Ports;
use crate::config::report::{ConfigError, Problem};

/// Where a view listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listen {
    /// Index of the view.
    pub(super) view: usize,
    /// The address, with the first of its ports.
    pub(super) first: SocketAddr,
    /// Where the file says so.
    pub(super) place: Option<Range<usize>>,
}

impl Plan {
    /// Where to listen if the primary has so many shards: the index of a view, and ports, one for each shard of the view. No
    /// two of them clash.
    ///
    /// # Errors
    /// Some do, or there are not so many ports.
    pub(crate) fn ports(&self, primary_shards: usize) -> Result<Vec<(usize, Ports)>, ConfigError> {
        ports(&self.listen, &self.views, primary_shards)
            .map_err(|problems| ConfigError(self.text.render(&problems).concat()))
    }
}

pub(super) fn ports(
    listen: &[Listen],
    views: &[ViewPlan],
    primary_shards: usize,
) -> Result<Vec<(usize, Ports)>, Vec<Problem>> {
    let (mut taken, mut problems) = (Vec::<(usize, Ports)>::new(), Vec::new());
    for Listen { view, first, place } in listen {
        let shards = views.get(*view).and_then(|view| view.shards).unwrap_or(primary_shards);
        let mut wrong = |message| problems.push(Problem { span: place.clone(), message, is_warning: false });
        match Ports::new(*first, shards) {
            Ok(wanted) => {
                if let Some((_, other)) = taken.iter().find(|(_, other)| wanted.clash(*other)) {
                    wrong(format!("{wanted} clashes with {other} above"));
                }
                taken.push((*view, wanted));
            }
            Err(message) => wrong(message),
        }
    }
    if problems.is_empty() { Ok(taken) } else { Err(problems) }
}
