//! A plugin from its bytes to something that instances can be made of.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sluicegate_core::pack;
use wasmtime::component::{Component, ComponentExportIndex, Func, InstancePre};
use wasmtime::{Result, Store, format_err};

use crate::error::LoadError;
use crate::imports;
use crate::instance::{CodecFuncs, Fault, Funcs, Instance, State, StreamFuncs};
use crate::room::Room;
use crate::spec::{PluginSpec, limits};
use crate::stats::Cell;
use crate::wire;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The plugin's own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// It is asked about keys with these prefixes only; empty: all keys.
    pub prefixes: Vec<Vec<u8>>,
    /// Its answers do not depend on the database.
    pub db_independent: bool,
    /// Names of its counters.
    pub counters: Vec<String>,
}

/// A compiled plugin whose settings have been accepted.
pub struct Plugin {
    room: Room,
    spec: PluginSpec,
    settings: Vec<wire::Setting>,
    pre: InstancePre<State>,
    exports: Exports,
    descriptor: Descriptor,
    format: Option<String>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.spec.name).field("descriptor", &self.descriptor).finish()
    }
}

impl Plugin {
    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What the plugin says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The name of what the plugin packs, if it is a codec.
    pub fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }

    /// Whether the plugin has a say in a view: a codec has none.
    pub fn decides(&self) -> bool {
        self.exports.has_filter() || self.exports.has_frame_filter() || self.exports.has_transform()
    }

    /// The interfaces that the plugin exports: some of `key-filter`, `frame-filter`, `key-transform`, `block-codec`,
    /// `stream-codec`.
    pub fn worlds(&self) -> Vec<&'static str> {
        let Exports { filter, filter_frames, transform, codec, .. } = &self.exports;
        let worlds = [
            (filter.is_some(), "key-filter"),
            (filter_frames.is_some(), "frame-filter"),
            (transform.is_some(), "key-transform"),
            (matches!(codec, Some(CodecExports::Block { .. })), "block-codec"),
            (matches!(codec, Some(CodecExports::Stream { .. })), "stream-codec"),
        ];
        worlds.into_iter().filter_map(|(has, world)| has.then_some(world)).collect()
    }

    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn spec(&self) -> &PluginSpec {
        &self.spec
    }

    pub(crate) fn settings(&self) -> &[wire::Setting] {
        &self.settings
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    pub(crate) fn load(room: &Room, mut spec: PluginSpec) -> Result<Self, LoadError> {
        let name = spec.name.clone();
        let wasm = componentize(&name, std::mem::take(&mut spec.wasm), spec.component_bytes_max)?;
        let component = Component::new(room.engine(spec.fuel.is_some())?, &wasm).map_err(|error| {
            LoadError::new(
                &name,
                format!("no valid component: {error:#}"),
                "build it for wasm32-wasip2 or with the SDK",
            )
        })?;
        let linker = imports::linker(&name, &component)?;
        let exports = Exports::find(&name, &component)?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::new(&name, format!("{error:#}"), "rebuild it with the SDK of this release"))?;
        let settings = spec.settings.iter().cloned().map(|(name, value)| wire::Setting { name, value }).collect();
        let descriptor = Descriptor {
            name: String::new(),
            version: String::new(),
            prefixes: Vec::new(),
            db_independent: false,
            counters: Vec::new(),
        };
        let mut plugin = Self { room: room.clone(), spec, settings, pre, exports, descriptor, format: None };
        (plugin.descriptor, plugin.format) = plugin.describe()?;
        Ok(plugin)
    }

    /// Makes an instance for its word on the settings and on itself.
    fn describe(&self) -> Result<(Descriptor, Option<String>), LoadError> {
        let cell = Arc::new(Cell::new(self.name(), &[]));
        let mut instance = Instance::new(self, &cell).map_err(|fault| self.unfit(fault))?;
        let describe = instance.funcs.describe;
        let deadline = self.room.deadline(limits::INIT_DEADLINE_MS);
        let described = instance.call::<_, (wire::Descriptor,)>(&describe, deadline, ());
        let (described,) = described.map_err(|fault| self.unfit(fault))?;
        let wire::Descriptor { name, version, prefixes, properties, counters } = described;
        if prefixes.len() > limits::DESCRIPTOR_ITEMS || counters.len() > limits::DESCRIPTOR_ITEMS {
            let what = format!("it describes more than {} prefixes or counters", limits::DESCRIPTOR_ITEMS);
            return Err(LoadError::new(self.name(), what, "it must name fewer"));
        }
        let db_independent = properties.contains(&wire::Property::DbIndependent);
        let format = match instance.funcs.codec {
            Some((format, _)) => {
                let named = instance.call::<_, (String,)>(&format, deadline, ()).map_err(|fault| self.unfit(fault))?.0;
                Some(self.checked(named)?)
            }
            None => None,
        };
        Ok((Descriptor { name, version, prefixes, db_independent, counters }, format))
    }

    /// What a codec calls its format is written into files and into lines of a protocol.
    fn checked(&self, format: String) -> Result<String, LoadError> {
        if pack::is_format(&format) {
            return Ok(format);
        }
        let shown: String = format.chars().take(100).collect();
        let what = format!("it calls its format `{}`", shown.escape_debug());
        Err(LoadError::new(self.name(), what, "a format's name is 1 to 64 lower-case letters, digits and -._"))
    }

    /// The error of a plugin that cannot be started.
    pub(crate) fn unfit(&self, fault: Fault) -> LoadError {
        let (Fault::Broken(what) | Fault::Deadline(what) | Fault::Rejected(what) | Fault::Final(what)) = fault;
        LoadError::new(self.name(), format!("it did not start: {what}"), "check its settings")
    }
}

/// A component as it is, a core module with an embedded component type made one.
fn componentize(name: &str, wasm: Cow<'static, [u8]>, max: usize) -> Result<Cow<'static, [u8]>, LoadError> {
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if wasm.len() > max {
        let what = format!("{} bytes are more than the {max} that a component may have", wasm.len());
        return Err(LoadError::new(name, what, "make it smaller or raise the limit"));
    }
    if !wasm.starts_with(CORE_MODULE) {
        return Ok(wasm);
    }
    let encode = || {
        let mut encoder = wit_component::ComponentEncoder::default();
        encoder.validate(true).module(&wasm)?.encode()
    };
    // The encoder trusts the section lengths of what it is given, and panics where a file is cut short.
    let error = match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(Ok(component)) => return Ok(Cow::Owned(component)),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "the file is damaged".into(),
    };
    let what = format!("a module that is no component: {error}");
    Err(LoadError::new(name, what, "is it whole, and built with the SDK's `export!`?"))
}

/// Where the exports of the contract are in a component.
pub(crate) struct Exports {
    describe: ComponentExportIndex,
    init: ComponentExportIndex,
    filter: Option<ComponentExportIndex>,
    filter_frames: Option<ComponentExportIndex>,
    transform: Option<(ComponentExportIndex, ComponentExportIndex)>,
    codec: Option<CodecExports>,
}

/// A codec's exports. One that has both shapes is used as a block codec: it costs one call a block instead of several.
enum CodecExports {
    Block { format: ComponentExportIndex, encode: ComponentExportIndex, decode: ComponentExportIndex },
    Stream { format: ComponentExportIndex, encoder: [ComponentExportIndex; 3], decoder: [ComponentExportIndex; 3] },
}

impl CodecExports {
    fn find(find: impl Fn(&str, &str) -> Option<ComponentExportIndex>) -> Option<Self> {
        let block = |function| find("block-codec", function);
        if let (Some(format), Some(encode), Some(decode)) = (block("format"), block("encode"), block("decode")) {
            return Some(Self::Block { format, encode, decode });
        }
        let stream = |function: &str| find("stream-codec", function);
        let direction = |name: &str| {
            let open = stream(&format!("open-{name}"))?;
            let push = stream(&format!("[method]{name}.push"))?;
            Some([open, push, stream(&format!("[static]{name}.finish"))?])
        };
        let format = stream("format")?;
        Some(Self::Stream { format, encoder: direction("encoder")?, decoder: direction("decoder")? })
    }

    /// The functions in one instance: the one that names the format, and those that pack.
    fn funcs(&self, mut get: impl FnMut(&ComponentExportIndex) -> Result<Func>) -> Result<(Func, CodecFuncs)> {
        let mut direction = |[open, push, finish]: &[ComponentExportIndex; 3]| -> Result<StreamFuncs> {
            Ok(StreamFuncs { open: get(open)?, push: get(push)?, finish: get(finish)? })
        };
        Ok(match self {
            Self::Block { format, encode, decode } => {
                (get(format)?, CodecFuncs::Block { encode: get(encode)?, decode: get(decode)? })
            }
            Self::Stream { format, encoder, decoder } => {
                let (encoder, decoder) = (direction(encoder)?, direction(decoder)?);
                (get(format)?, CodecFuncs::Stream { encoder, decoder })
            }
        })
    }
}

impl Exports {
    fn find(plugin: &str, component: &Component) -> Result<Self, LoadError> {
        // Look-up follows the rules of versions: 0.1.0 finds 0.1.x.
        let find = |interface: &str, function: &str| {
            let interface = component.get_export_index(None, format!("sluicegate:plugin/{interface}@0.1.0"))?;
            component.get_export_index(Some(&interface), function)
        };
        let (Some(describe), Some(init)) = (find("lifecycle", "describe"), find("lifecycle", "init")) else {
            let ty = component.component_type();
            let other = ty.exports(component.engine()).find(|(name, _)| name.starts_with("sluicegate:plugin/"));
            return Err(match other {
                Some((name, _)) => imports::other_version(plugin, name),
                None => LoadError::new(plugin, "it does not export sluicegate:plugin/lifecycle", "it is no plugin"),
            });
        };
        let exports = Self {
            describe,
            init,
            filter: find("key-filter", "filter"),
            filter_frames: find("frame-filter", "filter"),
            transform: find("key-transform", "rename").zip(find("key-transform", "original")),
            codec: CodecExports::find(find),
        };
        let decides = exports.has_filter() || exports.has_frame_filter() || exports.has_transform();
        if !decides && exports.codec.is_none() {
            let what = "it exports none of key-filter, frame-filter, key-transform, block-codec, stream-codec";
            return Err(LoadError::new(plugin, what, "it has nothing to decide or to pack"));
        }
        Ok(exports)
    }

    /// The functions in one instance.
    pub(crate) fn funcs(&self, store: &mut Store<State>, made: &wasmtime::component::Instance) -> Result<Funcs> {
        let mut get = |index: &ComponentExportIndex| {
            made.get_func(&mut *store, index).ok_or_else(|| format_err!("an export is not a function"))
        };
        let codec = self.codec.as_ref().map(|codec| codec.funcs(&mut get)).transpose()?;
        let mut optional = |index: Option<&ComponentExportIndex>| index.map(&mut get).transpose();
        let (rename, original) = (self.transform.as_ref().map(|t| &t.0), self.transform.as_ref().map(|t| &t.1));
        Ok(Funcs {
            filter: optional(self.filter.as_ref())?,
            filter_frames: optional(self.filter_frames.as_ref())?,
            rename: optional(rename)?,
            original: optional(original)?,
            codec,
            describe: get(&self.describe)?,
            init: get(&self.init)?,
        })
    }

    pub(crate) fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    pub(crate) fn has_frame_filter(&self) -> bool {
        self.filter_frames.is_some()
    }

    pub(crate) fn has_transform(&self) -> bool {
        self.transform.is_some()
    }
}
