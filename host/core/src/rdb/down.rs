//! Snapshots and values written down: in the format of a server that is older than the upstream, or of the other family.
//!
//! Only what loses nothing is done. Inner encodings that a server does not know become the plain ones that all know; what it
//! has no notion of, and what says nothing of the data, is left out: the statistics of streams, and the function libraries for
//! servers without functions. Whatever else a format has no place for is an obstacle, which [`fit`](super::fit) tells before
//! anything is sent.

mod value;
mod ziplist;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::crc::Crc64;
use super::rewriter::RewriteError;
use super::{Family, Kinds, Part, Sink, Target, Walker, code, kinds, write};
use crate::fault::{Fault, Party};
use value::Convert;

/// The first format of Redis with functions.
const FUNCTIONS_SINCE: u32 = 10;
/// The first format of Redis in which modules keep something beside a key's value.
const KEY_META_SINCE: u32 = 13;

/// Whether whoever reads `target` reads values of type `kind` as it numbers them.
fn holds(target: Target, kind: u8) -> bool {
    let since = match (target.family, kind) {
        (_, 0..=5 | 7 | 9..=15) => return true,
        (_, 16..=19) => 10,
        (_, 20 | 21) => 11,
        (Family::Valkey, 22) => 80,
        (Family::Redis, 24 | 25) => 12,
        (Family::Redis, 26) => 13,
        (Family::Redis, 27 | 28) => 14,
        _ => return false,
    };
    target.version >= since
}

/// The type that a value of type `kind` is written in, for whoever reads `target`; `None` if nothing fits.
fn route(family: Family, kind: u8, target: Target) -> Option<u8> {
    let others: &[u8] = match (family, kind) {
        (Family::Redis, 22..) | (Family::Valkey, 22) if family != target.family => match kind {
            22 => &[24],
            24 | 25 => &[22],
            26 => &[21],
            _ => &[],
        },
        _ if holds(target, kind) => return Some(kind),
        (_, 16) => &[4],
        (_, 17) => &[5],
        (_, 18) => &[14],
        (_, 20) => &[2],
        (_, 19) => &[15],
        (_, 21) => &[19, 15],
        (_, 26) => &[21, 19, 15],
        _ => &[],
    };
    others.iter().copied().find(|other| holds(target, *other))
}

/// What of a snapshot `target` has no place for, in words; `None` if all of it can be written down.
pub(super) fn obstacle(family: Family, kinds: &Kinds, target: Target) -> Option<String> {
    if let Some(kind) = kinds.types().find(|kind| route(family, *kind, target).is_none()) {
        return Some(format!("{} (type {kind} of {family})", kinds::name(family, kind)));
    }
    if kinds.key_metadata && !holds_key_metadata(target) {
        return Some("keys with metadata of modules".into());
    }
    if kinds.slot_imports && target.family != Family::Valkey {
        return Some("imports of hash slots".into());
    }
    // Who does not have the module dies of its data, and nobody says which modules a replica has.
    kinds.modules.first().map(|id| format!("data of modules, such as '{}'", kinds::module_name(*id)))
}

fn holds_key_metadata(target: Target) -> bool {
    target.family == Family::Redis && target.version >= KEY_META_SINCE
}

/// Version and checksum behind a value.
const FOOTER: usize = 10;

/// The payload of DUMP, as RESTORE takes it from whoever reads `target`: `None` if it does as it is.
///
/// # Errors
/// It is broken, or `target` has no place for the value. The upstream's.
pub fn payload(payload: &[u8], target: Target) -> Result<Option<Vec<u8>>, Fault> {
    let cut = || Fault::new(Party::Upstream, "a value that is restored is cut off");
    let (body, footer) = payload.split_last_chunk::<FOOTER>().ok_or_else(cut)?;
    let [low, high, ..] = *footer;
    let version = u32::from(u16::from_le_bytes([low, high]));
    let family = Family::of_payload(version);
    if target.covers(family, version) {
        return Ok(None);
    }
    let (&kind, value) = body.split_first().ok_or_else(cut)?;
    let unfit = || {
        let what = kinds::name(family, kind);
        Fault::new(Party::Upstream, format!("{what} (type {kind} of {family}) cannot be written in {target}"))
    };
    // The data of a module has no place in a server that may not have the module.
    let to = route(family, kind, target).filter(|_| kind != MODULE).ok_or_else(unfit)?;
    let mut out = Vec::with_capacity(payload.len());
    out.push(to);
    let mut convert = Convert::default();
    convert.begin(family, kind, to)?;
    convert.push(value, &mut out)?;
    if !convert.is_done() {
        return Err(cut());
    }
    out.extend_from_slice(&(target.version as u16).to_le_bytes());
    let sum = Crc64::of(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    Ok(Some(out))
}

/// The value type of modules.
const MODULE: u8 = 7;

/// Writes a snapshot down that is sound and of the view alone: what a [`Rewriter`](super::Rewriter) made.
#[derive(Debug)]
pub(super) struct Down {
    walker: Walker,
    body: Body,
}

#[derive(Debug)]
struct Body {
    family: Family,
    target: Target,
    convert: Convert,
    /// The value that is coming is written in another type.
    converts: bool,
    crc: Crc64,
}

impl Down {
    pub(super) fn new(target: Target) -> Self {
        let convert = Convert::default();
        let body = Body { family: Family::Redis, target, convert, converts: false, crc: Crc64::new() };
        Self { walker: Walker::new(), body }
    }

    /// Takes all of `input` and appends what becomes of it to `out`.
    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let unsummed = out.len();
        let mut pass = Pass { body: &mut self.body, out, unsummed };
        self.walker.push(input, &mut pass)?;
        pass.sum_up();
        Ok(())
    }
}

/// One call.
struct Pass<'a> {
    body: &'a mut Body,
    out: &'a mut Vec<u8>,
    /// Where in `out` the bytes begin that are not yet in the checksum.
    unsummed: usize,
}

impl Pass<'_> {
    fn sum_up(&mut self) {
        self.body.crc.update(self.out.get(self.unsummed..).unwrap_or_default());
        self.unsummed = self.out.len();
    }

    fn key(&mut self, raw: &[u8]) -> Result<(), Fault> {
        let Some((&kind, name)) = raw.split_first() else { return Ok(()) };
        let (family, target) = (self.body.family, self.body.target);
        let Some(to) = route(family, kind, target) else { return Err(self.unfit(kinds::name(family, kind))) };
        self.body.converts = to != kind;
        if self.body.converts {
            self.body.convert.begin(family, kind, to)?;
        }
        self.out.push(to);
        self.out.extend_from_slice(name);
        Ok(())
    }

    fn value(&mut self, raw: &[u8]) -> Result<(), Fault> {
        if self.body.converts {
            return self.body.convert.push(raw, self.out);
        }
        self.out.extend_from_slice(raw);
        Ok(())
    }

    fn unfit(&self, what: &str) -> Fault {
        Fault::new(Party::Upstream, format!("the snapshot has {what}, which cannot be written in {}", self.body.target))
    }
}

impl Sink for Pass<'_> {
    type Error = RewriteError;

    fn part(&mut self, raw: &[u8], part: Part<'_>) -> Result<(), RewriteError> {
        let target = self.body.target;
        match part {
            Part::Magic { family, .. } => {
                self.body.family = family;
                write::write_magic(self.out, target.family, target.version);
            }
            Part::Key { .. } => self.key(raw).map_err(RewriteError::Unfit)?,
            Part::Value { .. } => self.value(raw).map_err(RewriteError::Unfit)?,
            // A server without functions has nothing that could call them.
            Part::Function { .. } if target.family == Family::Redis && target.version < FUNCTIONS_SINCE => {}
            Part::Hint => {}
            Part::Metadata if !holds_key_metadata(target) => {
                return Err(RewriteError::Unfit(self.unfit("metadata of keys")));
            }
            Part::ModuleValue { .. } | Part::ModuleAux { .. } | Part::SlotImport => {
                return Err(RewriteError::Unfit(self.unfit("data of modules or of hash slots")));
            }
            Part::Aux { .. } | Part::Select(_) | Part::Attribute | Part::Function { .. } => {
                self.out.extend_from_slice(raw)
            }
            Part::Opaque | Part::Metadata => self.out.extend_from_slice(raw),
            Part::End(_) => {
                self.out.push(code::EOF);
                self.sum_up();
                self.out.extend_from_slice(&self.body.crc.sum().to_le_bytes());
                self.unsummed = self.out.len();
            }
        }
        Ok(())
    }
}
