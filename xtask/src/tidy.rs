//! House rules that no compiler knows, checked over the files that Git tracks or would track.

use std::fs;

use anyhow::{Result, bail};

use crate::sh;

/// Lines from which a file is named as growing, and above which it must be cut.
const LINES_LARGE: usize = 400;
const LINES_MAX: usize = 600;

/// Words that may not stand in any file, and why. In two halves, so that this file may hold them.
const BANNED: [(&str, &str, &str); 5] = [
    ("todo", "!(", "unfinished code does not land"),
    ("unimplemented", "!(", "unfinished code does not land"),
    ("dbg", "!(", "left over from debugging"),
    ("../sha", "red", "a path outside the repository"),
    ("/work/", "shared", "a path outside the repository"),
];

/// A file that Git tracks or would track.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// Checks all rules and tells every violation, not only the first.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut faults = Vec::new();
    for file in &files {
        faults.extend(banned_words(file));
        faults.extend(too_long(file));
        faults.extend(no_module_doc(file));
    }
    for fault in &faults {
        eprintln!("   {}", sh::red(fault));
    }
    if !faults.is_empty() {
        bail!("tidy: {} of the house rules broken in {} files checked", faults.len(), files.len());
    }
    Ok(())
}

/// The files of the work tree, without what is not text.
fn files() -> Result<Vec<File>> {
    let list = sh::output(sh::program("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let paths = list.split('\0').filter(|path| !path.is_empty());
    // A path that cannot be read as text is a binary, or deleted and not yet committed.
    let files = paths.filter_map(|path| {
        let text = fs::read_to_string(sh::root().join(path)).ok()?;
        Some(File { path: path.to_string(), text })
    });
    Ok(files.collect())
}

fn banned_words(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (head, tail, why) in BANNED {
            let word = format!("{head}{tail}");
            if line.contains(&word) {
                faults.push(format!("{}:{number}: `{word}`: {why}", file.path));
            }
        }
    }
    faults
}

fn too_long(file: &File) -> Option<String> {
    let in_host = file.path.starts_with("host/") && file.path.contains("/src/");
    if !(in_host || file.path.starts_with("plugins/")) || !file.path.ends_with(".rs") {
        return None;
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        return Some(format!("{}: {lines} lines; cut it: {LINES_MAX} is the limit", file.path));
    }
    if lines > LINES_LARGE {
        eprintln!("   {} {}: {lines} lines, above {LINES_LARGE}", sh::yellow("large:"), file.path);
    }
    None
}

/// The first line of a source file says what the file is for; crate attributes may stand before it.
fn no_module_doc(file: &File) -> Option<String> {
    let places = ["host/", "plugins/", "tests/src/", "xtask/src/", "bench/src/", "fuzz/"];
    if !places.iter().any(|place| file.path.starts_with(place)) || !file.path.ends_with(".rs") {
        return None;
    }
    let first = file.text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
    let missing = !first.is_some_and(|line| line.starts_with("//!"));
    missing.then(|| format!("{}: no `//!` line at the top says what the file is for", file.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_banned_word_is_told_with_its_line() {
        let faults = banned_words(&file("a.rs", &format!("fn a() {{\n    {}{}1);\n}}\n", "dbg", "!(")));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("a.rs:2: "), "{faults:?}");
        assert!(banned_words(&file("a.rs", "fn a() {}\n")).is_empty());
    }

    #[test]
    fn a_file_may_have_600_lines_and_no_more() {
        assert!(too_long(&file("host/core/src/a.rs", &"\n".repeat(LINES_MAX))).is_none());
        assert!(too_long(&file("host/core/src/a.rs", &"\n".repeat(LINES_MAX + 1))).is_some());
        assert!(too_long(&file("tests/tests/a.rs", &"\n".repeat(LINES_MAX + 1))).is_none());
    }

    #[test]
    fn a_source_file_begins_with_its_purpose() {
        assert!(no_module_doc(&file("xtask/src/a.rs", "#![no_std]\n\n//! Why.\n")).is_none());
        assert!(no_module_doc(&file("xtask/src/a.rs", "use std::fs;\n//! Late.\n")).is_some());
        assert!(no_module_doc(&file("xtask/src/a.rs", "")).is_some());
        assert!(no_module_doc(&file("examples/a.rs", "")).is_none());
    }
}
