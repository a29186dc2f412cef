//! A plugin that packs, as the core's [`Codec`].

use std::sync::Arc;

use sluicegate_core::limits::CHUNK_SLACK_BYTES;
use sluicegate_core::pack::Codec;
use sluicegate_core::pipeline::PluginFault;
use wasmtime::component::{Func, ResourceAny};

use crate::error::LoadError;
use crate::instance::{CodecFuncs, Deadline, Fault, Instance, StreamFuncs, refusal};
use crate::member::Member;
use crate::plugin::Plugin;
use crate::spec::{OnError, limits};
use crate::stats::StatsHandle;
use crate::wire::Refusal;

/// A codec of either world. Packing and unpacking have an instance each, so that a plugin which merely remembers what it
/// was given does not pass for one that packs.
pub struct GuestCodec {
    format: String,
    packs: Member,
    unpacks: Member,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Pack,
    /// Into so many bytes.
    Unpack(usize),
}

impl GuestCodec {
    pub(crate) fn new(plugin: &Arc<Plugin>) -> Result<Self, LoadError> {
        let Some(format) = plugin.format() else {
            let what = format!("it is no codec: it exports {}", plugin.worlds().join(", "));
            return Err(LoadError::new(plugin.name(), what, "name a plugin with block-codec or stream-codec"));
        };
        if plugin.spec().on_error != OnError::Halt {
            let what = "it is a codec, whose bytes can neither be dropped nor passed";
            return Err(LoadError::new(plugin.name(), what, "leave on_error at \"halt\""));
        }
        let member = || Member::new(plugin).map_err(|fault| plugin.unfit(fault));
        Ok(Self { format: format.into(), packs: member()?, unpacks: member()? })
    }

    /// A handle on the counters: what packs, and what unpacks.
    pub fn stats(&self) -> StatsHandle {
        StatsHandle { cells: [&self.packs, &self.unpacks].map(|member| Arc::clone(&member.cell)).into() }
    }

    fn run(member: &mut Member, bytes: &[u8], way: Way) -> Result<Vec<u8>, PluginFault> {
        let spec = member.plugin.spec();
        let (most, given) = match way {
            Way::Pack => (bytes.len() + CHUNK_SLACK_BYTES, bytes.len()),
            Way::Unpack(size) => (size, bytes.len().max(size)),
        };
        let mebibytes = given.div_ceil(1 << 20) as u64;
        let deadline = member.plugin.room().deadline(spec.deadline_ms + limits::CODEC_MS_PER_MIB * mebibytes);
        let answer = member.twice(bytes.len(), |instance, _| {
            let out = answer(instance, bytes, way, most, deadline)?;
            match way {
                Way::Unpack(size) if out.len() != size => {
                    Err(Fault::Broken(format!("unpacks into {} bytes where {size} were asked for", out.len())))
                }
                _ => Ok(out),
            }
        });
        answer.map_err(|fault| {
            let (Fault::Broken(what) | Fault::Deadline(what) | Fault::Rejected(what) | Fault::Final(what)) = fault;
            let doing = if way == Way::Pack { "packing" } else { "unpacking" };
            member.halt(format!("{what} ({doing} {} bytes)", bytes.len()))
        })
    }
}

impl Codec for GuestCodec {
    fn format(&self) -> &str {
        &self.format
    }

    fn plugin(&self) -> &str {
        self.packs.plugin.name()
    }

    fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), PluginFault> {
        *out = Self::run(&mut self.packs, raw, Way::Pack)?;
        Ok(())
    }

    fn decode(&mut self, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), PluginFault> {
        *out = Self::run(&mut self.unpacks, packed, Way::Unpack(size))?;
        Ok(())
    }
}

/// Asks one instance: at most `most` bytes.
fn answer(instance: &mut Instance, bytes: &[u8], way: Way, most: usize, deadline: Deadline) -> Result<Vec<u8>, Fault> {
    let Some((_, funcs)) = instance.funcs.codec else {
        return Err(Fault::Final("it was asked what it does not export; this is a fault of Sluicegate".into()));
    };
    let out = match (funcs, way) {
        (CodecFuncs::Block { encode, .. }, Way::Pack) => pieces(instance.call(&encode, deadline, (bytes,))?)?,
        (CodecFuncs::Block { decode, .. }, Way::Unpack(size)) => {
            let size = u32::try_from(size).map_err(|_| Fault::Rejected("a block of 4 GiB".into()))?;
            pieces(instance.call(&decode, deadline, (bytes, size))?)?
        }
        (CodecFuncs::Stream { encoder, .. }, Way::Pack) => stream(instance, encoder, bytes, most, deadline)?,
        (CodecFuncs::Stream { decoder, .. }, Way::Unpack(_)) => stream(instance, decoder, bytes, most, deadline)?,
    };
    match out.len() > most {
        true => Err(Fault::Broken(format!("answered {} bytes where {most} are allowed", out.len()))),
        false => Ok(out),
    }
}

fn pieces(answer: (Result<Vec<u8>, Refusal>,)) -> Result<Vec<u8>, Fault> {
    answer.0.map_err(refusal)
}

/// Sends `bytes` through an encoder or decoder of their own. Each call has the whole deadline, and there are few of them.
fn stream(
    instance: &mut Instance,
    funcs: StreamFuncs,
    bytes: &[u8],
    most: usize,
    deadline: Deadline,
) -> Result<Vec<u8>, Fault> {
    let (opened,) = instance.call::<_, (Result<ResourceAny, Refusal>,)>(&funcs.open, deadline, ())?;
    let resource = opened.map_err(refusal)?;
    let mut out = Vec::new();
    for piece in bytes.chunks(limits::CODEC_PIECE_BYTES) {
        match push(instance, &funcs.push, resource, piece, deadline) {
            Ok(more) => out.extend_from_slice(&more),
            Err(fault) => {
                if matches!(fault, Fault::Rejected(_)) {
                    // The instance lives on, without what was begun.
                    instance.drop_resource(resource, deadline)?;
                }
                return Err(fault);
            }
        }
        if out.len() > most {
            return Err(Fault::Broken(format!("answered more than the {most} bytes that are allowed")));
        }
    }
    out.extend_from_slice(&pieces(instance.call(&funcs.finish, deadline, (resource,))?)?);
    Ok(out)
}

fn push(
    instance: &mut Instance,
    push: &Func,
    resource: ResourceAny,
    piece: &[u8],
    deadline: Deadline,
) -> Result<Vec<u8>, Fault> {
    pieces(instance.call(push, deadline, (resource, piece))?)
}
