//! Snapshots of plain strings: written on the fly by the canned primary, read and checked by the sink.

use std::io::{BufRead, Read, Write};

use anyhow::{Result, bail, ensure};

use crate::crc;

/// Writes an RDB of version 10 (which every server since 7.0 loads) and keeps its checksum.
pub(crate) struct Writer<W> {
    out: W,
    crc: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a snapshot: magic, the aux fields of a real primary, database 0.
    pub(crate) fn begin(out: W) -> Result<Self> {
        let mut writer = Self { out, crc: 0, bytes: 0 };
        writer.put(b"REDIS0010")?;
        for (name, value) in [("redis-ver", "7.0.15"), ("redis-bits", "64"), ("repl-stream-db", "0")] {
            writer.put(&[0xFA])?;
            writer.string(name.as_bytes())?;
            writer.string(value.as_bytes())?;
        }
        writer.put(&[0xFE, 0])?;
        Ok(writer)
    }

    /// Begins a string entry of `value_len` bytes, which the caller sends with [`Self::put`].
    pub(crate) fn entry(&mut self, key: &[u8], value_len: u64) -> Result<()> {
        self.put(&[0])?;
        self.string(key)?;
        self.length(value_len)
    }

    /// Sends bytes as they are.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc = crc::update(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)?;
        Ok(())
    }

    /// Ends the snapshot and returns its length in bytes.
    pub(crate) fn end(mut self) -> Result<u64> {
        self.put(&[0xFF])?;
        self.out.write_all(&self.crc.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.bytes + 8)
    }

    fn string(&mut self, bytes: &[u8]) -> Result<()> {
        self.length(bytes.len() as u64)?;
        self.put(bytes)
    }

    fn length(&mut self, n: u64) -> Result<()> {
        match n {
            0..64 => self.put(&[n as u8]),
            64..0x4000 => self.put(&(0x4000 | n as u16).to_be_bytes()),
            _ => {
                self.put(&[0x80])?;
                self.put(&u32::try_from(n)?.to_be_bytes())
            }
        }
    }
}

/// What the sink does with the entries of a snapshot.
pub(crate) trait Visitor {
    /// A string entry begins.
    fn entry(&mut self, key: &[u8], value_len: u64) -> Result<()>;
    /// The next bytes of its value; none of one that the server has packed.
    fn value(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Collects the names of the entries: for snapshots of a few.
#[derive(Default)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl Visitor for Names {
    fn entry(&mut self, key: &[u8], _value_len: u64) -> Result<()> {
        self.0.push(key.escape_ascii().to_string());
        Ok(())
    }

    fn value(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Reads one snapshot to its end, checks its checksum and returns its length in bytes.
pub(crate) fn read(input: &mut impl BufRead, visitor: &mut dyn Visitor) -> Result<u64> {
    let mut reader = Reader { input, crc: 0, bytes: 0 };
    let magic: [u8; 9] = reader.array()?;
    ensure!(magic.starts_with(b"REDIS") || magic.starts_with(b"VALKEY"), "not a snapshot: {}", magic.escape_ascii());
    loop {
        match reader.byte()? {
            0xFF => break,
            0xFA => {
                reader.string()?;
                reader.string()?;
            }
            0xFE => {
                reader.length()?;
            }
            0xFB => {
                reader.length()?;
                reader.length()?;
            }
            0 => {
                let key = reader.string()?;
                match reader.length()? {
                    Length::Plain(length) => {
                        visitor.entry(&key, length)?;
                        reader.take(length, &mut |bytes| visitor.value(bytes))?;
                    }
                    Length::Special(3) => {
                        let (packed, length) = (reader.plain_length()?, reader.plain_length()?);
                        visitor.entry(&key, length)?;
                        reader.take(packed, &mut |_| Ok(()))?;
                    }
                    Length::Special(kind) => bail!("a value in encoding {kind}, which nobody sent"),
                }
            }
            other => bail!("opcode or type {other} in a snapshot of strings"),
        }
    }
    let computed = reader.crc;
    let stored = u64::from_le_bytes(reader.array()?);
    ensure!(stored == computed, "the snapshot's checksum is {stored:016x}, its bytes have {computed:016x}");
    Ok(reader.bytes)
}

struct Reader<'a, R> {
    input: &'a mut R,
    crc: u64,
    bytes: u64,
}

enum Length {
    Plain(u64),
    Special(u8),
}

impl<R: BufRead> Reader<'_, R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        Read::read_exact(self.input, &mut bytes)?;
        self.crc = crc::update(self.crc, &bytes);
        self.bytes += N as u64;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn length(&mut self) -> Result<Length> {
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, n) => Length::Plain(u64::from(n)),
            (1, n) => Length::Plain(u64::from(n & 0x3F) << 8 | u64::from(self.byte()?)),
            (3, n) => Length::Special(n & 0x3F),
            (_, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (_, n) => bail!("length byte {n:#x}"),
        })
    }

    fn plain_length(&mut self) -> Result<u64> {
        match self.length()? {
            Length::Plain(length) => Ok(length),
            Length::Special(kind) => bail!("encoding {kind} where a length is due"),
        }
    }

    /// A short string: a key's name or an aux field.
    fn string(&mut self) -> Result<Vec<u8>> {
        let length = match self.length()? {
            Length::Plain(n) => n,
            Length::Special(kind @ 0..=2) => 1 << kind,
            Length::Special(kind) => bail!("a name in encoding {kind}, which nobody sent"),
        };
        ensure!(length <= 64 * 1024, "a name of {length} bytes");
        let mut bytes = Vec::with_capacity(length as usize);
        self.take(length, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn take(&mut self, mut left: u64, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while left > 0 {
            let ready = self.input.fill_buf()?;
            ensure!(!ready.is_empty(), "the snapshot was cut off, {} bytes in", self.bytes);
            let part = &ready[..ready.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            self.crc = crc::update(self.crc, part);
            each(part)?;
            let length = part.len();
            self.input.consume(length);
            self.bytes += length as u64;
            left -= length as u64;
        }
        Ok(())
    }
}
