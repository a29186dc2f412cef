//! Does a replica hold exactly the view of its primary? Asked of both servers with commands that only read, while writes go on.
//!
//! Every key of the primary is shown to the view's plugins; for those that it keeps, `DUMP` and expiry of both servers are
//! compared, and where `DUMP`s differ, which they do for equal values in other encodings, all that the type's commands tell.
//! What looks different is only a suspicion, see [`suspects`].
//!
//! A large value is folded while it comes and never held. Memory grows by the 16 bytes of a fingerprint (some 40 in their
//! table) for each kept key of one database, and by the names of the fields of one hash,
//! where fields can expire, or of the members of one vector set.

mod details;
pub(crate) mod elements;
mod functions;
mod reading;
mod report;
mod server;
mod stream;
mod suspects;
mod verdict;
mod view;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub(crate) use report::Findings;
pub(crate) use view::View;

use reading::Glance;
use server::{Features, Server, trouble};
use suspects::Suspect;
use verdict::Rules;
use view::Kept;

use crate::client::Address;

/// Keys that a server is asked for at once.
const PAGE: usize = 512;
/// Bytes of `DUMP`s that one transaction should bring: a server holds the whole answer in its memory.
const BATCH_BYTES: usize = 1024 * 1024;
/// Suspicions that are held at once.
const SUSPECTS_MAX: usize = 1000;
/// How far an expiry may be from that of a primary which sends it as a time that is left. Milliseconds.
const RELATIVE_EXPIRY_MS: i64 = 1000;

/// What is to be compared, and how.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) primary: Address,
    pub(crate) replica: Address,
    /// How long a difference must stand.
    pub(crate) wait: Duration,
    /// At how many differences to leave it.
    pub(crate) max_differences: usize,
    /// `None`: all.
    pub(crate) database: Option<u32>,
    /// Whether differences that servers are known to make are told apart.
    pub(crate) known_faults: bool,
}

/// Both servers.
struct Pair {
    primary: Server,
    replica: Server,
    /// What both have.
    common: Features,
    rules: Rules,
    /// The primary's history when we began.
    history: String,
}

impl Pair {
    fn open(order: &Order) -> anyhow::Result<Self> {
        let (primary, replica) = (Server::open(&order.primary)?, Server::open(&order.replica)?);
        let common = Features {
            since_7: primary.has.since_7 && replica.has.since_7,
            field_expiry: primary.has.field_expiry && replica.has.field_expiry,
        };
        let expiry_ms = if primary.has.since_7 { 0 } else { RELATIVE_EXPIRY_MS };
        let rules = Rules { expiry_ms, known_faults: order.known_faults };
        let history = primary.fence.history.clone();
        Ok(Self { primary, replica, common, rules, history })
    }

    /// Keys of one history cannot be compared with those of another.
    fn check_history(&self) -> anyhow::Result<()> {
        match self.primary.fence.history == self.history {
            true => Ok(()),
            false => Err(trouble(format!("{} has begun another history: compare again", self.primary.who))),
        }
    }
}

/// A comparison under way.
struct Comparison<'a> {
    order: &'a Order,
    view: &'a mut View,
    pair: Pair,
    suspects: Vec<Suspect>,
    findings: Findings,
    /// How many keys to read at once, by what the last ones weighed.
    batch: usize,
    progress: &'a mut dyn FnMut(&Findings),
}

/// Compares.
///
/// # Errors
/// A server cannot be reached, or does not allow what has to be asked; a plugin failed.
pub(crate) fn run(order: &Order, view: &mut View, progress: &mut dyn FnMut(&Findings)) -> anyhow::Result<Findings> {
    let pair = Pair::open(order)?;
    let (suspects, findings) = (Vec::new(), Findings::default());
    let mut comparison = Comparison { order, view, pair, suspects, findings, batch: 1, progress };
    comparison.note_replica();
    let databases: BTreeSet<u32> = match order.database {
        Some(db) => [db].into(),
        None => {
            [comparison.pair.primary.databases()?, comparison.pair.replica.databases()?].concat().into_iter().collect()
        }
    };
    comparison.findings.databases = databases.len();
    for db in databases {
        comparison.database(db)?;
    }
    comparison.settle()?;
    comparison.functions()?;
    Ok(comparison.findings)
}

impl Comparison<'_> {
    fn note_replica(&mut self) {
        let fence = &self.pair.replica.fence;
        if fence.role != "slave" {
            let who = &self.pair.replica.who;
            self.findings.notes.push(format!("{who} is not a replica: its role is `{}`", fence.role));
        } else if !fence.is_up {
            self.findings.notes.push(format!("{} has lost its link to its primary", self.pair.replica.who));
        }
        if self.pair.rules.expiry_ms > 0 {
            let note =
                "expiries are compared to the second: the primary is older than 7.0 and sends them as times left";
            self.findings.notes.push(note.into());
        }
        if self.pair.primary.has.field_expiry != self.pair.common.field_expiry {
            let note = "expiries of hash fields are not compared: the replica does not know them";
            self.findings.notes.push(note.into());
        }
    }

    fn is_full(&self) -> bool {
        self.findings.of_interest() >= self.order.max_differences
    }

    /// What the primary has in a database, and then what only the replica has.
    fn database(&mut self, db: u32) -> anyhow::Result<()> {
        let mut expected = HashSet::new();
        self.scan(db, false, |comparison, keys| {
            let mut kept = comparison.view.keep(db, &keys)?;
            // A scan may show a key more than once.
            kept.retain(|kept| expected.insert(fingerprint(&kept.name)));
            comparison.findings.keys += kept.len() as u64;
            comparison.glance(db, kept)
        })?;
        self.scan(db, true, |comparison, mut names| {
            names.retain(|name| !expected.contains(&fingerprint(name)));
            let originals = comparison.view.originals(db, &names)?;
            let suspects = originals.into_iter().zip(names).map(|(key, name)| Suspect::named(db, key, name));
            comparison.suspects.extend(suspects);
            comparison.settle_if_many()
        })
    }

    /// Goes through all keys of a server.
    fn scan(
        &mut self,
        db: u32,
        is_replica: bool,
        mut page: impl FnMut(&mut Self, Vec<Vec<u8>>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut cursor = b"0".to_vec();
        while !self.is_full() {
            let server = if is_replica { &mut self.pair.replica } else { &mut self.pair.primary };
            server.select(db)?;
            let (next, keys) = server.scan(&cursor, PAGE)?;
            cursor = next;
            page(self, keys)?;
            (self.progress)(&self.findings);
            if cursor == b"0" {
                break;
            }
        }
        Ok(())
    }

    /// Looks at kept keys for the first time.
    fn glance(&mut self, db: u32, mut kept: Vec<Kept>) -> anyhow::Result<()> {
        while !kept.is_empty() && !self.is_full() {
            let rest = kept.split_off(self.batch.min(kept.len()));
            let keys: Vec<&[u8]> = kept.iter().map(|kept| kept.key.as_slice()).collect();
            let names: Vec<&[u8]> = kept.iter().map(|kept| kept.name.as_slice()).collect();
            self.pair.primary.select(db)?;
            let (must, bytes) = reading::glance(&mut self.pair.primary, &keys)?;
            self.pair.check_history()?;
            self.pair.replica.select(db)?;
            let (is, _) = reading::glance(&mut self.pair.replica, &names)?;
            let tolerance = self.pair.rules.expiry_ms;
            let agree = |(must, is): &(&Option<Glance>, &Option<Glance>)| Glance::agree(must, is, tolerance);
            let agreed: Vec<bool> = must.iter().zip(&is).map(|pair| agree(&pair)).collect();
            for (kept, _) in kept.into_iter().zip(agreed).filter(|(_, agreed)| !agreed) {
                self.suspects.push(Suspect::new(db, kept));
            }
            self.settle_if_many()?;
            self.batch = next_batch(self.batch, bytes);
            kept = rest;
        }
        Ok(())
    }

    /// Most suspicions are gone at the second look; if too many are not, they have to be settled before there are more.
    fn settle_if_many(&mut self) -> anyhow::Result<()> {
        if self.suspects.len() < SUSPECTS_MAX {
            return Ok(());
        }
        self.look_again()?;
        if self.suspects.len() > SUSPECTS_MAX / 2 { self.settle() } else { Ok(()) }
    }

    /// Until every suspicion is gone or has stood for long enough.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.look_again()?;
        while !self.suspects.is_empty() && !self.is_full() {
            suspects::pause();
            self.look_again()?;
        }
        Ok(())
    }

    fn look_again(&mut self) -> anyhow::Result<()> {
        let most = self.order.max_differences.saturating_sub(self.findings.of_interest());
        let found = suspects::look(&mut self.pair, &mut self.suspects, self.order.wait, most)?;
        self.findings.differences.extend(found);
        self.findings.is_partial |= self.is_full();
        Ok(())
    }

    fn functions(&mut self) -> anyhow::Result<()> {
        if self.view.decides_frames() {
            self.findings.notes.push("function libraries are left out: a plugin decides about them".into());
        } else if self.pair.common.since_7 && self.order.database.is_none() && !self.is_full() {
            let found = functions::compare(&mut self.pair, self.order.wait)?;
            self.findings.differences.extend(found);
        }
        Ok(())
    }
}

/// As many keys as would have weighed what a batch should; at most twice as many as before, for the next may be heavier.
fn next_batch(batch: usize, bytes: usize) -> usize {
    (batch * 2).min(batch * BATCH_BYTES / bytes.max(1)).clamp(1, PAGE)
}

fn fingerprint(name: &[u8]) -> u128 {
    elements::digest(Sha256::new_with_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_keys_come_in_small_batches() {
        assert_eq!(next_batch(1, 100), 2);
        assert_eq!(next_batch(PAGE, 100), PAGE);
        assert_eq!(next_batch(64, 16 * BATCH_BYTES), 4);
        assert_eq!(next_batch(1, usize::MAX), 1);
    }
}
