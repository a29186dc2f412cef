//! Two readings, side by side: whether they are equal, and where they part, in words.

use super::elements::{Element, Elements};
use super::reading::{Expiry, Held, Reading};

/// Bytes of an element that are shown.
const SHOWN: usize = 48;
/// Elements that are named of those that only one side has.
const NAMED: usize = 3;
/// Bytes before the place where two elements part that are shown.
const CONTEXT: usize = 16;

/// What has to be made allowance for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    /// A primary before 7.0 sends how long it is until an expiry, which takes time to arrive.
    pub(super) expiry_ms: i64,
    /// Whether what is known to be kept from replicas is told apart.
    pub(super) known_faults: bool,
}

/// A difference between a key and what the replica has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    /// The replica lacks it.
    Missing,
    /// The replica has it and must not.
    Extra,
    /// Type, value or expiry.
    Different,
    /// It is known that servers do not tell their replicas.
    KnownFault,
    /// It could not be found out.
    Undecided,
}

/// Whether the replica has what it must have.
pub(super) fn agree(must: &Reading, is: &Reading, rules: Rules) -> bool {
    match (must, is) {
        (Reading::Absent, Reading::Absent) => true,
        (Reading::Held(must), Reading::Held(is)) => {
            must.digest() == is.digest() && must.expiry.agrees(is.expiry, rules.expiry_ms)
        }
        _ => false,
    }
}

/// What is wrong, when it is settled that something is.
pub(super) fn describe(must: &Reading, is: &Reading, rules: Rules) -> (Class, String) {
    match (must, is) {
        (Reading::Held(must), Reading::Absent) => {
            let class = if rules.known_faults && is_unsaid(must) { Class::KnownFault } else { Class::Missing };
            (class, format!("missing: {}", summary(must)))
        }
        (Reading::Absent, Reading::Held(is)) => (Class::Extra, format!("extra: {}", summary(is))),
        (Reading::Held(must), Reading::Held(is)) => contrast(must, is, rules),
        _ => (Class::Undecided, "it changes all the time".into()),
    }
}

/// A string of nothing but zeroes: what `BITFIELD … OVERFLOW FAIL` leaves of a key that was not there, telling nobody.
fn is_unsaid(must: &Held) -> bool {
    let is_zero = |element: &Element| element.text.iter().all(|byte| *byte == 0);
    let is_short = |element: &Element| element.text.len() as u64 == must.value.count;
    let is_bare = must.kind == "string" && must.expiry == Expiry::Never;
    is_bare && must.value.held.iter().all(|element| is_zero(element) && is_short(element))
}

fn contrast(must: &Held, is: &Held, rules: Rules) -> (Class, String) {
    if must.kind != is.kind {
        return (Class::Different, format!("type: is {}, must be {}", is.kind, must.kind));
    }
    let mut words = Vec::new();
    if !must.expiry.agrees(is.expiry, rules.expiry_ms) {
        words.push(format!("expiry: is {}, must be {}", moment(is.expiry), moment(must.expiry)));
    }
    let is_expiry_right = words.is_empty();
    let is_value_right = must.value.digest == is.value.digest;
    if !is_value_right {
        match must.is_opaque {
            true => words.push("value: only DUMP reads this type, and the DUMPs differ".into()),
            false => words.push(elements(must, is)),
        }
    }
    if must.about.digest != is.about.digest {
        words.push(sets(&must.about, &is.about, must.kind.as_str()));
    }
    let class = match (is_expiry_right, is_value_right) {
        (true, false) if must.is_opaque => Class::Undecided,
        (true, true) if rules.known_faults && must.told.digest == is.told.digest => Class::KnownFault,
        _ => Class::Different,
    };
    (class, words.join("; "))
}

fn elements(must: &Held, is: &Held) -> String {
    let noun = noun(&must.kind);
    let mut words = "value: ".to_owned();
    if must.value.count != is.value.count {
        words += &format!("has {}, must have {}; ", counted(is), must.value.count);
    }
    words
        + &match (must.kind.as_str(), must.value.ordered) {
            ("string", _) => texts(must.value.held.first(), is.value.held.first()),
            (_, true) => first_of_list(&must.value, &is.value, noun),
            _ => sets(&must.value, &is.value, noun),
        }
}

fn first_of_list(must: &Elements, is: &Elements, noun: &str) -> String {
    let longest = must.held.len().max(is.held.len());
    let place = (0..longest).find(|place| must.held.get(*place) != is.held.get(*place));
    match place.map(|place| (place, must.held.get(place), is.held.get(place))) {
        Some((place, Some(must), Some(is))) => format!("of the {noun}, number {place} {}", texts(Some(must), Some(is))),
        Some((place, Some(must), None)) if is.is_whole() => format!("lacks {} at number {place}", shown(must, 0)),
        Some((place, None, Some(is))) if must.is_whole() => format!("must not have {} at number {place}", shown(is, 0)),
        _ => format!("differs behind the first {} {noun}", must.held.len().min(is.held.len())),
    }
}

fn sets(must: &Elements, is: &Elements, noun: &str) -> String {
    let list = |verb: &str, elements: Vec<&Element>| {
        let shown = elements.iter().map(|element| shown(element, 0)).collect::<Vec<_>>().join(", ");
        (!elements.is_empty()).then(|| format!("{verb} {shown}"))
    };
    let lacked = list("lacks", must.not_in(is, NAMED));
    let more = list("must not have", is.not_in(must, NAMED));
    match (lacked, more) {
        (None, None) => format!("the {noun} differ"),
        (lacked, more) => lacked.into_iter().chain(more).collect::<Vec<_>>().join(", "),
    }
}

/// Two texts from a little before the place where they part.
fn texts(must: Option<&Element>, is: Option<&Element>) -> String {
    let (Some(must), Some(is)) = (must, is) else { return "is empty on one side".into() };
    let same = must.text.iter().zip(&is.text).take_while(|(must, is)| must == is).count();
    if same == must.text.len() && same == is.text.len() {
        return format!("differs behind its first {same} bytes");
    }
    let from = if same > SHOWN / 2 { same - CONTEXT } else { 0 };
    format!("is {}, must be {}", shown(is, from), shown(must, from))
}

fn shown(element: &Element, from: usize) -> String {
    let rest = &element.text[from.min(element.text.len())..];
    let (before, after) = (if from > 0 { "…" } else { "" }, if rest.len() > SHOWN { "…" } else { "" });
    format!("\"{before}{}{after}\"", rest[..rest.len().min(SHOWN)].escape_ascii())
}

fn summary(held: &Held) -> String {
    let expires = match held.expiry {
        Expiry::Never => String::new(),
        expiry => format!(", expires {}", moment(expiry)),
    };
    match held.is_opaque {
        true => format!("{}{expires}", held.kind),
        false => format!("{} of {}{expires}", held.kind, counted(held)),
    }
}

fn moment(expiry: Expiry) -> String {
    match expiry {
        Expiry::Never => "never".into(),
        Expiry::Between(from, to) if from == to => from.to_string(),
        Expiry::Between(from, to) => format!("{from} to {to}"),
    }
}

/// `3 elements`, `1 entry`
fn counted(held: &Held) -> String {
    let noun = match (held.value.count, noun(&held.kind)) {
        (1, "entries") => "entry",
        (1, noun) => noun.trim_end_matches('s'),
        (_, noun) => noun,
    };
    format!("{} {noun}", held.value.count)
}

fn noun(kind: &str) -> &'static str {
    match kind {
        "string" => "bytes",
        "list" => "elements",
        "hash" => "fields",
        "stream" => "entries",
        _ => "members",
    }
}
