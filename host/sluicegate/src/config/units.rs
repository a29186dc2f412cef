//! Sizes and times as operators write them: `"64mb"`, `"500ms"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A number of bytes. Written as in redis.conf: `kb`, `mb`, `gb` count 1024s, `k`, `m`, `g` count 1000s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A time, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) u64);

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" => 1_000,
            "kb" | "kib" => 1 << 10,
            "m" => 1_000_000,
            "mb" | "mib" => 1 << 20,
            "g" => 1_000_000_000,
            "gb" | "gib" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(factor).map(Self)
    }
}

impl Time {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(factor).map(Self)
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// The largest unit that divides the number, so that what is shown can be written back.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
        match units.iter().find(|(factor, _)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((factor, unit)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}b", self.0),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_millis(self.0))
    }
}

/// As the command line gives it.
impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "write a whole number and ms, s, m or h, like 10s".into())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size like \"64mb\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        Size::parse(text).ok_or_else(|| {
            E::custom(format!("bad size `{text}`: write a whole number and b, kb, mb or gb, like \"64mb\""))
        })
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes).map(Size).map_err(|_| E::custom(format!("bad size `{bytes}`: it is below zero")))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time like \"10s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        Time::parse(text).ok_or_else(|| {
            E::custom(format!("bad time `{text}`: write a whole number and ms, s, m or h, like \"10s\""))
        })
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Time, E> {
        Err(E::custom(format!("bad time `{number}`: it needs a unit, like \"{number}s\" or \"{number}ms\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Size, Time};

    #[test]
    fn sizes_mean_what_they_mean_in_redis_conf() {
        for (text, bytes) in [("0", 0), ("17b", 17), ("1k", 1000), ("1kb", 1024), ("64mb", 64 << 20), ("2 GB", 2 << 30)]
        {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "mb", "1.5gb", "-1mb", "64mx", "99999999999gb"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for (text, ms) in [("200ms", 200), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(Time::parse(text), Some(Time(ms)), "{text}");
        }
        for text in ["", "10", "s", "10 sec", "1.5s"] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_written_back() {
        for text in ["64mb", "1536kb", "3gb", "1000b"] {
            assert_eq!(Size::parse(text).map(|size| size.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Time(60_000).to_string(), "60s");
    }
}
