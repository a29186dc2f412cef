//! Packed links: to a primary that is a Sluicegate, and to replicas that are.
//!
//! Both sides agree before PSYNC, by `REPLCONF capa sluicegate-pack:<format>` and `+PACK <format>`; whatever else is said
//! means the ordinary protocol. A snapshot goes as a container that has a name, so that a link which is cut in the middle of it
//! is followed by one that brings the rest. The stream goes in chunks, each of what is there when the one before it is out:
//! nothing waits for more to come. Positions count what was unpacked, so a cut in the middle of a chunk is like any other.

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Arriving, Machine, log};
use crate::contract::{Level, LinkId, Output, SpoolId};
use crate::fault::{Fault, Party};
use crate::limits;
use crate::position::ReplId;
use crate::projection::printable;
use crate::replica::{Packing, Phase};
use crate::resp;
use crate::snapshot::{Contents, Framing, Origin};
use crate::upstream::packed::{CAPA, Chunk, RESUME};

/// What is known of packed bytes beyond single links.
#[derive(Debug, Default)]
pub(super) struct Packs {
    /// The part of a snapshot that came before its link was cut.
    kept: Option<Kept>,
    /// Times that the primary went on in the middle of a snapshot.
    resumes: u64,
    /// What each view's snapshot is called, as long as it is the same one.
    offers: BTreeMap<usize, Offer>,
    /// Views whose codec failed: they are served as ever.
    broken: BTreeSet<usize>,
}

/// A part of a snapshot, all of it verified.
#[derive(Debug)]
struct Kept {
    id: SpoolId,
    token: ReplId,
    /// The history and the offset that it stands for.
    promised: (ReplId, u64),
    /// How many chunks there are, once the shell has said so.
    chunks: Option<u64>,
    /// How many there were when the rest was last asked for.
    before: u64,
    started: u64,
}

/// A view's snapshot under a name.
#[derive(Debug)]
struct Offer {
    token: ReplId,
    /// What it is made of: the same name never means other bytes.
    of: (SpoolId, ReplId, u64),
}

impl Packs {
    pub(super) fn resumes(&self) -> u64 {
        self.resumes
    }

    /// The name of a view's snapshot, made of `of`, and the first chunk that is sent of it: not the first one of all, if
    /// the replica has a part of this very snapshot. `fresh` becomes its name if it had none.
    pub(super) fn offer(
        &mut self,
        view: usize,
        of: (SpoolId, ReplId, u64),
        resumed: Option<(ReplId, u64)>,
        fresh: ReplId,
    ) -> (ReplId, u64) {
        let offer = self.offers.entry(view).or_insert(Offer { token: fresh, of });
        if offer.of != of {
            *offer = Offer { token: fresh, of };
        }
        let first = resumed.filter(|(token, _)| *token == offer.token).map_or(0, |(_, chunk)| chunk);
        (offer.token, first)
    }
}

/// From a primary.
impl Machine {
    /// Asks for the rest of a snapshot, if there is a part of one. `true`: the answer is waited for.
    pub(super) fn asks_to_resume(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(kept) = self.packs.kept.as_mut().filter(|_| self.follow.is_none()) else { return false };
        let Some(chunks) = kept.chunks else { return false };
        kept.before = chunks;
        self.upstream.resume(&kept.token, chunks, out)
    }

    /// A packed snapshot begins, or goes on.
    pub(super) fn packed_begins(&mut self, token: ReplId, first: u64) -> Result<(), Fault> {
        if first == 0 {
            self.snapshot_begins(Framing::Packed { token, first });
            return Ok(());
        }
        let same =
            |kept: &mut Kept| kept.token == token && kept.chunks == Some(first) && self.promised == Some(kept.promised);
        let Some(kept) = self.packs.kept.take_if(same) else {
            self.abandon_kept();
            let what = format!("it sends a snapshot from chunk {first} on, which was not asked for");
            return Err(Fault::new(Party::Upstream, what));
        };
        self.packs.resumes += 1;
        let framing = Framing::Packed { token, first };
        let (started, noted) = (kept.started, self.now.mono_ms);
        self.arriving = Some(Arriving { id: kept.id, framing, received: 0, unwritten: 0, started, noted });
        self.note(
            Level::Info,
            "full-sync-resumed",
            format!("the snapshot goes on behind {first} chunks that are here"),
        );
        Ok(())
    }

    /// The link is gone: of a packed snapshot, what is verified stays.
    pub(super) fn forget_packing(&mut self) {
        if let Some(link) = self.up_link.filter(|_| self.upstream.is_packed()) {
            self.outputs.push_back(Output::PackEnd(link));
        }
        let Some(promised) = self.promised else { return };
        let Some(arriving) = self.arriving.take_if(|arriving| matches!(arriving.framing, Framing::Packed { .. }))
        else {
            return;
        };
        if let Framing::Packed { token, first } = arriving.framing {
            self.outputs.push_back(Output::SpoolPause(arriving.id));
            let (id, started) = (arriving.id, arriving.started);
            self.packs.kept = Some(Kept { id, token, promised, chunks: None, before: first, started });
        }
    }

    /// Another snapshot takes the place of the one that a part is kept of.
    pub(super) fn abandon_kept(&mut self) {
        if let Some(kept) = self.packs.kept.take() {
            self.outputs.push_back(Output::SpoolAbort(kept.id));
        }
    }

    /// A packed snapshot stands still: its link is gone, or its next chunk is damaged.
    pub(super) fn spool_paused(&mut self, id: SpoolId, chunks: u64, fault: Option<Fault>) {
        let arriving = self.arriving.as_ref().filter(|arriving| arriving.id == id);
        if let (Some(arriving), Some(fault)) = (arriving, fault) {
            let before = match arriving.framing {
                Framing::Packed { first, .. } => first,
                _ => 0,
            };
            return self.unpack_failed(&fault, chunks > before);
        }
        if let Some(kept) = self.packs.kept.as_mut().filter(|kept| kept.id == id) {
            kept.chunks = Some(chunks);
        }
    }

    /// The rest of a snapshot was on its way to the disk when its link was lost: it is as good as any.
    pub(super) fn spooled_unlinked(&mut self, id: SpoolId, outcome: Result<Contents, Fault>) {
        let Some(kept) = self.packs.kept.take_if(|kept| kept.id == id) else { return };
        let Ok(Contents::Rdb(summary)) = outcome else { return };
        if self.follow.is_some() || self.promised.is_some() {
            return;
        }
        let text = format!("the snapshot is complete, {} keys; the stream is missing", summary.keys);
        let origin = Origin { history: kept.promised.0, offset: kept.promised.1, summary };
        self.begin_described(id, origin);
        self.note(Level::Info, "full-sync-done", text);
    }

    pub(super) fn unpack(&mut self, chunk: Chunk) {
        if let Some(link) = self.up_link {
            self.outputs.push_back(Output::Unpack(link, chunk));
        }
    }

    /// What was in a chunk of the stream.
    pub(super) fn unpacked(&mut self, link: LinkId, outcome: Result<Bytes, Fault>) {
        if self.up_link != Some(link) || !self.upstream.is_packed() {
            return;
        }
        let bytes = match outcome {
            Ok(bytes) => bytes,
            Err(fault) => return self.unpack_failed(&fault, false),
        };
        self.upstream.unpacked();
        let mut out = Vec::new();
        if let Err(fault) = self.stream(bytes, &mut out) {
            return self.upstream_failed(&fault);
        }
        self.up_out.push_copy(&out);
        self.listen();
    }

    /// A chunk is damaged, or the codec is: another link brings it once more, and then an ordinary one what it is made of.
    fn unpack_failed(&mut self, fault: &Fault, behind_good_ones: bool) {
        self.upstream.unpack_failed(behind_good_ones);
        self.leave_upstream(fault, true);
    }
}

/// To replicas.
impl Machine {
    /// Takes what only a Sluicegate says before PSYNC.
    pub(super) fn replconf_packed(&mut self, link: LinkId, words: &[Vec<u8>]) -> bool {
        match words {
            [_, option, value] if option.eq_ignore_ascii_case(b"capa") => {
                let Some(format) = value.strip_prefix(CAPA.as_bytes()) else { return false };
                self.asked_to_pack(link, format);
            }
            [_, option, token, chunk] if option.eq_ignore_ascii_case(RESUME.as_bytes()) => {
                self.asked_to_resume(link, token, chunk);
            }
            _ => return false,
        }
        true
    }

    fn asked_to_pack(&mut self, link: LinkId, format: &[u8]) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let offered = self.views.get(replica.view).and_then(|view| view.settings().pack.as_deref());
        let works = !self.packs.broken.contains(&replica.view);
        match offered.filter(|offered| works && offered.as_bytes() == format) {
            Some(format) => {
                replica.packing = Some(Packing::default());
                let answer = format!("+PACK {format}\r\n");
                self.answer(link, answer.as_bytes());
            }
            None => {
                let why = match offered {
                    Some(_) if !works => "its codec has failed",
                    Some(_) => "the view packs otherwise",
                    None => "the view does not pack",
                };
                let text = format!(
                    "replica {} asks for packed bytes ({}) and gets ordinary ones: {why}",
                    replica.peer,
                    printable(format)
                );
                self.note(Level::Warn, "not-packed", text);
                self.answer(link, b"+OK\r\n");
            }
        }
    }

    fn asked_to_resume(&mut self, link: LinkId, token: &[u8], chunk: &[u8]) {
        let resume = ReplId::parse(token).zip(resp::decimal(chunk));
        let packing = self.replicas.get_mut(&link).and_then(|replica| replica.packing.as_mut());
        match packing.zip(resume) {
            Some((packing, resume)) => {
                packing.resume = Some(resume);
                self.answer(link, b"+OK\r\n");
            }
            None => self.answer(link, b"-ERR a token and a chunk are expected, on a packed link\r\n"),
        }
    }

    /// Gives packed links what is next for them: each time all that is there, once what they had is out.
    pub(super) fn pack_streams(&mut self) {
        for (link, replica) in &mut self.replicas {
            let idle = replica.phase == Phase::Streaming && replica.outbox.is_empty();
            let Some(view) = self.views.get(replica.view) else { continue };
            if !idle || replica.packing.as_ref().is_none_or(|packing| packing.under_way > 0) {
                continue;
            }
            if replica.cursor < view.backlog().start() {
                self.outputs.extend(log::read(*link, replica, view));
                continue;
            }
            let Some(packing) = &mut replica.packing else { continue };
            let mut raw = Vec::new();
            while let Some(room) = limits::CHUNK_RAW_BYTES.checked_sub(packing.under_way).filter(|&room| room > 0)
                && let Some(bytes) = view.backlog().read(replica.cursor + packing.under_way as u64, room)
                && !bytes.is_empty()
            {
                packing.under_way += bytes.len();
                raw.push(bytes);
            }
            if !raw.is_empty() {
                self.outputs.push_back(Output::Pack { link: *link, view: replica.view, raw });
            }
        }
    }

    /// A chunk is packed. The shell says it of a snapshot, too, if the codec fails there.
    pub(super) fn packed(&mut self, link: LinkId, outcome: Result<Bytes, Fault>) {
        let Some(replica) = self.replicas.get_mut(&link) else { return };
        let Some(packing) = &mut replica.packing else { return };
        match outcome {
            Ok(bytes) if replica.phase == Phase::Streaming => {
                replica.cursor += core::mem::take(&mut packing.under_way) as u64;
                replica.outbox.push(bytes);
            }
            Ok(_) => {}
            Err(fault) => self.pack_failed(link, &fault),
        }
    }

    /// Nothing of the view is wrong: only what packs it.
    fn pack_failed(&mut self, link: LinkId, fault: &Fault) {
        let Some(view) = self.replicas.get(&link).map(|replica| replica.view) else { return };
        self.packs.broken.insert(view);
        let text = format!("view '{}' is not packed any more until a restart: {fault}", self.view_name(view));
        self.note(Level::Error, "pack-failed", text);
        self.close(link);
    }
}
