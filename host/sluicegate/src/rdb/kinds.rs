//! What the type bytes mean.

use sluicegate_core::rdb::Family;

/// What a value is made of, whatever its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
    Module,
    /// One that is walked, but not looked into.
    Other,
}

impl Type {
    /// As `TYPE` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Module => "module",
            Self::Other => "other",
        }
    }

    /// What its elements are called: one of them.
    pub(super) fn part(self) -> &'static str {
        match self {
            Self::String => "byte",
            Self::SortedSet | Self::Set => "member",
            Self::Hash => "field",
            Self::Stream => "entry",
            Self::List | Self::Module | Self::Other => "element",
        }
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One string.
    Text,
    /// So many strings.
    Texts,
    /// Pairs of strings: fields and values.
    Pairs,
    /// Strings with scores in decimal.
    Scores,
    /// Strings with scores in eight bytes.
    BinaryScores,
    /// Fields, values and expiries: absolute, or -1.
    Expiring,
    /// The smallest expiry; then expiries relative to it (0: none), fields, values.
    ExpiringFrom,
    /// The smallest expiry; then a listpack of fields, values and expiries (0: none).
    ExpiringListpack,
    /// One intset.
    Intset,
    /// One ziplist.
    Ziplist,
    /// One listpack.
    Listpack,
    /// So many ziplists.
    Ziplists,
    /// So many nodes: how each is stored, and then a listpack or an element.
    Nodes,
    /// A stream of the first, second or third layout.
    Stream(u8),
    /// Not looked into.
    Closed,
}

impl Encoding {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Texts | Self::Pairs | Self::Scores | Self::BinaryScores => "plain",
            Self::Expiring | Self::ExpiringFrom => "plain, fields may expire",
            Self::ExpiringListpack => "listpack, fields may expire",
            Self::Intset => "intset",
            Self::Ziplist => "ziplist",
            Self::Listpack => "listpack",
            Self::Ziplists => "ziplists",
            Self::Nodes | Self::Stream(_) => "listpacks",
            Self::Closed => "not looked into",
        }
    }
}

/// The type and encoding that a type byte of a family stands for.
pub(super) fn meaning(family: Family, kind: u8) -> (Type, Encoding) {
    match kind {
        0 => (Type::String, Encoding::Text),
        1 => (Type::List, Encoding::Texts),
        2 => (Type::Set, Encoding::Texts),
        3 => (Type::SortedSet, Encoding::Scores),
        4 => (Type::Hash, Encoding::Pairs),
        5 => (Type::SortedSet, Encoding::BinaryScores),
        6 | 7 => (Type::Module, Encoding::Closed),
        // A zipmap: nothing has written one since 2.6.
        9 => (Type::Hash, Encoding::Closed),
        10 => (Type::List, Encoding::Ziplist),
        11 => (Type::Set, Encoding::Intset),
        12 => (Type::SortedSet, Encoding::Ziplist),
        13 => (Type::Hash, Encoding::Ziplist),
        14 => (Type::List, Encoding::Ziplists),
        15 => (Type::Stream, Encoding::Stream(1)),
        16 => (Type::Hash, Encoding::Listpack),
        17 => (Type::SortedSet, Encoding::Listpack),
        18 => (Type::List, Encoding::Nodes),
        19 => (Type::Stream, Encoding::Stream(2)),
        20 => (Type::Set, Encoding::Listpack),
        21 => (Type::Stream, Encoding::Stream(3)),
        22 if family == Family::Valkey => (Type::Hash, Encoding::Expiring),
        24 if family == Family::Redis => (Type::Hash, Encoding::ExpiringFrom),
        25 if family == Family::Redis => (Type::Hash, Encoding::ExpiringListpack),
        _ => (Type::Other, Encoding::Closed),
    }
}
