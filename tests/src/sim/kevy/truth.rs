//! What the shards of the primary held, one moment after the other, and where in that the replicas of a view stand.
//!
//! No key is in two shards of the primary. So what a replica's shard holds is right if, for each shard of the primary by
//! itself, the keys that come from there are those of some moment, and that moment only moves forward.

use sluicegate_core::kevy::route::{Routing, shard_of};

use super::keys::{Value, weight};
use super::lens::Lens;

/// How keys are routed.
pub const ROUTING: Routing = Routing::Hashtag;

/// What is seen of a shard of the primary in a shard of a view: the sums of its keys, whenever they changed.
#[derive(Debug, Default, Clone)]
struct Line {
    moments: Vec<u64>,
    now: u64,
}

/// All moments.
#[derive(Debug)]
pub struct Truth {
    /// The views and how many shards they have.
    pub views: Vec<(Lens, usize)>,
    /// How many shards the primary has.
    pub sources: usize,
    /// By shard of the primary, view, shard of the view.
    lines: Vec<Vec<Vec<Line>>>,
    /// Comparisons.
    pub compared: u64,
}

/// Where a replica stands: for each shard of the primary the sum of what it holds from there, and the earliest moment
/// that this can be.
#[derive(Debug, Clone, Default)]
pub struct Stand {
    sums: Vec<u64>,
    at: Vec<usize>,
}

impl Truth {
    /// Nothing is held anywhere.
    pub fn new(views: Vec<(Lens, usize)>, sources: usize) -> Self {
        let empty = Line { moments: vec![0], now: 0 };
        let of_views: Vec<Vec<Line>> = views.iter().map(|(_, shards)| vec![empty.clone(); *shards]).collect();
        Self { views, sources, lines: vec![of_views; sources], compared: 0 }
    }

    /// A key of shard `source` changes.
    pub fn touch(&mut self, source: usize, key: &[u8], before: Option<&Value>, after: Option<&Value>) {
        for ((lens, shards), lines) in self.views.iter().zip(&mut self.lines[source]) {
            if let Some(name) = lens.name(key) {
                let line = &mut lines[shard_of(&name, *shards, ROUTING)];
                line.now = line.now.wrapping_sub(weight(&name, before)).wrapping_add(weight(&name, after));
            }
        }
    }

    /// What shard `source` holds now is a moment.
    pub fn mark(&mut self, source: usize) {
        for line in self.lines[source].iter_mut().flatten() {
            if line.moments.last() != Some(&line.now) {
                line.moments.push(line.now);
            }
        }
    }

    /// A replica's stand before it has anything.
    pub fn stand(&self) -> Stand {
        Stand { sums: vec![0; self.sources], at: vec![0; self.sources] }
    }

    /// A replica's key changes.
    pub fn touched(
        &self,
        (view, shard): (usize, usize),
        stand: &mut Stand,
        name: &[u8],
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Result<(), String> {
        let (lens, shards) = self.views[view];
        let key = lens.name(name).ok_or_else(|| format!("the view hides {}", String::from_utf8_lossy(name)))?;
        if shard_of(name, shards, ROUTING) != shard {
            return Err(format!("{} does not belong into shard {shard}", String::from_utf8_lossy(name)));
        }
        let sum = &mut stand.sums[shard_of(&key, self.sources, ROUTING)];
        *sum = sum.wrapping_sub(weight(name, before)).wrapping_add(weight(name, after));
        Ok(())
    }

    /// Finds the moments at which the primary's shards held what a replica holds: none before those that it had.
    pub fn follow(&mut self, (view, shard): (usize, usize), stand: &mut Stand) -> Result<(), String> {
        self.compared += 1;
        for (source, (sum, at)) in stand.sums.iter().zip(&mut stand.at).enumerate() {
            let moments = &self.lines[source][view][shard].moments;
            let behind = moments[*at..].iter().position(|moment| moment == sum);
            *at += behind.ok_or_else(|| {
                format!("what it holds of shard {source} is of no moment from {at} on ({} in all)", moments.len())
            })?;
        }
        Ok(())
    }

    /// What is held is all new: any moment can be the first.
    pub fn anew(&self, stand: &mut Stand) {
        stand.at.fill(0);
    }

    /// Whether a replica holds what the primary holds now.
    pub fn is_now(&self, (view, shard): (usize, usize), stand: &Stand) -> bool {
        stand.sums.iter().enumerate().all(|(source, sum)| self.lines[source][view][shard].now == *sum)
    }
}
