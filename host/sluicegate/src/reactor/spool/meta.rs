//! What a spooled snapshot is, written down beside it: the next run of the program begins from it if the primary still has
//! what follows it.
//!
//! The text names a history and an offset, so it is written only when the snapshot itself has safely reached the disk, and is
//! believed only with its checksum, and with a snapshot of the right length beside it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use serde::{Deserialize, Serialize};
use sluicegate_core::contract::SpoolId;
use sluicegate_core::position::ReplId;
use sluicegate_core::rdb::{Crc64, CrcKind, Family, Kinds, Summary};
use sluicegate_core::snapshot::Origin;

use super::stored::Sums;
use super::{Kind, create, path};

/// What follows `snapshot-<n>` in the text's name, and in that of its draft.
pub(super) const SUFFIX: &str = ".meta";
pub(super) const DRAFT_SUFFIX: &str = ".meta.tmp";
/// Another number: written by another version of the program, which this one does not read.
const VERSION: u32 = 1;
/// What stands before the checksum of all before it.
const SEAL: &str = "checksum = ";
/// A file above this was not written here. Bytes.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// The text's keys.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    version: u32,
    history: String,
    offset: u64,
    /// Of the file, which is not always the snapshot's own length.
    file_bytes: u64,
    /// Of the sums of the file's blocks.
    digest: String,
    family: String,
    rdb_version: u32,
    bytes: u64,
    keys: u64,
    expires: u64,
    functions: u64,
    types: u64,
    /// In hexadecimal: they have 64 bits, and numbers of the text have 63.
    modules: Vec<String>,
    key_metadata: bool,
    slot_imports: bool,
    checked: bool,
    server_version: Option<String>,
    repl_id: Option<String>,
    repl_offset: Option<i64>,
    repl_stream_db: Option<u32>,
}

impl Meta {
    fn new(origin: &Origin, file_bytes: u64, digest: u64) -> Self {
        let summary = &origin.summary;
        Self {
            version: VERSION,
            history: origin.history.to_string(),
            offset: origin.offset,
            file_bytes,
            digest: format!("{digest:016x}"),
            family: match summary.family {
                Family::Redis => "redis".into(),
                Family::Valkey => "valkey".into(),
            },
            rdb_version: summary.version,
            bytes: summary.bytes,
            keys: summary.keys,
            expires: summary.expires,
            functions: summary.functions,
            types: summary.kinds.types,
            modules: summary.kinds.modules.iter().map(|id| format!("{id:x}")).collect(),
            key_metadata: summary.kinds.key_metadata,
            slot_imports: summary.kinds.slot_imports,
            checked: summary.crc == CrcKind::Checked,
            server_version: summary.server_version.clone(),
            repl_id: summary.repl_id.map(|id| id.iter().copied().map(char::from).collect()),
            repl_offset: summary.repl_offset,
            repl_stream_db: summary.repl_stream_db,
        }
    }

    fn origin(self) -> Option<Origin> {
        let family = match self.family.as_str() {
            "redis" => Family::Redis,
            "valkey" => Family::Valkey,
            _ => return None,
        };
        let kinds = Kinds {
            types: self.types,
            modules: self.modules.iter().filter_map(|id| u64::from_str_radix(id, 16).ok()).collect(),
            key_metadata: self.key_metadata,
            slot_imports: self.slot_imports,
        };
        let summary = Summary {
            family,
            version: self.rdb_version,
            bytes: self.bytes,
            keys: self.keys,
            expires: self.expires,
            functions: self.functions,
            kinds,
            server_version: self.server_version,
            repl_id: self.repl_id.and_then(|id| id.as_bytes().try_into().ok()),
            repl_offset: self.repl_offset,
            repl_stream_db: self.repl_stream_db,
            crc: if self.checked { CrcKind::Checked } else { CrcKind::Absent },
        };
        Some(Origin { history: ReplId::parse(self.history.as_bytes())?, offset: self.offset, summary })
    }
}

/// A snapshot of an earlier run.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Which it is.
    pub(crate) id: SpoolId,
    /// What it is.
    pub(crate) origin: Origin,
    /// Its file's length. Bytes.
    pub(in crate::reactor) bytes: u64,
    /// Its file's sums.
    pub(in crate::reactor) sums: Sums,
}

/// Where the text of a snapshot lies.
pub(super) fn meta_path(dir: &Path, id: SpoolId) -> PathBuf {
    dir.join(format!("snapshot-{}{SUFFIX}", id.0))
}

/// Where it is made before it is whole.
pub(super) fn draft_path(dir: &Path, id: SpoolId) -> PathBuf {
    dir.join(format!("snapshot-{}{DRAFT_SUFFIX}", id.0))
}

/// What is to be written down beside a snapshot.
pub(super) struct Text {
    pub(super) id: SpoolId,
    pub(super) origin: Origin,
    /// Of the sums of its file's blocks.
    pub(super) digest: u64,
}

/// Begins the thread that writes texts, one after the other: what is said last of a snapshot is what stands there.
pub(super) fn writer(dir: PathBuf) -> io::Result<Sender<Text>> {
    let (sender, texts) = channel::<Text>();
    thread::Builder::new().name("spool-meta".into()).spawn(move || {
        for Text { id, origin, digest } in texts {
            if let Err(error) = write(&dir, id, &origin, digest) {
                let (dir, id) = (dir.display(), id.0);
                tracing::warn!(event = "spool", "a restart will not go on from snapshot {id} in {dir}: {error}");
            }
        }
    })?;
    Ok(sender)
}

/// Writes the text once the snapshot is on the disk. Waits for the disk.
fn write(dir: &Path, id: SpoolId, origin: &Origin, digest: u64) -> io::Result<()> {
    let snapshot = File::open(path(dir, id, Kind::Rdb))?;
    snapshot.sync_all()?;
    let meta = Meta::new(origin, snapshot.metadata()?.len(), digest);
    let body = toml::to_string(&meta).map_err(io::Error::other)?;
    let draft = draft_path(dir, id);
    let mut file = create(&draft)?;
    file.write_all(body.as_bytes())?;
    writeln!(file, "{SEAL}\"{:016x}\"", Crc64::of(body.as_bytes()))?;
    file.sync_all()?;
    fs::rename(&draft, meta_path(dir, id))?;
    File::open(dir)?.sync_all()
}

/// Reads the text of a snapshot, and the snapshot; why it is of no use, in words.
fn read(dir: &Path, id: SpoolId, bytes_max: u64) -> Result<Kept, String> {
    let meta = meta_path(dir, id);
    let shown = |error: io::Error| error.to_string();
    if fs::metadata(&meta).map_err(shown)?.len() > TEXT_BYTES_MAX {
        return Err("it is far too long".into());
    }
    let text = fs::read_to_string(&meta).map_err(shown)?;
    let at = text.rfind(SEAL).ok_or("it has no checksum")?;
    let (body, seal) = text.split_at(at);
    if seal != format!("{SEAL}\"{:016x}\"\n", Crc64::of(body.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    let meta: Meta = toml::from_str(body).map_err(|error| error.message().to_owned())?;
    if meta.version != VERSION {
        return Err(format!("another version of the program wrote it ({})", meta.version));
    }
    let snapshot = File::open(path(dir, id, Kind::Rdb)).map_err(shown)?;
    let bytes = snapshot.metadata().map_err(shown)?.len();
    if bytes != meta.file_bytes {
        return Err(format!("its snapshot has {bytes} bytes, and had {}", meta.file_bytes));
    }
    if bytes > bytes_max {
        return Err(format!("its snapshot has {bytes} bytes, above snapshot.disk"));
    }
    let mut sums = Sums::of(snapshot).map_err(shown)?;
    if format!("{:016x}", sums.end()) != meta.digest {
        return Err("its snapshot is not what was written".into());
    }
    let origin = meta.origin().ok_or("it names no history")?;
    Ok(Kept { id, origin, bytes, sums })
}

/// The newest snapshot of an earlier run that can be gone on from, read to its end, and of `bytes_max` at most. Those that cannot are named to the operator.
pub(crate) fn newest(dir: &Path, bytes_max: u64) -> Option<Kept> {
    let number = |name: &str| name.strip_prefix("snapshot-")?.strip_suffix(SUFFIX)?.parse().ok();
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<u64> = names.filter_map(|name| number(&name)).collect();
    ids.sort_unstable();
    ids.into_iter().rev().map(SpoolId).find_map(|id| match read(dir, id, bytes_max) {
        Ok(kept) => {
            let (history, offset) = (kept.origin.history.short(), kept.origin.offset);
            tracing::info!(event = "snapshot-kept", "snapshot {} is of history {history} at offset {offset}", id.0);
            Some(kept)
        }
        Err(why) => {
            let meta = meta_path(dir, id);
            tracing::warn!(event = "snapshot-lost", "cannot go on from {}: {why}", meta.display());
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        let summary = Summary {
            family: Family::Valkey,
            version: 80,
            bytes: 5,
            keys: 3,
            expires: 2,
            functions: 1,
            kinds: Kinds { types: 1 << 21 | 1, modules: vec![7, u64::MAX], key_metadata: false, slot_imports: true },
            server_version: Some("9.1.0\n\"checksum = \"".into()),
            repl_id: Some([b'c'; 40]),
            repl_offset: Some(-7),
            repl_stream_db: None,
            crc: CrcKind::Absent,
        };
        Origin { history: ReplId::from_entropy([7; 20]), offset: 1 << 60, summary }
    }

    fn newest(dir: &Path) -> Option<(SpoolId, Origin)> {
        super::newest(dir, 1000).map(|kept| (kept.id, kept.origin))
    }

    /// Writes the text of a snapshot that is `REDIS`.
    fn describe(dir: &Path, id: SpoolId, origin: &Origin) {
        fs::write(path(dir, id, Kind::Rdb), b"REDIS").expect("writing");
        write(dir, id, origin, Sums::of(&b"REDIS"[..]).expect("bytes").end()).expect("writing");
    }

    /// A folder with snapshots 1 and 2 and their texts.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for id in [1, 2] {
            describe(dir.path(), SpoolId(id), &Origin { offset: id, ..origin() });
        }
        dir
    }

    #[test]
    fn what_was_written_is_read_and_the_newest_counts() {
        let dir = folder();
        let id = SpoolId(12);
        describe(dir.path(), id, &origin());
        assert_eq!(newest(dir.path()), Some((id, origin())));
        assert!(!draft_path(dir.path(), id).exists());
    }

    #[test]
    fn a_text_with_any_byte_changed_or_missing_is_not_believed() {
        let dir = folder();
        let meta = meta_path(dir.path(), SpoolId(2));
        let text = fs::read(&meta).expect("the text");
        let expect = |id: u64, story: String| {
            let found = newest(dir.path()).map(|(id, origin)| (id.0, origin.offset));
            assert_eq!(found, Some((id, id)), "{story}");
        };
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 0x20;
            fs::write(&meta, &damaged).expect("writing");
            expect(1, format!("byte {at}"));
            fs::write(&meta, &text[..at]).expect("writing");
            expect(1, format!("the first {at} bytes"));
        }
        fs::write(&meta, &text).expect("writing");
        expect(2, "as it was".into());
    }

    #[test]
    fn a_text_without_its_snapshot_is_of_no_use() {
        let dir = folder();
        let snapshot = path(dir.path(), SpoolId(2), Kind::Rdb);
        for bytes in [&b"REDI"[..], b"REDIS0", b"REDIT"] {
            fs::write(&snapshot, bytes).expect("writing");
            assert_eq!(newest(dir.path()).map(|(id, _)| id), Some(SpoolId(1)));
        }
        fs::remove_file(&snapshot).expect("removing");
        fs::remove_file(path(dir.path(), SpoolId(1), Kind::Rdb)).expect("removing");
        assert_eq!(newest(dir.path()), None);
    }
}
