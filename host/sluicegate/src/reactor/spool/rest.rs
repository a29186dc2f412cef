//! How a snapshot rests on the disk: as it came, or packed by a codec, each chunk proved before the bytes that it is made of
//! are gone. Whoever reads it back sees the bytes that came.

use std::fmt;
use std::io::{self, Read, Write};

use sluicegate_core::limits::CHUNK_RAW_BYTES;
use sluicegate_core::pack::{Codec, Defect, PackError, Packer, Unpacker, read_head};
use sluicegate_core::pipeline::PluginFault;

/// Packed bytes are read in pieces of this many.
const PIECE_BYTES: usize = 128 * 1024;

/// Why a snapshot does not reach the disk.
#[derive(Debug)]
pub(in crate::reactor) enum Unwritten {
    /// The disk does not take it.
    Disk(io::Error),
    /// The codec failed, or packed what does not unpack to the same.
    Codec(PluginFault),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<PluginFault> for Unwritten {
    fn from(fault: PluginFault) -> Self {
        Self::Codec(fault)
    }
}

/// Writes a snapshot.
pub(in crate::reactor) struct Writer<W> {
    file: W,
    /// `None`: as it comes.
    packer: Option<Packer>,
    /// What the packer has made and the file does not have.
    packed: Vec<u8>,
    /// Bytes that the file has.
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes into an empty file, packed if there is a codec.
    ///
    /// # Errors
    /// The codec has no proper name for its format.
    pub(in crate::reactor) fn new(file: W, codec: Option<Box<dyn Codec>>) -> Result<Self, PluginFault> {
        let mut packed = Vec::new();
        let packer = codec.map(|codec| Packer::new(codec, CHUNK_RAW_BYTES, &mut packed)).transpose()?;
        Ok(Self { file, packer, packed, written: 0 })
    }

    /// Writes the next bytes. Up to a chunk of them is held back until it is full.
    ///
    /// # Errors
    /// The disk or the codec fails; the file is of no use.
    pub(in crate::reactor) fn write(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let Some(packer) = &mut self.packer else { return Ok(self.file.write_all(bytes)?) };
        packer.push(bytes, &mut self.packed)?;
        self.flush()
    }

    /// There are no more bytes: what was held back is written.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub(in crate::reactor) fn finish(mut self) -> Result<W, Unwritten> {
        if let Some(packer) = self.packer.take() {
            let place = packer.finish(&mut self.packed)?;
            self.flush()?;
            tracing::info!(
                event = "spool",
                raw = place.raw,
                packed = self.written,
                "the snapshot rests packed on disk"
            );
        }
        Ok(self.file)
    }

    fn flush(&mut self) -> Result<(), Unwritten> {
        self.file.write_all(&self.packed)?;
        self.written += self.packed.len() as u64;
        self.packed.clear();
        Ok(())
    }
}

/// What can be read again.
pub(in crate::reactor) trait Rewind: Read {
    /// Begins anew.
    ///
    /// # Errors
    /// It cannot be read.
    fn rewind(&mut self) -> io::Result<()>;
}

/// Reads a snapshot's bytes, however they rest.
pub(in crate::reactor) struct Rested<R> {
    file: R,
    packed: Option<Packed>,
}

/// The state of unpacking.
struct Packed {
    unpacker: Unpacker,
    /// What was read of the file; from `taken` on it is yet to be unpacked.
    piece: Vec<u8>,
    taken: usize,
    /// The chunk that came out; from `given` on it is yet to be given away.
    raw: Vec<u8>,
    given: usize,
}

impl<R: Rewind> Rested<R> {
    /// Reads from the beginning of `file`. Whether it is packed the file says; `codec` unpacks it then.
    ///
    /// # Errors
    /// The file cannot be read, or is packed in a format for which there is no codec ([`io::ErrorKind::InvalidData`]).
    pub(in crate::reactor) fn open(mut file: R, codec: Option<Box<dyn Codec>>) -> io::Result<Self> {
        let mut head = Vec::new();
        file.by_ref().take(128).read_to_end(&mut head)?;
        file.rewind()?;
        let format = match read_head(&head) {
            // No snapshot begins as packed bytes do.
            Err(Defect::Magic) => return Ok(Self { file, packed: None }),
            Err(defect) => return Err(invalid(PackError { chunk: 0, defect })),
            Ok(None) => return Err(invalid(PackError { chunk: 0, defect: Defect::Truncated })),
            Ok(Some((format, _))) => format,
        };
        match codec {
            Some(codec) if codec.format() == format => {
                let unpacker = Unpacker::new(codec);
                let (piece, raw) = (Vec::new(), Vec::new());
                Ok(Self { file, packed: Some(Packed { unpacker, piece, taken: 0, raw, given: 0 }) })
            }
            Some(codec) => {
                Err(invalid(format!("it is packed as {format}, and snapshot.codec packs {}", codec.format())))
            }
            None => Err(invalid(format!("it is packed as {format}, and there is no snapshot.codec"))),
        }
    }

    /// Begins anew.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(in crate::reactor) fn rewind(&mut self) -> io::Result<()> {
        if let Some(packed) = &mut self.packed {
            packed.unpacker.restart();
            packed.piece.clear();
            packed.raw.clear();
            (packed.taken, packed.given) = (0, 0);
        }
        self.file.rewind()
    }
}

impl<R> Rested<R> {
    pub(super) fn file(&self) -> &R {
        &self.file
    }
}

impl<R: Read> Read for Rested<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.packed {
            None => self.file.read(out),
            Some(packed) => packed.read(&mut self.file, out),
        }
    }
}

impl Packed {
    fn read(&mut self, file: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.raw.len() && self.next(file)? {}
        let rest = self.raw.get(self.given..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }

    /// Goes on by a chunk, or by a piece of the file; `false` at the end.
    fn next(&mut self, file: &mut impl Read) -> io::Result<bool> {
        if self.taken == self.piece.len() {
            self.piece.clear();
            self.taken = 0;
            if file.take(PIECE_BYTES as u64).read_to_end(&mut self.piece)? == 0 {
                self.unpacker.finish().map_err(invalid)?;
                return Ok(false);
            }
            if self.unpacker.is_done() {
                return Err(invalid("something follows the end of the packed bytes"));
            }
        }
        let mut rest = self.piece.get(self.taken..).unwrap_or_default();
        self.given = 0;
        self.unpacker.push(&mut rest, &mut self.raw).map_err(invalid)?;
        self.taken = self.piece.len() - rest.len();
        if self.unpacker.is_done() && !rest.is_empty() {
            return Err(invalid("something follows the end of the packed bytes"));
        }
        Ok(true)
    }
}

fn invalid(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Seek;

    use super::*;

    impl Rewind for File {
        fn rewind(&mut self) -> io::Result<()> {
            Seek::rewind(self)
        }
    }

    /// Runs of equal bytes as (length, byte).
    struct Runs(&'static str);

    impl Codec for Runs {
        fn format(&self) -> &str {
            self.0
        }

        fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
            out.clear();
            out.extend(
                raw.chunk_by(|a, b| a == b).flat_map(|run| run.chunks(255)).flat_map(|run| [run.len() as u8, run[0]]),
            );
            Ok(())
        }

        fn decode(&mut self, packed: &[u8], _: usize, out: &mut Vec<u8>) -> Result<(), PluginFault> {
            out.clear();
            packed.chunks(2).for_each(|pair| out.resize(out.len() + usize::from(pair[0]), pair[1]));
            Ok(())
        }
    }

    fn codec(format: &'static str) -> Option<Box<dyn Codec>> {
        Some(Box::new(Runs(format)))
    }

    /// A snapshot of more than two chunks.
    fn snapshot() -> Vec<u8> {
        let records = (0..200_000_u32).flat_map(|n| [(n >> 9) as u8; 3]);
        b"REDIS0011".iter().copied().chain(records).collect()
    }

    fn written(codec: Option<Box<dyn Codec>>) -> File {
        let mut writer = Writer::new(tempfile::tempfile().expect("a file"), codec).expect("a proper name");
        snapshot().chunks(70_001).for_each(|piece| writer.write(piece).expect("written"));
        writer.finish().expect("written")
    }

    fn read(file: &File, codec: Option<Box<dyn Codec>>) -> io::Result<Vec<u8>> {
        let mut file = file.try_clone()?;
        Seek::rewind(&mut file)?;
        let (mut rested, mut first, mut all) = (Rested::open(file, codec)?, [0; 300_000], Vec::new());
        rested.read_exact(&mut first)?;
        rested.rewind()?;
        rested.read_to_end(&mut all)?;
        assert!(all.starts_with(&first), "reading anew gives the same");
        Ok(all)
    }

    #[test]
    fn what_is_packed_is_read_back_and_what_is_not_is_read_as_it_is() {
        for packs in [None, codec("runs")] {
            assert!(read(&written(packs), codec("runs")).expect("sound") == snapshot());
        }
        let sizes = [None, codec("runs")].map(|packs| written(packs).metadata().expect("a file").len());
        assert!(sizes[1] * 50 < sizes[0], "{sizes:?}");
    }

    #[test]
    fn a_file_of_another_codec_says_which() {
        let file = written(codec("runs"));
        let error = read(&file, None).expect_err("nothing unpacks it").to_string();
        assert_eq!(error, "it is packed as runs, and there is no snapshot.codec");
        let error = read(&file, codec("zstd")).expect_err("another one").to_string();
        assert_eq!(error, "it is packed as runs, and snapshot.codec packs zstd");
    }

    #[test]
    fn damage_on_the_disk_is_an_error_and_never_bytes() {
        let mut file = written(codec("runs"));
        let length = file.metadata().expect("a file").len();
        for at in [11, 20, 40, 2_000, length - 30, length - 20, length - 1] {
            let mut byte = [0];
            let flip = |file: &mut File, byte: &mut [u8; 1]| {
                file.seek(io::SeekFrom::Start(at)).and_then(|_| file.read_exact(byte)).expect("a byte");
                byte[0] ^= 4;
                file.seek(io::SeekFrom::Start(at)).and_then(|_| file.write_all(byte)).expect("a byte");
            };
            flip(&mut file, &mut byte);
            let error = read(&file, codec("runs")).expect_err("damaged");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}: {error}");
            flip(&mut file, &mut byte);
        }
        assert!(read(&file, codec("runs")).expect("sound again") == snapshot());
        file.seek(io::SeekFrom::End(0)).and_then(|_| file.write_all(b"x")).expect("a byte");
        let error = read(&file, codec("runs")).expect_err("something follows").to_string();
        assert!(error.contains("something follows the end"), "{error}");
        file.set_len(length - 1).expect("cut");
        let error = read(&file, codec("runs")).expect_err("cut").to_string();
        assert!(error.contains("they end too early"), "{error}");
    }
}
