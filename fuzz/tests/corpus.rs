//! Every input that once led the fuzzer somewhere new, lies made by hand, and the recorded snapshots of real servers: all hold
//! what must hold.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a directory, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.sort();
    files
}

/// Gives each file to `check`; where it panics, says with which file.
fn replay(files: &[PathBuf], check: fn(&[u8])) {
    for file in files {
        let bytes = fs::read(file).expect("a readable file");
        let held = std::panic::catch_unwind(|| check(&bytes));
        assert!(held.is_ok(), "{}: what must hold of it does not; why stands above", file.display());
    }
}

/// What the fuzzer found for `target`.
fn corpus(target: &str, at_least: usize) -> Vec<PathBuf> {
    let corpus = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target));
    assert!(corpus.len() >= at_least, "the corpus of {target} has {} files", corpus.len());
    corpus
}

/// Snapshots made by hand, small ones with what servers write each in their own way, and the recorded ones of real servers.
fn known() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut recorded = files(&here.join("../host/core/tests/rdb"));
    recorded.retain(|file| file.extension().is_some_and(|extension| extension == "rdb"));
    assert!(recorded.len() >= 8, "only {} recorded snapshots", recorded.len());
    [files(&here.join("handmade/snapshot")), files(&here.join("handmade/down")), recorded].concat()
}

#[test]
fn snapshots() {
    replay(&corpus("snapshot", 51), sluicegate_fuzz::snapshot);
    replay(&known(), sluicegate_fuzz::snapshot);
}

#[test]
fn snapshots_written_down() {
    replay(&corpus("down", 51), sluicegate_fuzz::down);
    replay(&corpus("snapshot", 51), sluicegate_fuzz::down);
    replay(&known(), sluicegate_fuzz::down);
}
