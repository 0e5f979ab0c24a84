//! Numbers with units. A size or a time without its unit is refused: whether "128" means bytes or
//! megabytes is what old papers leave open.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::describe::Shape;
use super::reader::{At, FromNode, Word};
use super::text::{Node, Value};

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Size(pub u64);

/// A time; written to results in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A rate of pages each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PagesPerSecond(pub u32);

/// A percentage, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct Percent(pub f64);

/// A whole number from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count(pub u32);

/// Bytes each second, such as `10 MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bandwidth(pub u64);

/// How far threads give way to others: 0 to 19, as of nice(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Niceness(pub u8);

/// `on` or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Switch(pub bool);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64())
    }
}

const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("B", 1),
];
const TIMES: &[(&str, f64)] = &[
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("min", 60.0),
    ("h", 3600.0),
];
const DECIMAL: &[(&str, &str)] = &[
    ("KB", "KiB"),
    ("kB", "KiB"),
    ("MB", "MiB"),
    ("GB", "GiB"),
    ("K", "KiB"),
    ("M", "MiB"),
    ("G", "GiB"),
];
const A_SIZE: &str = "a size with its unit: B, KiB, MiB or GiB, such as `128 MiB`";
const A_TIME: &str = "a time with its unit: us, ms, s, min or h, such as `500 ms`";

/// A number and what follows it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

impl std::str::FromStr for Size {
    type Err = String;

    /// A size on the command line, as in an experiment file.
    fn from_str(text: &str) -> Result<Self, String> {
        let size = split(text).and_then(|(number, unit)| {
            let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
            whole(number, *factor)
        });
        size.map(Self).ok_or_else(|| format!("expected {A_SIZE}"))
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    /// A time on the command line, as in an experiment file.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = split(text).and_then(|(number, unit)| {
            let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
            Duration::try_from_secs_f64(number * factor).ok()
        });
        time.map(Self).ok_or_else(|| format!("expected {A_TIME}"))
    }
}

impl FromNode for Size {
    fn shape() -> Shape {
        Shape::Text {
            name: "size",
            pattern: r"^ *[0-9.]+ *(B|KiB|MiB|GiB) *$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Integer(number) => {
                let problem = at.problem("a size needs a unit").expected(A_SIZE);
                return at.report(problem.help(format!("did you mean `{number} MiB`?")));
            }
            _ => return at.wrong_kind(node, A_SIZE),
        };
        let Some((number, unit)) = split(text) else {
            return at.report(
                at.problem(format!("`{text}` is not a size"))
                    .expected(A_SIZE),
            );
        };
        if let Some((_, binary)) = DECIMAL.iter().find(|(name, _)| *name == unit) {
            let problem = at
                .problem(format!(
                    "`{unit}` is refused: it means powers of 10 to some and of 2 to others"
                ))
                .expected(A_SIZE);
            return at.report(problem.help(format!("did you mean `{number} {binary}`?")));
        }
        let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
            let problem = at
                .problem(format!("`{unit}` is not a unit of size"))
                .expected(A_SIZE);
            return at.report(problem.nearest(unit, SIZES.iter().map(|(name, _)| *name)));
        };
        whole(number, *factor).map_or_else(
            || {
                at.report(
                    at.problem(format!(
                        "`{text}` is no whole number of bytes, or too large"
                    ))
                    .expected(A_SIZE),
                )
            },
            |bytes| Some(Self(bytes)),
        )
    }
}

/// `number` times `factor`, to the nearest whole number, if 64 bits hold it. A fraction of the
/// smallest unit is refused.
fn whole(number: f64, factor: u64) -> Option<u64> {
    #[allow(clippy::cast_precision_loss, reason = "the factor is a power of two")]
    let product = (number * factor as f64).round();
    if !(0.0..9e15).contains(&product) || factor == 1 && number.fract() != 0.0 {
        return None;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range, checked above"
    )]
    let value = product as u64;
    Some(value)
}

impl FromNode for Time {
    fn shape() -> Shape {
        Shape::Text {
            name: "time",
            pattern: r"^ *[0-9.]+ *(us|ms|s|min|h) *$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Integer(number) => {
                let problem = at.problem("a time needs a unit").expected(A_TIME);
                return at.report(problem.help(format!("write `{number} s` or `{number} ms`")));
            }
            _ => return at.wrong_kind(node, A_TIME),
        };
        let Some((number, unit)) = split(text) else {
            return at.report(
                at.problem(format!("`{text}` is not a time"))
                    .expected(A_TIME),
            );
        };
        let Some((_, factor)) = TIMES.iter().find(|(name, _)| *name == unit) else {
            let problem = at
                .problem(format!("`{unit}` is not a unit of time"))
                .expected(A_TIME);
            return at.report(problem.nearest(unit, TIMES.iter().map(|(name, _)| *name)));
        };
        match Duration::try_from_secs_f64(number * factor) {
            Ok(time) if time <= Duration::from_secs(7 * 24 * 3600) => Some(Self(time)),
            _ => at.report(
                at.problem(format!("`{text}` is longer than a week"))
                    .expected("at most `168 h`"),
            ),
        }
    }
}

impl FromNode for PagesPerSecond {
    fn shape() -> Shape {
        Shape::Text {
            name: "rate",
            pattern: r"^ *[0-9]+ */s *$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "pages each second, such as `50000/s`";
        if let Value::Text(text) = &node.value
            && let Some((number, "/s")) = split(text)
            && let Some(pages) = whole(number, 1).and_then(|pages| u32::try_from(pages).ok())
            && pages > 0
        {
            return Some(Self(pages));
        }
        at.report(at.problem("this is not a rate").expected(EXPECTED))
    }
}

impl FromNode for Bandwidth {
    fn shape() -> Shape {
        Shape::Text {
            name: "bandwidth",
            pattern: r"^ *[0-9.]+ *(B|KiB|MiB|GiB) */s *$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "bytes each second, such as `10 MiB/s`";
        if let Value::Text(text) = &node.value
            && let Some((number, unit)) = split(text)
            && let Some(unit) = unit.strip_suffix("/s").map(str::trim_end)
            && let Some((_, bytes)) = SIZES.iter().find(|(name, _)| *name == unit)
            && let Some(bytes) = whole(number, *bytes)
            && bytes > 0
        {
            return Some(Self(bytes));
        }
        at.report(at.problem("this is not a bandwidth").expected(EXPECTED))
    }
}

impl FromNode for Percent {
    fn shape() -> Shape {
        Shape::Text {
            name: "percentage",
            pattern: r"^ *[0-9.]+ *% *$",
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "a percentage from 0 % to 100 %, such as `20 %`";
        match &node.value {
            Value::Text(text) => match split(text) {
                Some((number, "%")) if (0.0..=100.0).contains(&number) => Some(Self(number)),
                Some((_, "%")) => at.report(
                    at.problem(format!("`{text}` is over 100 %"))
                        .expected(EXPECTED),
                ),
                _ => at.report(
                    at.problem(format!("`{text}` is not a percentage"))
                        .expected(EXPECTED),
                ),
            },
            Value::Integer(number) => {
                let problem = at.problem("a percentage needs its sign").expected(EXPECTED);
                at.report(problem.help(format!("did you mean `{number} %`?")))
            }
            _ => at.wrong_kind(node, EXPECTED),
        }
    }
}

impl FromNode for Count {
    fn shape() -> Shape {
        Shape::Number {
            least: 1,
            most: u32::MAX.into(),
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        number(at, node, 1, u32::MAX.into())
            .and_then(|count| u32::try_from(count).ok())
            .map(Self)
    }
}

impl FromNode for Niceness {
    fn shape() -> Shape {
        Shape::Number { least: 0, most: 19 }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let nice = number(at, node, 0, 19)?;
        u8::try_from(nice).ok().map(Self)
    }
}

/// The words of a [`Switch`], which tells of `true` and `false` besides.
#[derive(Clone, Copy, Debug)]
struct OnOff(bool);

impl Word for OnOff {
    const WORDS: &'static [(&'static str, Self, &'static str)] =
        &[("on", Self(true), ""), ("off", Self(false), "")];
}

impl FromNode for Switch {
    fn shape() -> Shape {
        OnOff::shape()
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            let word = if value { "on" } else { "off" };
            let problem = at
                .problem("this is a truth value")
                .expected("`on` or `off`");
            return at.report(problem.help(format!("did you mean `{word}`?")));
        }
        OnOff::from_node(at, node).map(|word| Self(word.0))
    }
}

/// A whole number in bounds.
fn number(at: &At<'_>, node: &Node, least: u64, most: u64) -> Option<u64> {
    let expected = match most {
        u64::MAX => format!("a whole number from {least} on"),
        _ => format!("a whole number from {least} to {most}"),
    };
    let Value::Integer(number) = node.value else {
        return at.wrong_kind(node, &expected);
    };
    let found = u64::try_from(number).ok();
    found
        .filter(|number| (least..=most).contains(number))
        .or_else(|| {
            let problem = at.problem(format!("{number} is out of range"));
            at.report(problem.expected(expected))
        })
}

impl FromNode for u32 {
    fn shape() -> Shape {
        Shape::Number {
            least: 0,
            most: Self::MAX.into(),
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        let number = number(at, node, 0, Self::MAX.into())?;
        Self::try_from(number).ok()
    }
}

impl FromNode for u64 {
    fn shape() -> Shape {
        Shape::Number {
            least: 0,
            most: Self::MAX,
        }
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        number(at, node, 0, Self::MAX)
    }
}

impl FromNode for f64 {
    fn shape() -> Shape {
        Shape::Decimal
    }

    fn from_node(at: &At<'_>, node: &Node) -> Option<Self> {
        match node.value {
            #[allow(
                clippy::cast_precision_loss,
                reason = "a bound written by hand; 53 bits are enough"
            )]
            Value::Integer(number) => Some(number as Self),
            Value::Float(number) => Some(number),
            _ => at.wrong_kind(node, "a number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Findings;
    use super::super::text::parse;
    use super::*;
    use proptest::prelude::*;

    fn read<T: FromNode>(text: &str) -> Result<T, String> {
        let node = parse(text).unwrap();
        let findings = Findings::default();
        let value = T::from_node(&At::top(&findings, &node), &node);
        value.ok_or_else(|| findings.into_parts().0.remove(0).message)
    }

    #[test]
    fn sizes() {
        assert_eq!(read("128 MiB"), Ok(Size(128 << 20)));
        assert_eq!(read("1.5GiB"), Ok(Size(3 << 29)));
        assert_eq!(read("4096 B"), Ok(Size(4096)));
        assert_eq!(read("1.2 GiB"), Ok(Size(1_288_490_189)));
        assert!(read::<Size>("128 MB").unwrap_err().contains("refused"));
        assert!(read::<Size>("128").unwrap_err().contains("unit"));
        assert!(read::<Size>("1.0001 B").unwrap_err().contains("whole"));
        assert!(read::<Size>("-5 MiB").unwrap_err().contains("not a size"));
        assert!(read::<Size>("99999999999 GiB").is_err());
    }

    proptest! {
        #[test]
        fn however_a_size_is_spelt_it_is_that_many_bytes(
            number in 1..4096_u64,
            (unit, bytes) in prop::sample::select(SIZES),
            spaces in 0..3_usize,
        ) {
            let spelt = format!("{number}{}{unit}", " ".repeat(spaces));
            prop_assert_eq!(read(&spelt), Ok(Size(number * bytes)), "{}", spelt);
            // A decimal unit is another number of bytes, and no unit is any.
            let decimal = unit.replace("iB", "B");
            for wrong in [format!("{number} {decimal}"), format!("{number}{}", unit.to_lowercase())] {
                prop_assert!(unit == "B" || read::<Size>(&wrong).is_err(), "{}", wrong);
            }
            prop_assert!(read::<Size>(&number.to_string()).is_err());
        }

        #[test]
        fn however_a_time_is_spelt_it_is_that_long(
            number in 1..1000_u32,
            (unit, seconds) in prop::sample::select(TIMES),
            spaces in 0..3_usize,
        ) {
            let spelt = format!("{number}{}{unit}", " ".repeat(spaces));
            let wanted = f64::from(number) * seconds;
            match read::<Time>(&spelt) {
                Ok(time) => prop_assert!((time.0.as_secs_f64() - wanted).abs() < 1e-6, "{}", spelt),
                Err(_) => prop_assert!(wanted > 7.0 * 86400.0, "{}", spelt),
            }
            prop_assert!(read::<Time>(&number.to_string()).is_err());
        }

        #[test]
        fn nothing_that_is_written_for_a_number_panics(text in "[0-9a-zA-Z .%/+-]{0,12}") {
            if parse(&text).is_ok() {
                let _ = (read::<Size>(&text), read::<Time>(&text), read::<Percent>(&text));
                let _ = (read::<PagesPerSecond>(&text), read::<Bandwidth>(&text));
            }
        }
    }

    #[test]
    fn times_rates_percentages() {
        assert_eq!(read("500 ms"), Ok(Time(Duration::from_millis(500))));
        assert_eq!(read("2min"), Ok(Time(Duration::from_secs(120))));
        assert!(read::<Time>("5").is_err() && read::<Time>("5 days").is_err());
        assert_eq!(read("50000/s"), Ok(PagesPerSecond(50_000)));
        assert!(read::<PagesPerSecond>("50000").is_err() && read::<PagesPerSecond>("0/s").is_err());
        assert_eq!(read("12.5 %"), Ok(Percent(12.5)));
        assert!(read::<Percent>("101 %").is_err() && read::<Percent>("20").is_err());
        assert_eq!(read("off"), Ok(Switch(false)));
        assert!(read::<Switch>("true").is_err());
    }
}
