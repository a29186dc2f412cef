//! What templates draw from: few keys, few members, few numbers, so that commands meet.

use fastrand::Rng;

use super::line::quote;
use crate::server::Kind;

/// The databases that are written to.
pub(crate) const DATABASES: [u32; 4] = [0, 1, 3, 9];

/// What a key's name says of its usual content.
pub(crate) const CONTENTS: [&str; 13] =
    ["str", "num", "bits", "list", "nums", "set", "ints", "zset", "geo", "hash", "xs", "hll", "vec"];

/// What keys hold whose members all have the score 0: what servers do by the names of members of different scores is
/// left open by them. No other content ever gets into such keys.
pub(crate) const LEXICAL: &str = "lex";

/// Which keys may meet in one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// A command that carries data between keys has kept and renamed keys, or dropped ones.
    Separate,
    /// Any.
    Any,
}

/// The fates of keys, which are the first parts of their names.
const FATES: [&str; 3] = ["keep", "ren", "drop"];

/// Values and scripts that a server made before the first command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    /// What DUMP gives of a key of each content.
    pub dumps: Vec<Vec<u8>>,
    /// What FUNCTION DUMP gives.
    pub libraries: Vec<u8>,
    /// The digest of [`SCRIPT`](super::templates::SCRIPT).
    pub digest: String,
    /// The port of another primary, to which keys can be migrated.
    pub neighbour: u16,
}

/// A source of chance, and all that a template may ask.
#[derive(Debug)]
pub(crate) struct Draw {
    rng: Rng,
    /// Which server the commands are for.
    pub server: Kind,
    /// What a server made before.
    pub prepared: Prepared,
    mix: Mix,
    /// With [`Mix::Separate`]: whether the command under way has dropped keys.
    dropped: bool,
    entry: u64,
}

impl Draw {
    /// All that follows is determined by the seed and by what the server knows.
    pub(crate) fn new(seed: u64, server: Kind, prepared: Prepared, mix: Mix) -> Self {
        Self { rng: Rng::with_seed(seed), server, prepared, mix, dropped: false, entry: 0 }
    }

    /// Another command begins.
    pub(crate) fn begin(&mut self) {
        self.dropped = self.one_in(3);
    }

    /// Whether keys of different fates may meet.
    pub(crate) fn mixes(&self) -> bool {
        self.mix == Mix::Any
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.rng.u32(0..bound)
    }

    /// True in one of `n` cases.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(0..choices.len())]
    }

    /// `words` in one of `n` cases, else nothing.
    pub(crate) fn maybe<'a>(&mut self, n: u32, words: &'a str) -> &'a str {
        if self.one_in(n) { words } else { "" }
    }

    /// A database's number.
    pub(crate) fn db(&mut self) -> u32 {
        self.pick(&DATABASES)
    }

    /// A key that usually holds `content`, of the fate that the command under way allows.
    pub(crate) fn key(&mut self, content: &str) -> String {
        match (self.mix, self.dropped) {
            (Mix::Any, _) => self.any_key(content),
            (Mix::Separate, true) => self.key_of("drop", content),
            (Mix::Separate, false) => {
                let fate = self.pick(&FATES[..2]);
                self.key_of(fate, content)
            }
        }
    }

    /// A key of any fate, for commands that treat each of their keys by itself.
    pub(crate) fn any_key(&mut self, content: &str) -> String {
        let fate = self.pick(&FATES);
        self.key_of(fate, content)
    }

    fn key_of(&mut self, fate: &str, content: &str) -> String {
        // Wrong types are a part of life, but members of other scores must not get to where only their names count.
        let content = if content != LEXICAL && self.one_in(40) { self.content() } else { content };
        match self.below(3) {
            // Long enough to be compressed in a snapshot.
            2 => format!("{fate}:{content}:{}", "abcabc".repeat(8)),
            n => format!("{fate}:{content}:{n}"),
        }
    }

    /// What keys are made to hold.
    pub(crate) fn content(&mut self) -> &'static str {
        self.pick(&CONTENTS)
    }

    /// `count` keys, with blanks between them.
    pub(crate) fn keys(&mut self, count: u32, content: &str) -> String {
        let keys: Vec<String> = (0..count).map(|_| self.key(content)).collect();
        keys.join(" ")
    }

    /// One to four keys of any fate, with blanks between them.
    pub(crate) fn any_keys(&mut self, content: &str) -> String {
        let keys: Vec<String> = (0..=self.below(4)).map(|_| self.any_key(content)).collect();
        keys.join(" ")
    }

    /// A count of keys, then the keys.
    pub(crate) fn counted(&mut self, content: &str) -> String {
        let count = 1 + self.below(3);
        format!("{count} {}", self.keys(count, content))
    }

    /// A member, field or list element, out of few.
    pub(crate) fn word(&mut self) -> String {
        match self.below(12) {
            0 => "longer-".repeat(12),
            1 => format!("-{}", self.below(3)),
            2..5 => self.below(4).to_string(),
            n => format!("w{n}"),
        }
    }

    /// One to four members.
    pub(crate) fn words(&mut self) -> String {
        let words: Vec<String> = (0..=self.below(4)).map(|_| self.word()).collect();
        words.join(" ")
    }

    /// `FIELDS n f…`
    pub(crate) fn fields(&mut self) -> String {
        let count = 1 + self.below(3);
        // Each once: servers refuse the same field twice in some of these commands.
        let first = self.below(8);
        let fields: Vec<String> = (0..count).map(|n| format!("w{}", 5 + (first + n) % 7)).collect();
        format!("FIELDS {count} {}", fields.join(" "))
    }

    /// A value of any bytes, as one word.
    pub(crate) fn value(&mut self) -> String {
        match self.below(12) {
            0..5 => self.word(),
            5..7 => quote(b"\r\n*3\r\n$3\r\nSET\r\n\0\xff"),
            7 => "z".repeat(self.below(300) as usize + 1),
            8 => quote(b""),
            _ => {
                let bytes: Vec<u8> = (0..self.below(24)).map(|_| self.rng.u8(..)).collect();
                quote(&bytes)
            }
        }
    }

    /// A small number with a sign.
    pub(crate) fn number(&mut self) -> i64 {
        i64::from(self.below(60)) - 20
    }

    /// A score.
    pub(crate) fn score(&mut self) -> String {
        match self.below(12) {
            0 => "inf".into(),
            1 => "-inf".into(),
            2 => format!("{}.25", self.number()),
            _ => self.number().to_string(),
        }
    }

    /// The index of an element, from either end.
    pub(crate) fn index(&mut self) -> i64 {
        i64::from(self.below(9)) - 3
    }

    /// A lifetime in seconds that outlives the story.
    pub(crate) fn seconds(&mut self) -> u64 {
        u64::from(3_600 + self.below(100_000))
    }

    /// Unix seconds long after the story.
    pub(crate) fn later(&mut self) -> u64 {
        4_000_000_000 + self.seconds()
    }

    /// A lifetime in milliseconds that ends within the story.
    pub(crate) fn moment(&mut self) -> u32 {
        1 + self.below(40)
    }

    /// The id of a new stream entry.
    pub(crate) fn next_entry(&mut self) -> String {
        self.entry += 1;
        format!("{}-1", self.entry)
    }

    /// The id of an entry that may be there.
    pub(crate) fn entry(&mut self) -> String {
        format!("{}-1", self.entry.saturating_sub(u64::from(self.below(150))).max(1))
    }

    /// A consumer group and one of its consumers.
    pub(crate) fn group(&mut self) -> (&'static str, &'static str) {
        (self.pick(&["g0", "g1"]), self.pick(&["c0", "c1"]))
    }
}
