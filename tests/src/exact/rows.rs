//! What becomes of each row of the command table: which have a template, which never stand in a stream, and why.

use crate::server::Kind;

/// Rows that no client of these servers can bring about, each with its reason.
pub const UNPROVOKED: &[(&str, &str)] = &[
    ("delex", "only Redis 8.4 has it, which is none of the servers"),
    ("trimslots", "only a Redis 8.4 cluster sends it"),
    ("cluster", "stands for sub-commands that the table does not know"),
    ("cluster|flushslot", "only a cluster sends it, and no primary here is part of one"),
    ("cluster|setslot", "only a cluster sends it, and no primary here is part of one"),
    ("cluster|syncslots", "only a cluster sends it, and no primary here is part of one"),
    ("function", "stands for sub-commands that the table does not know"),
    ("replconf", "stands for sub-commands that the table does not know"),
    ("script", "stands for sub-commands that the table does not know"),
    ("xgroup", "stands for sub-commands that the table does not know"),
];

/// Rows which clients call and no primary of 7.0 or later sends, each with what it sends in their place.
pub const REWRITTEN: &[(&str, &str)] = &[
    ("blmove", "LMOVE"),
    ("blmpop", "LPOP or RPOP"),
    ("blpop", "LPOP"),
    ("brpop", "RPOP"),
    ("brpoplpush", "RPOPLPUSH"),
    ("bzmpop", "ZPOPMIN or ZPOPMAX"),
    ("bzpopmax", "ZPOPMAX"),
    ("bzpopmin", "ZPOPMIN"),
    ("delifeq", "DEL or UNLINK"),
    ("discard", "nothing"),
    ("eval", "what the script wrote"),
    ("evalsha", "what the script wrote"),
    ("expire", "PEXPIREAT or DEL"),
    ("expireat", "PEXPIREAT or DEL"),
    ("fcall", "what the function wrote"),
    ("geoadd", "ZADD"),
    ("getdel", "DEL or UNLINK"),
    ("getex", "PEXPIREAT, PERSIST or DEL"),
    ("getset", "SET"),
    ("hexpire", "HPEXPIREAT or HDEL"),
    ("hexpireat", "HPEXPIREAT or HDEL"),
    ("hgetex", "HPEXPIREAT, HPERSIST or HDEL"),
    ("hincrbyfloat", "HSET or HSETEX"),
    ("hpexpire", "HPEXPIREAT or HDEL"),
    ("incrbyfloat", "SET"),
    ("lmpop", "LPOP or RPOP"),
    ("migrate", "DEL or UNLINK"),
    ("pexpire", "PEXPIREAT or DEL"),
    ("psetex", "SET"),
    ("script|flush", "nothing"),
    ("script|load", "nothing"),
    ("setex", "SET"),
    ("spop", "SREM, DEL or UNLINK"),
    ("xautoclaim", "XCLAIM"),
    ("xreadgroup", "XCLAIM and XGROUP SETID"),
    ("zmpop", "ZPOPMIN or ZPOPMAX"),
];

/// Rows that one server alone sends as something else.
const REWRITTEN_BY: &[(Kind, &str)] = &[(Kind::Redis82, "hgetdel")];

/// Rows whose frames change nothing that a comparison of keys could see.
pub const UNSEEN: &[&str] = &[
    "exec",
    "function|flush",
    "multi",
    "pfcount",
    "pfdebug",
    "ping",
    "publish",
    "replconf|getack",
    "select",
    "spublish",
];

/// Whether `server`, which has the command, never sends this row.
pub fn is_rewritten(row: &str, server: Kind) -> bool {
    REWRITTEN.iter().any(|&(name, _)| name == row) || REWRITTEN_BY.contains(&(server, row))
}

/// Why nothing provokes this row.
pub fn unprovoked(row: &str) -> Option<&'static str> {
    UNPROVOKED.iter().find(|&&(name, _)| name == row).map(|&(_, why)| why)
}

/// The rows that have a template, in order.
pub fn with_template() -> Vec<&'static str> {
    super::templates::all().map(|(name, _)| name).collect()
}
