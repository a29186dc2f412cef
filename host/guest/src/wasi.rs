//! WASI without authority. What ordinary toolchains link in is answered so that their programs start: no arguments, no
//! environment, output to the log, a clock that stands at zero, the same "random" bytes every time. Everything else traps
//! and names the function.

use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Linker, Resource, ResourceAny, ResourceType, Val};
use wasmtime::{Engine, Result, StoreContextMut, bail};

use crate::instance::State;
use crate::spec::limits;
use crate::wire::LogLevel;

/// Every resource of the shim. Which one it is, if it matters, is in its representation.
struct Shim;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const POLLABLE: u32 = 3;

/// What one write may hand over. Bytes.
const WRITE_BYTES: u64 = 4096;
/// What one request for random bytes may ask for. Bytes.
const RANDOM_BYTES: u64 = 4096;

/// Whether the shim takes this import.
pub(crate) fn answers(name: &str) -> bool {
    name.starts_with("wasi:") && name.contains("@0.2.")
}

/// Defines every function and resource that the component wants of one interface.
pub(crate) fn define(
    linker: &mut Linker<State>,
    name: &str,
    wanted: &ComponentInstance,
    engine: &Engine,
) -> Result<()> {
    let mut instance = linker.instance(name)?;
    let interface = name.split('@').next().unwrap_or(name);
    for (item, wanted) in wanted.exports(engine) {
        match wanted.ty {
            ComponentItem::Resource(_) => instance.resource(item, ResourceType::host::<Shim>(), |_, _| Ok(()))?,
            ComponentItem::ComponentFunc(_) => {
                let function = format!("{interface}#{item}");
                instance.func_new(item, move |mut store, _, arguments, results| {
                    let mut borrowed = Vec::new();
                    give_back(&mut store, arguments, &mut borrowed)?;
                    let answer = answer(&mut store, &function, arguments, &borrowed)?;
                    match (results, answer) {
                        ([], None) => Ok(()),
                        ([result], Some(answer)) => {
                            *result = answer;
                            Ok(())
                        }
                        _ => bail!("`{function}` has another type than in WASI 0.2"),
                    }
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The answer of one function, or a trap.
fn answer(
    store: &mut StoreContextMut<'_, State>,
    function: &str,
    arguments: &[Val],
    borrowed: &[u32],
) -> Result<Option<Val>> {
    let ok = |value: Option<Val>| Some(Val::Result(Ok(value.map(Box::new))));
    let none = || Some(Val::Option(None));
    Ok(match function {
        "wasi:cli/environment#get-environment" | "wasi:cli/environment#get-arguments" => Some(Val::List(Vec::new())),
        "wasi:cli/environment#initial-cwd" => none(),
        "wasi:filesystem/preopens#get-directories" => Some(Val::List(Vec::new())),
        "wasi:cli/terminal-stdin#get-terminal-stdin"
        | "wasi:cli/terminal-stdout#get-terminal-stdout"
        | "wasi:cli/terminal-stderr#get-terminal-stderr" => none(),
        "wasi:cli/stdin#get-stdin" => Some(resource(store, STDIN)?),
        "wasi:cli/stdout#get-stdout" => Some(resource(store, STDOUT)?),
        "wasi:cli/stderr#get-stderr" => Some(resource(store, STDERR)?),
        "wasi:io/streams#[method]input-stream.read" | "wasi:io/streams#[method]input-stream.blocking-read" => {
            Some(Val::Result(Err(Some(Box::new(Val::Variant("closed".into(), None))))))
        }
        "wasi:io/streams#[method]output-stream.check-write" => ok(Some(Val::U64(WRITE_BYTES))),
        "wasi:io/streams#[method]output-stream.flush" | "wasi:io/streams#[method]output-stream.blocking-flush" => {
            ok(None)
        }
        "wasi:io/streams#[method]output-stream.write"
        | "wasi:io/streams#[method]output-stream.blocking-write-and-flush" => {
            write(store, arguments, borrowed)?;
            ok(None)
        }
        "wasi:io/streams#[method]input-stream.subscribe"
        | "wasi:io/streams#[method]output-stream.subscribe"
        | "wasi:clocks/monotonic-clock#subscribe-instant"
        | "wasi:clocks/monotonic-clock#subscribe-duration" => Some(resource(store, POLLABLE)?),
        "wasi:io/poll#[method]pollable.ready" => Some(Val::Bool(true)),
        "wasi:io/poll#[method]pollable.block" => None,
        "wasi:io/error#[method]error.to-debug-string" => Some(Val::String("error".into())),
        "wasi:clocks/monotonic-clock#now" => Some(Val::U64(0)),
        "wasi:clocks/monotonic-clock#resolution" => Some(Val::U64(1)),
        "wasi:clocks/wall-clock#now" | "wasi:clocks/wall-clock#resolution" => {
            Some(Val::Record(vec![("seconds".into(), Val::U64(0)), ("nanoseconds".into(), Val::U32(0))]))
        }
        "wasi:random/random#get-random-u64" | "wasi:random/insecure#get-insecure-random-u64" => Some(Val::U64(0)),
        "wasi:random/insecure-seed#insecure-seed" => Some(Val::Tuple(vec![Val::U64(0), Val::U64(0)])),
        "wasi:random/random#get-random-bytes" | "wasi:random/insecure#get-insecure-random-bytes" => match arguments {
            [Val::U64(length @ 0..=RANDOM_BYTES)] => Some(Val::List(vec![Val::U8(0); *length as usize])),
            _ => bail!("`{function}` was asked for more than {RANDOM_BYTES} bytes"),
        },
        "wasi:cli/exit#exit" | "wasi:cli/exit#exit-with-code" => bail!("the plugin called `{function}`"),
        _ => bail!("the plugin called `{function}`, which plugins are not given"),
    })
}

fn resource(store: &mut StoreContextMut<'_, State>, which: u32) -> Result<Val> {
    Ok(Val::Resource(ResourceAny::try_from_resource(Resource::<Shim>::new_own(which), store)?))
}

/// Ends the borrows that came with a call, since they may not outlive it, and tells what they stood for.
fn give_back(store: &mut StoreContextMut<'_, State>, arguments: &[Val], borrowed: &mut Vec<u32>) -> Result<()> {
    for argument in arguments {
        match argument {
            Val::Resource(resource) if !resource.owned() => {
                borrowed.push(resource.try_into_resource::<Shim>(&mut *store)?.rep());
            }
            Val::List(listed) => give_back(store, listed, borrowed)?,
            _ => {}
        }
    }
    Ok(())
}

/// Bytes to one of the two outputs, which go to the log line by line.
fn write(store: &mut StoreContextMut<'_, State>, arguments: &[Val], borrowed: &[u32]) -> Result<()> {
    let ([_, Val::List(bytes)], [which]) = (arguments, borrowed) else { bail!("a write without stream and bytes") };
    let bytes = bytes.iter().map(|byte| if let Val::U8(byte) = byte { *byte } else { b'?' });
    let State { output, log, .. } = store.data_mut();
    let (line, level) = match *which {
        STDERR => (&mut output.stderr, LogLevel::Warn),
        _ => (&mut output.stdout, LogLevel::Info),
    };
    for byte in bytes {
        if byte != b'\n' {
            line.push(byte);
        }
        if byte == b'\n' || line.len() >= limits::LOG_BYTES {
            log.message(level, &String::from_utf8_lossy(line));
            line.clear();
        }
    }
    Ok(())
}

/// Lines that have no end yet.
#[derive(Default)]
pub(crate) struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}
