//! Units: what they measure, how they multiply, and how they are converted.

use std::collections::BTreeMap;

use super::words;
use crate::rational::Rational;

/// A unit, or units multiplied: the dimension by its parts, and how many base units it holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    dimension: BTreeMap<&'static str, i32>,
    pub(crate) factor: Rational,
}

impl Unit {
    /// Whether it counts money.
    pub(crate) fn is_money(&self) -> bool {
        self.dimension.contains_key("dollars")
    }

    /// Whether both measure the same thing.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.dimension == other.dimension
    }
}

/// Base units and their powers.
type Dimensions = &'static [(&'static str, i32)];

/// A unit by its name or sign, in lower case: its dimension and the base units in it as a fraction.
pub(crate) fn named(name: &str) -> Option<(Dimensions, (i64, i64))> {
    const LENGTH: &[(&str, i32)] = &[("length", 1)];
    const AREA: &[(&str, i32)] = &[("length", 2)];
    const VOLUME: &[(&str, i32)] = &[("length", 3)];
    const MASS: &[(&str, i32)] = &[("mass", 1)];
    const TIME: &[(&str, i32)] = &[("time", 1)];
    const SPEED: &[(&str, i32)] = &[("length", 1), ("time", -1)];
    const MONEY: &[(&str, i32)] = &[("dollars", 1)];
    Some(match name.trim_end_matches('.') {
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" => (LENGTH, (1, 1000)),
        "cm" | "cms" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => {
            (LENGTH, (1, 100))
        }
        "dm" => (LENGTH, (1, 10)),
        "m" | "meter" | "meters" | "metre" | "metres" => (LENGTH, (1, 1)),
        "km" | "kms" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => {
            (LENGTH, (1000, 1))
        }
        "in" | "inch" | "inches" => (LENGTH, (254, 10_000)),
        "ft" | "foot" | "feet" => (LENGTH, (3048, 10_000)),
        "yd" | "yds" | "yard" | "yards" => (LENGTH, (9144, 10_000)),
        "mi" | "mile" | "miles" => (LENGTH, (1_609_344, 1000)),
        "acre" | "acres" => (AREA, (40_468_564_224, 10_000_000)),
        "hectare" | "hectares" | "ha" => (AREA, (10_000, 1)),
        "ml" | "milliliter" | "milliliters" | "millilitre" | "millilitres" | "cc" => {
            (VOLUME, (1, 1_000_000))
        }
        "l" | "liter" | "liters" | "litre" | "litres" => (VOLUME, (1, 1000)),
        "gal" | "gallon" | "gallons" => (VOLUME, (3_785_411_784, 1_000_000_000_000)),
        "qt" | "quart" | "quarts" => (VOLUME, (946_352_946, 1_000_000_000_000)),
        "pint" | "pints" => (VOLUME, (473_176_473, 1_000_000_000_000)),
        "mg" | "milligram" | "milligrams" => (MASS, (1, 1_000_000)),
        "g" | "gm" | "gms" | "gram" | "grams" => (MASS, (1, 1000)),
        "kg" | "kgs" | "kilogram" | "kilograms" | "kilo" | "kilos" => (MASS, (1, 1)),
        "tonne" | "tonnes" => (MASS, (1000, 1)),
        "lb" | "lbs" | "pound" | "pounds" => (MASS, (45_359_237, 100_000_000)),
        "oz" | "ounce" | "ounces" => (MASS, (28_349_523_125, 1_000_000_000_000)),
        "ms" | "millisecond" | "milliseconds" => (TIME, (1, 1000)),
        "s" | "sec" | "secs" | "second" | "seconds" => (TIME, (1, 1)),
        "min" | "mins" | "minute" | "minutes" => (TIME, (60, 1)),
        "h" | "hr" | "hrs" | "hour" | "hours" => (TIME, (3600, 1)),
        "day" | "days" => (TIME, (86_400, 1)),
        "week" | "weeks" => (TIME, (604_800, 1)),
        "month" | "months" => (&[("months", 1)], (1, 1)),
        "year" | "years" | "yr" | "yrs" => (&[("months", 1)], (12, 1)),
        "mph" => (SPEED, (1_609_344, 3_600_000)),
        "kph" | "kmh" | "kmph" => (SPEED, (1000, 3600)),
        "hz" | "hertz" => (&[("time", -1)], (1, 1)),
        "n" | "newton" | "newtons" => (&[("length", 1), ("mass", 1), ("time", -2)], (1, 1)),
        "j" | "joule" | "joules" => (&[("length", 2), ("mass", 1), ("time", -2)], (1, 1)),
        "erg" | "ergs" => (&[("length", 2), ("mass", 1), ("time", -2)], (1, 10_000_000)),
        "w" | "watt" | "watts" => (&[("length", 2), ("mass", 1), ("time", -3)], (1, 1)),
        "pa" | "pascal" | "pascals" => (&[("length", -1), ("mass", 1), ("time", -2)], (1, 1)),
        "kpa" => (&[("length", -1), ("mass", 1), ("time", -2)], (1000, 1)),
        "v" | "volt" | "volts" => (&[("volts", 1)], (1, 1)),
        "k" | "kelvin" => (&[("kelvin", 1)], (1, 1)),
        "mol" | "mole" | "moles" => (&[("moles", 1)], (1, 1)),
        "°c" | "celsius" => (&[("celsius", 1)], (1, 1)),
        "°f" | "fahrenheit" => (&[("fahrenheit", 1)], (1, 1)),
        "cent" | "cents" | "¢" => (MONEY, (1, 100)),
        "dollar" | "dollars" | "usd" | "buck" | "bucks" => (MONEY, (1, 1)),
        "euro" | "euros" | "eur" => (&[("euros", 1)], (1, 1)),
        "degree" | "degrees" | "deg" => (&[("degrees", 1)], (1, 1)),
        "radians" => (&[("radians", 1)], (1, 1)),
        _ => return None,
    })
}

/// Units as they stand beside a number: `square inches`, `cm^2`, `m/s`, `miles per hour`, `n·m`.
/// `None` where a part is no unit that is known.
pub(crate) fn of(text: &str) -> Option<Unit> {
    let mut dimension: BTreeMap<&'static str, i32> = BTreeMap::new();
    let mut factor = Rational::integer(1);
    let (mut below, mut raised, mut any) = (false, 1i32, false);
    // The unit that was read last, so that a power after it can be applied.
    let mut last: Option<(Dimensions, Rational, i32)> = None;
    let mut apply = |parts: &[(&'static str, i32)], by: &Rational, power: i32| -> Option<()> {
        for (name, times) in parts {
            *dimension.entry(name).or_default() += times * power;
        }
        factor = factor.times(&by.power(i64::from(power))?);
        Some(())
    };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if c.is_alphabetic() || matches!(c, '°' | '¢') {
            let length = rest
                .find(|c: char| !(c.is_alphabetic() || matches!(c, '°' | '¢')))
                .unwrap_or(rest.len());
            match &rest[..length] {
                "per" => below = true,
                "square" | "sq" => raised = 2,
                "cubic" | "cu" => raised = 3,
                "squared" | "cubed" => {
                    let more = if &rest[..length] == "squared" { 1 } else { 2 };
                    let (parts, by, sign) = last.take()?;
                    apply(parts, &by, sign * more)?;
                }
                word => {
                    let (parts, (n, d)) = named(word)?;
                    let by = Rational::ratio(n, d)?;
                    let sign = if std::mem::take(&mut below) { -1 } else { 1 };
                    apply(parts, &by, sign * std::mem::replace(&mut raised, 1))?;
                    last = Some((parts, by, sign));
                    any = true;
                }
            }
            length
        } else {
            match c {
                '/' => {
                    below = true;
                    1
                }
                '^' | '²' | '³' => {
                    let after = rest
                        .strip_prefix('^')
                        .map(|r| r.trim_start_matches(['{', ' ']));
                    let (power, length) = match (c, after) {
                        ('²', _) => (2, c.len_utf8()),
                        ('³', _) => (3, c.len_utf8()),
                        (_, Some(after)) => {
                            let negative = after.starts_with(['-', '−']);
                            let digits = after.trim_start_matches(['-', '−']);
                            let n = digits.bytes().take_while(u8::is_ascii_digit).count();
                            let power: i32 = digits[..n].parse().ok().filter(|p| *p <= 6)?;
                            let end = digits[n..].trim_start_matches([' ', '}']);
                            (
                                if negative { -power } else { power },
                                rest.len() - end.len(),
                            )
                        }
                        _ => return None,
                    };
                    let (parts, by, sign) = last.take()?;
                    apply(parts, &by, sign * (power - 1))?;
                    length
                }
                '*' | '×' | '·' | '⋅' | '-' | '.' | ' ' => c.len_utf8(),
                _ if c.is_whitespace() => c.len_utf8(),
                _ => return None,
            }
        };
        rest = &rest[length..];
    }
    dimension.retain(|_, times| *times != 0);
    (any && !below).then_some(Unit { dimension, factor })
}

/// The unit that words behind a number name, where the rest of them changes nothing: the longest
/// beginning that is known, as `minutes` of "minutes (simplified)".
pub(crate) fn before_remark(text: &str) -> Option<&str> {
    if of(text).is_some() {
        return Some(text);
    }
    let ends = text.char_indices().filter(|(_, c)| c.is_whitespace());
    let ends: Vec<usize> = ends.map(|(at, _)| at).take(8).collect();
    ends.into_iter().rev().find_map(|end| {
        let (name, rest) = (text[..end].trim_end(), text[end..].trim_start());
        // "in" begins a remark; "per day" would go on.
        let whole = name != "in" && !name.ends_with(" in") && !goes_on(rest);
        (whole && of(name).is_some() && !words::changes_value(&words::sequence(rest)))
            .then_some(name)
    })
}

/// Whether words behind a unit may belong to it.
fn goes_on(rest: &str) -> bool {
    let word = rest.split_whitespace().next().unwrap_or_default();
    rest.starts_with(['^', '/', '²', '³', '*', '·', '×', '-'])
        || matches!(
            word,
            "per" | "a" | "an" | "each" | "every" | "squared" | "cubed" | "square" | "cubic"
        )
}

/// Whether both remarks raise what they count, to different powers: square units and cubic units.
pub(crate) fn powers_differ(a: &str, b: &str) -> bool {
    let power = |text: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || "^²³".contains(c)))
            .find_map(|word| match word {
                "square" | "sq" | "squared" | "²" | "^2" | "2" => Some(2),
                "cubic" | "cu" | "cubed" | "³" | "^3" | "3" => Some(3),
                word if word.ends_with("^2") || word.ends_with('²') => Some(2),
                word if word.ends_with("^3") || word.ends_with('³') => Some(3),
                _ => None,
            })
    };
    matches!((power(a), power(b)), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_multiply_and_convert() {
        for (a, b, factor) in [
            ("square feet", "ft^2", (1, 1)),
            ("sq. inches", "inches squared", (1, 1)),
            ("m/s", "m s^{-1}", (1, 1)),
            ("km/h", "kilometers per hour", (1, 1)),
            ("cm^3", "ml", (1, 1)),
            ("hours", "minutes", (60, 1)),
            ("n·m", "joules", (1, 1)),
            ("cubic yards", "ft^3", (27, 1)),
        ] {
            let (x, y) = (of(a).unwrap(), of(b).unwrap());
            assert!(x.is_like(&y), "{a} {b}");
            assert_eq!(
                x.factor.over(&y.factor),
                Rational::ratio(factor.0, factor.1),
                "{a} {b}"
            );
        }
        for text in ["square", "apples", "per", "", "m/apple", "cm^x", "m^"] {
            assert_eq!(of(text), None, "{text}");
        }
        for (text, name) in [
            ("minutes (simplified)", Some("minutes")),
            ("s in total", Some("s")),
            ("square feet altogether", Some("square feet")),
            ("pounds of apples", Some("pounds")),
            ("m/s", Some("m/s")),
            ("in total", None),
            ("dollars each", None),
            ("miles per gallon of fuel", Some("miles per gallon")),
            ("miles a day", None),
            ("apples", None),
        ] {
            assert_eq!(before_remark(text), name, "{text}");
        }
        assert!(!of("cm").unwrap().is_like(&of("cm^2").unwrap()));
        assert!(!of("°c").unwrap().is_like(&of("°f").unwrap()));
    }
}
