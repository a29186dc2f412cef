//! The room that snapshots may take up in the data directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Something that can be done without, and made again.
pub(super) trait Spare: Send + Sync {
    /// Gives up what was not used for the longest time; `false` if there is nothing to be given up.
    fn give_up(&self) -> bool;
}

/// Counts what snapshots take up.
pub(super) struct Quota {
    dir: PathBuf,
    bytes: u64,
    used: Mutex<u64>,
    spare: OnceLock<Weak<dyn Spare>>,
}

impl Quota {
    pub(super) fn new(dir: PathBuf, bytes: u64) -> Arc<Self> {
        Arc::new(Self { dir, bytes, used: Mutex::new(0), spare: OnceLock::new() })
    }

    /// Where room comes from when there is none left.
    pub(super) fn spare(&self, spare: Weak<dyn Spare>) {
        // There is one such place.
        let _ = self.spare.set(spare);
    }

    /// A claim to nothing yet.
    pub(super) fn claim(self: &Arc<Self>) -> Claim {
        Claim { quota: self.clone(), bytes: Mutex::new(0) }
    }

    fn take(&self, bytes: u64) -> bool {
        let mut used = locked(&self.used);
        let fits = used.checked_add(bytes).filter(|sum| *sum <= self.bytes);
        if let Some(sum) = fits {
            *used = sum;
        }
        fits.is_some()
    }
}

/// What one file takes up. Given back when it is dropped.
pub(super) struct Claim {
    quota: Arc<Quota>,
    bytes: Mutex<u64>,
}

impl Claim {
    /// Claims more.
    ///
    /// # Errors
    /// There is no room, even if everything goes that can be made again; in words for the operator.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), String> {
        while !self.quota.take(bytes) {
            let spare = self.quota.spare.get().and_then(Weak::upgrade);
            if !spare.is_some_and(|spare| spare.give_up()) {
                let (dir, used) = (self.quota.dir.display(), *locked(&self.quota.used));
                let limit = self.quota.bytes;
                return Err(format!(
                    "snapshots in {dir} may take up {limit} bytes (snapshot.disk): {used} are taken, and {bytes} more do not fit"
                ));
            }
        }
        *locked(&self.bytes) += bytes;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *locked(&self.quota.used) -= *locked(&self.bytes);
    }
}

/// Why a file of the data directory cannot be written, in words for the operator.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> String {
    let dir = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("there is no room left on the disk of {dir} (server.data_dir): {error}")
        }
        _ => format!("cannot write {}: {error}", path.display()),
    }
}

fn locked(count: &Mutex<u64>) -> MutexGuard<'_, u64> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims that can be given up.
    struct Shelf(Mutex<Vec<Claim>>);

    impl Spare for Shelf {
        fn give_up(&self) -> bool {
            self.0.lock().expect("no test panics here").pop().is_some()
        }
    }

    #[test]
    fn what_can_be_made_again_goes_first_and_then_nothing_more_fits() {
        let quota = Quota::new("/data".into(), 100);
        let (spool, product, next) = (quota.claim(), quota.claim(), quota.claim());
        assert_eq!(spool.grow(60), Ok(()));
        assert_eq!(product.grow(40), Ok(()));
        let shelf = Arc::new(Shelf(Mutex::new(vec![product])));
        let place: Arc<dyn Spare> = shelf.clone();
        quota.spare(Arc::downgrade(&place));
        assert_eq!(next.grow(30), Ok(()), "the product is given up for it");
        assert!(shelf.0.lock().expect("no test panics here").is_empty());
        let why = next.grow(11).expect_err("10 are left");
        assert!(why.contains("snapshot.disk") && why.contains("90 are taken"), "{why}");
        assert!(next.grow(u64::MAX).is_err(), "whatever a peer says");
        assert_eq!(next.grow(10), Ok(()));
        drop(spool);
        assert_eq!(next.grow(60), Ok(()));
    }
}
