//! Whole databases, channels, functions, scripts, and the stream's own business.

use super::Entry;
use crate::exact::draw::Draw;
use crate::exact::line::quote;

pub(super) const TEMPLATES: &[Entry] = &[
    ("flushall", |d| format!("FLUSHALL {}", d.pick(&["", "SYNC", "ASYNC"]))),
    ("flushdb", |d| format!("FLUSHDB {}", d.pick(&["", "SYNC", "ASYNC"]))),
    ("swapdb", |d| format!("SWAPDB {} {}", d.db(), d.db())),
    ("publish", |d| format!("PUBLISH news {}", d.value())),
    ("spublish", |d| format!("SPUBLISH news {}", d.value())),
    ("eval", |d| format!("EVAL {} {}", quote(SCRIPT.as_bytes()), script_arguments(d))),
    ("evalsha", evalsha),
    ("fcall", fcall),
    ("function|delete", |d| format!("{}\nFUNCTION DELETE lib{}", load(d), d.below(2))),
    ("function|flush", |d| format!("FUNCTION FLUSH {}", d.pick(&["", "SYNC", "ASYNC"]))),
    ("function|load", load),
    ("function|restore", restore),
    ("script|flush", |d| format!("SCRIPT FLUSH {}", d.pick(&["", "SYNC", "ASYNC"]))),
    ("script|load", |_| format!("SCRIPT LOAD {}", quote(SCRIPT.as_bytes()))),
    ("discard", |d| format!("MULTI\nSET {} discarded\nDISCARD", d.key("str"))),
    ("exec", |d| format!("MULTI\nSET {} {}\nINCR {}\nEXEC", d.key("str"), d.value(), d.key("num"))),
    ("multi", |d| format!("MULTI\nRPUSH {} {}\nSADD {} {}\nEXEC", d.key("list"), d.words(), d.key("set"), d.value())),
    // What a client pings stays with it; the primary pings its replicas by itself.
    ("ping", |d| format!("PING {}", d.word())),
    ("replconf|getack", |d| format!("SET {} {}\nWAIT 1 1", d.key("str"), d.value())),
    ("select", |d| format!("SELECT {}\nSET {} {}", d.db(), d.key("str"), d.value())),
];

/// Writes several keys; the last two are of one content.
pub(crate) const SCRIPT: &str = "redis.pcall('RPUSH', KEYS[1], ARGV[1]) redis.pcall('SADD', KEYS[2], ARGV[1], ARGV[2]) \
    redis.pcall('SPOP', KEYS[2]) redis.pcall('SET', KEYS[3], ARGV[2], 'EX', 7200) redis.call('DEL', KEYS[4]) \
    redis.call('SELECT', ARGV[3]) redis.pcall('INCRBYFLOAT', KEYS[5], '1.5') return redis.pcall('COPY', KEYS[3], KEYS[6])";

fn script_arguments(d: &mut Draw) -> String {
    let contents = ["list", "set", "str", "hash", "num", "str"];
    let keys = contents.map(|content| d.key(content)).join(" ");
    format!("6 {keys} {} {} {}", d.word(), d.value(), d.db())
}

fn evalsha(d: &mut Draw) -> String {
    let load = format!("SCRIPT LOAD {}", quote(SCRIPT.as_bytes()));
    let arguments = script_arguments(d);
    format!("{load}\nEVALSHA {} {arguments}", d.prepared.digest)
}

/// A library whose function writes what [`SCRIPT`] does, with a number that tells its versions apart.
fn load(d: &mut Draw) -> String {
    let (name, version) = (d.below(2), d.below(1000));
    let code = format!(
        "#!lua name=lib{name}\nredis.register_function('f{name}', function(KEYS, ARGV) local version = {version} {SCRIPT} end)"
    );
    format!("FUNCTION LOAD REPLACE {}", quote(code.as_bytes()))
}

fn fcall(d: &mut Draw) -> String {
    let before = if d.one_in(3) { format!("{}\n", load(d)) } else { String::new() };
    format!("{before}FCALL f{} {}", d.below(2), script_arguments(d))
}

fn restore(d: &mut Draw) -> String {
    let payload = quote(&d.prepared.libraries);
    format!("FUNCTION RESTORE {payload} {}", d.pick(&["FLUSH", "REPLACE", "REPLACE", "APPEND"]))
}
