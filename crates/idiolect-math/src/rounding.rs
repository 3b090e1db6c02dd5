//! Rounding: what an answer shows that equals the gold only at the digits it gives.
//!
//! 0.3333 may be 1/3 by a careful reader or by one who computed something else, so it is neither
//! right nor wrong: such an answer is `ungraded`, and correct where the user accepts it.

use crate::Rational;

/// How the reason of such a verdict begins.
pub const REASON: &str = "equal only when rounded to the digits given";

/// Whether a number of so many units of its last digit is enough to distinguish it from others by chance: two
/// digits, of a whole number five.
pub fn tells(units: f64, whole: bool) -> bool {
    units >= if whole { 10_000.0 } else { 10.0 }
}

/// Whether a shown value is an exact one rounded or cut at its last digit, which is worth
/// `last_place`; `difference` is the exact value less the shown one.
pub fn fits(difference: f64, shown: f64, last_place: f64) -> bool {
    const SLACK: f64 = 1.0 + 1e-9;
    let cut = if shown < 0.0 { -difference } else { difference };
    difference.abs() * 2.0 <= last_place * SLACK || (cut >= 0.0 && cut < last_place)
}

/// Whether a number, as it is written, is another rounded or cut at its last digit.
pub fn is_rounded(shown: &Rational, written: &str, exact: &Rational) -> bool {
    let places = written.rfind('.').map_or(0, |point| {
        let decimals = written[point + 1..].bytes();
        decimals.take_while(u8::is_ascii_digit).count()
    });
    let Ok(places) = i32::try_from(places) else {
        return false;
    };
    let last_place = 10f64.powi(-places);
    let value = shown.to_f64();
    tells((value.abs() / last_place).round(), places == 0)
        && fits(exact.minus(shown).to_f64(), value, last_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_rounded_or_cut_at_its_last_digit() {
        for (exact, shown, place, expected) in [
            (1.0 / 3.0, 0.3333, 1e-4, true),
            (2.0 / 3.0, 0.6666, 1e-4, true),
            (2.0 / 3.0, 0.6667, 1e-4, true),
            (2.0 / 3.0, 0.6668, 1e-4, false),
            (-2.0 / 3.0, -0.66, 1e-2, true),
            (-2.0 / 3.0, -0.65, 1e-2, false),
            (7.211, 7.22, 1e-2, false),
        ] {
            assert_eq!(
                fits(exact - shown, shown, place),
                expected,
                "{exact} {shown}"
            );
        }
        assert!(tells(33.0, false) && !tells(7.0, false) && !tells(7211.0, true));
    }
}
