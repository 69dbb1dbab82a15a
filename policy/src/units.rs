//! Units as they are written in configuration files.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in Go's notation (`1h30m`, `300ms`, `1.5s`). Zero (`0`, `0s` or an empty string) means "off" or
/// "unlimited" wherever a setting says so. Range: 0 to 292 years, resolution one nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(Duration);

impl GoDuration {
    /// Zero: "off" wherever a setting says so.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A duration of `d`.
    pub const fn new(d: Duration) -> Self {
        Self(d)
    }
    /// A duration of whole seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
    /// A duration of whole milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
    /// The duration, zero included.
    pub const fn get(self) -> Duration {
        self.0
    }
    /// `None` where zero stands for "off".
    pub fn non_zero(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

/// The text is no duration. The message names the value, cut to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {value:?}: {reason}")]
pub struct DurationError {
    /// What was written.
    value: String,
    /// What is wrong with it.
    reason: &'static str,
}

const HOW: &str = "write it like 300ms, 1.5s or 1h30m";
const TOO_LONG: &str = "at most 292 years";
/// Go counts nanoseconds in an i64.
const MOST_NANOS: u128 = i64::MAX as u128;

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text).map_err(|reason| DurationError { value: text.chars().take(64).collect(), reason })
    }
}

fn parse(text: &str) -> Result<GoDuration, &'static str> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err("a duration cannot be negative");
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if text.is_empty() || rest == "0" {
        return Ok(GoDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(HOW);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, tail) = term(rest)?;
        nanos += part;
        if nanos > MOST_NANOS {
            return Err(TOO_LONG);
        }
        rest = tail;
    }
    let nanos = u64::try_from(nanos).map_err(|_| TOO_LONG)?;
    Ok(GoDuration(Duration::from_nanos(nanos)))
}

/// One `<number><unit>`: its nanoseconds, and what follows.
fn term(text: &str) -> Result<(u128, &str), &'static str> {
    let end =
        text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("the unit is missing (ns, us, ms, s, m, h)")?;
    let (number, tail) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(HOW);
    }
    let (unit, tail) = unit(tail)?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| TOO_LONG)?.into() };
    let mut nanos = whole * unit;
    // Like Go, digits below a nanosecond are cut off.
    let mut scale = unit;
    for digit in fraction.bytes() {
        if scale == 0 {
            break;
        }
        nanos += u128::from(digit - b'0') * scale / 10;
        // Each digit is worth a tenth of the one before; units of minutes and hours leave no remainder that matters.
        scale = scale.div_euclid(10);
    }
    Ok((nanos, tail))
}

fn unit(text: &str) -> Result<(u128, &str), &'static str> {
    // Longer names first: "ms" begins with "m".
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS
        .iter()
        .find_map(|(name, nanos)| text.strip_prefix(name).map(|tail| (*nanos, tail)))
        .ok_or("the unit must be one of ns, us, ms, s, m, h")
}

impl fmt::Display for GoDuration {
    /// Go's form: `1h30m0s`, `1.5s`, `300ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let seconds = nanos / 1_000_000_000;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

fn decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, name: &str) -> fmt::Result {
    let (whole, mut fraction) = (nanos / unit, nanos % unit);
    write!(f, "{whole}")?;
    if fraction > 0 {
        let mut digits = unit.ilog10() as usize;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        write!(f, ".{fraction:0digits$}")?;
    }
    f.write_str(name)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 300ms, 1.5s or 1h30m")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<GoDuration, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<GoDuration, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "go-duration" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("300ms", 300_000_000),
            ("2us", 2_000),
            ("2\u{b5}s", 2_000),
            ("2\u{3bc}s", 2_000),
            (".5h", 1_800_000_000_000),
            ("1.s", 1_000_000_000),
            ("1m0.000000001s", 60_000_000_001),
            ("1.0000000009s", 1_000_000_000),
            ("0.333m", 19_980_000_000),
            ("168h", 604_800_000_000_000),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().get().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses_and_names_the_value() {
        for text in
            ["5", "-1s", "s", "1x", "1.2.3s", ".s", "1 s", "1d", "+", "9999999h", "99999999999999999999s", "1s5"]
        {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid duration {text:?}")), "{error}");
        }
    }

    #[test]
    fn prints_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(GoDuration::new(Duration::from_nanos(nanos)).to_string(), text);
        }
    }

    #[test]
    fn an_integer_other_than_zero_lacks_its_unit() {
        assert_eq!(serde_json::from_str::<GoDuration>("0").unwrap(), GoDuration::ZERO);
        assert!(serde_json::from_str::<GoDuration>("5").unwrap_err().to_string().contains("unit is missing"));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in 0..i64::MAX as u64) {
            let d = GoDuration::new(Duration::from_nanos(nanos));
            prop_assert_eq!(d.to_string().parse::<GoDuration>().unwrap(), d);
        }
        #[test]
        fn no_text_panics(text in "[-+0-9.a-z\u{b5}]{0,12}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
