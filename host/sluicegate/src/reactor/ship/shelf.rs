//! The products that there are.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_core::contract::SpoolId;

use super::product::{Follow, Key, Maker, Product};
use super::{Stop, own};
use crate::reactor::quota::{Quota, Spare, cannot_write};
use crate::reactor::spool;

/// The products, whole or in the making.
pub(super) struct Shelf {
    dir: PathBuf,
    quota: Arc<Quota>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    products: Vec<Arc<Product>>,
    /// Requests so far: numbers the files, and says which product was asked for last.
    asked: u64,
}

impl Shelf {
    pub(super) fn new(dir: PathBuf, quota: Arc<Quota>) -> Arc<Self> {
        let shelf = Arc::new(Self { dir, quota, inner: Mutex::default() });
        let spare: Arc<dyn Spare> = shelf.clone();
        shelf.quota.spare(Arc::downgrade(&spare));
        shelf
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the product of this key. If there is none, one has to be made: by the [`Maker`] that comes back.
    pub(super) fn follow(self: &Arc<Self>, key: Key) -> Result<(Follow, Option<Maker>), Stop> {
        let mut inner = self.inner();
        inner.asked += 1;
        let asked = inner.asked;
        inner.products.retain(|product| product.is_sound());
        let there =
            inner.products.iter().filter(|product| product.key == key).find_map(|product| product.follow(asked));
        if let Some(follow) = there {
            return Ok((follow, None));
        }
        let path = spool::product_path(&self.dir, key.spool, key.view, asked);
        let file = spool::create(&path).map_err(|error| own(cannot_write(&path, &error)))?;
        let product = Product::new(key, path, file, self.quota.claim());
        let Some(follow) = product.follow(asked) else { return Err(own("a new product cannot be read".into())) };
        inner.products.push(product.clone());
        Ok((follow, Some(Maker::new(product, self.clone()))))
    }

    /// Products of other spools are of no use to new replicas. Ships under way read theirs to the end.
    pub(super) fn keep(&self, spools: &[SpoolId]) {
        self.inner().products.retain(|product| spools.contains(&product.key.spool));
    }

    /// It will never be whole.
    pub(super) fn forget(&self, product: &Arc<Product>) {
        self.inner().products.retain(|known| !Arc::ptr_eq(known, product));
    }
}

impl Spare for Shelf {
    fn give_up(&self) -> bool {
        let mut inner = self.inner();
        let idle = inner.products.iter().enumerate();
        let oldest = idle.filter_map(|(at, product)| Some((product.idle_since()?, at))).min();
        oldest.map(|(_, at)| inner.products.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::thread;

    use sluicegate_core::fault::{Fault, Party};
    use sluicegate_core::rdb::Head;

    use super::*;
    use crate::reactor::ship::Wanted;
    use crate::reactor::spool::BLOCK_BYTES;

    fn key(spool: u64) -> Key {
        let head = Head { repl_id: [b'a'; 40], repl_offset: 7, stream_db: 0 };
        Key { view: 3, spool: SpoolId(spool), head, target: None }
    }

    fn shelf() -> (tempfile::TempDir, Arc<Shelf>) {
        let dir = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(dir.path().into(), Quota::new(dir.path().into(), 20));
        (dir, shelf)
    }

    fn follow(shelf: &Arc<Shelf>, spool: u64) -> (Follow, Option<Maker>) {
        shelf.follow(key(spool)).unwrap_or_else(|stop| panic!("{}", Fault::from(stop)))
    }

    fn files(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).expect("the folder").count()
    }

    /// All that is left of it.
    fn rest(mut follow: Follow, wanted: &Wanted) -> Result<Vec<u8>, Stop> {
        let mut all = Vec::new();
        while let Some(piece) = follow.next(3, wanted)? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[test]
    fn who_comes_late_gets_the_same_bytes_from_one_walk() {
        let (dir, shelf) = shelf();
        let (_wanting, wanted) = Wanted::new();
        let (mut first, maker) = follow(&shelf, 1);
        let mut maker = maker.unwrap_or_else(|| panic!("the first one begins a walk"));
        maker.write(b"hello ").unwrap_or_else(|_| panic!("written"));
        assert!(first.next(100, &wanted).is_ok_and(|piece| piece.as_deref() == Some(b"hello ")), "it is not whole yet");
        assert_eq!(first.known_length(), None);
        let (second, none) = follow(&shelf, 1);
        assert!(none.is_none(), "and no second walk");
        let (_other, other) = follow(&shelf, 2);
        assert!(other.is_some(), "another snapshot is another product");
        let ends = thread::spawn(move || {
            maker.write(b"world").unwrap_or_else(|_| panic!("written"));
            maker.end(Ok(()));
        });
        assert!(rest(first, &wanted).is_ok_and(|rest| rest == b"world"));
        assert!(second.length(&wanted).is_ok_and(|length| length == 11));
        assert!(rest(second, &wanted).is_ok_and(|all| all == b"hello world"));
        ends.join().expect("it ends");
        let (late, none) = follow(&shelf, 1);
        assert!(none.is_none());
        shelf.keep(&[SpoolId(2)]);
        assert_eq!(files(&dir), 2, "who reads it reads it to its end");
        assert!(rest(late, &wanted).is_ok_and(|all| all == b"hello world"));
        assert_eq!(files(&dir), 1);
        assert!(shelf.follow(key(1)).is_ok_and(|(_, maker)| maker.is_some()));
    }

    #[test]
    fn a_walk_for_nobody_stops_and_leaves_nothing() {
        let (dir, shelf) = shelf();
        let (first, maker) = follow(&shelf, 1);
        let maker = maker.unwrap_or_else(|| panic!("a walk"));
        drop(first);
        assert!(matches!(maker.check_wanted(), Err(Stop::Cancelled)));
        let (_second, again) = follow(&shelf, 1);
        assert!(again.is_some_and(|again| again.check_wanted().is_ok()), "what is given up is not gone on with");
        maker.end(Err(Stop::Cancelled.into()));
        assert_eq!(files(&dir), 1);
    }

    #[test]
    fn a_walk_that_fails_fails_all_that_follow_and_is_forgotten() {
        let (dir, shelf) = shelf();
        let (_wanting, wanted) = Wanted::new();
        let (first, maker) = follow(&shelf, 1);
        let (second, _) = follow(&shelf, 1);
        let mut maker = maker.unwrap_or_else(|| panic!("a walk"));
        maker.write(b"hel").unwrap_or_else(|_| panic!("written"));
        maker.end(Err(Fault::new(Party::Own, "the disk is gone")));
        for follow in [first, second] {
            let why = rest(follow, &wanted);
            assert!(matches!(why, Err(Stop::Fault(fault)) if fault.whose == Party::Own && fault.what.contains("disk")));
        }
        assert_eq!(files(&dir), 0);
        // One whose thread dies has failed, too.
        let (third, maker) = follow(&shelf, 1);
        assert!(maker.is_some());
        drop(maker);
        assert!(matches!(rest(third, &wanted), Err(Stop::Fault(_))));
    }

    #[test]
    fn a_ship_that_is_called_back_does_not_wait_for_its_product() {
        let (_dir, shelf) = shelf();
        let (wanting, wanted) = Wanted::new();
        let (mut follow, maker) = follow(&shelf, 1);
        let waits = thread::spawn(move || matches!(follow.next(1, &wanted), Err(Stop::Cancelled)));
        drop(wanting);
        assert!(waits.join().expect("it ends"));
        assert!(maker.is_some_and(|maker| maker.check_wanted().is_err()), "and nobody follows any more");
    }

    #[test]
    fn whole_products_that_nobody_reads_make_room_the_oldest_first() {
        let (dir, shelf) = shelf();
        let make = |spool: u64| {
            let (follow, maker) = follow(&shelf, spool);
            let mut maker = maker.unwrap_or_else(|| panic!("a walk"));
            let outcome = maker.write(b"8 bytes.").map_err(Fault::from);
            maker.end(outcome.clone());
            outcome.map(|()| follow)
        };
        let is_there = |spool: u64| follow(&shelf, spool).1.is_none();
        for spool in [1, 2] {
            assert!(make(spool).is_ok());
        }
        assert!(is_there(1), "and is the newer one by that");
        assert!(make(3).is_ok(), "there is room for two");
        assert!(is_there(1) && is_there(3) && !is_there(2));
        let read = [follow(&shelf, 1), follow(&shelf, 3)];
        let why = make(4).err().map(|fault| fault.what).unwrap_or_default();
        assert!(why.contains("snapshot.disk"), "who is read does not go: {why}");
        assert_eq!(files(&dir), 2);
        drop(read);
        assert!(make(4).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_not_gone_on_with_and_is_given_to_nobody_else() {
        let (dir, shelf) = shelf();
        let (_wanting, wanted) = Wanted::new();
        let (mut first, maker) = follow(&shelf, 1);
        let mut maker = maker.unwrap_or_else(|| panic!("a walk"));
        maker.write(b"hello").unwrap_or_else(|_| panic!("written"));
        let file = fs::read_dir(dir.path()).expect("the folder").next().expect("the product").expect("an entry");
        fs::File::options().write(true).open(file.path()).and_then(|file| file.set_len(0)).expect("damage");
        assert!(matches!(first.next(5, &wanted), Err(Stop::Fault(fault)) if fault.whose == Party::Own));
        assert!(maker.check_wanted().is_err(), "the rest of it is made for nobody");
        // Its walk may have been at its end.
        maker.end(Ok(()));
        assert!(shelf.follow(key(1)).is_ok_and(|(_, maker)| maker.is_some()), "another one is made");
    }

    #[test]
    fn what_the_disk_changes_of_a_product_goes_to_nobody_and_is_made_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(dir.path().into(), Quota::new(dir.path().into(), u64::MAX));
        let (_wanting, wanted) = Wanted::new();
        let said: Vec<u8> = (0..300_000).map(|at| (at % 251) as u8).collect();
        for at in [0, 131_072, 299_999] {
            let (mut early, maker) = follow(&shelf, 1);
            let mut maker = maker.unwrap_or_else(|| panic!("what is damaged is made again"));
            let mut got = Vec::new();
            for piece in said.chunks(7_001) {
                maker.write(piece).unwrap_or_else(|_| panic!("written"));
                let next = early.next(BLOCK_BYTES, &wanted).unwrap_or_else(|stop| panic!("{}", Fault::from(stop)));
                got.extend_from_slice(&next.expect("more"));
            }
            maker.end(Ok(()));
            while let Ok(Some(piece)) = early.next(BLOCK_BYTES, &wanted) {
                got.extend_from_slice(&piece);
            }
            assert!(got == said, "who follows at once has it all");
            let file = fs::read_dir(dir.path()).expect("the folder").next().expect("the product").expect("an entry");
            let file = fs::File::options().write(true).open(file.path()).expect("the product");
            file.write_all_at(&[!said[at as usize]], at).expect("damage");
            let (mut late, none) = follow(&shelf, 1);
            assert!(none.is_none());
            let mut sound = Vec::new();
            let why = loop {
                match late.next(1_000, &wanted) {
                    Ok(piece) => sound.extend_from_slice(&piece.expect("no end before the damage")),
                    Err(stop) => break Fault::from(stop),
                }
            };
            assert!(said.starts_with(&sound) && sound.len() as u64 <= at, "byte {at}: {} bytes", sound.len());
            assert!(why.whose == Party::Own && why.what.contains("is not what was written there"), "{why}");
        }
    }
}
