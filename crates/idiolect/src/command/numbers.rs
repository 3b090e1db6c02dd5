//! Numbers of the command line, each within its range.

use idiolect_model::budget::{self, Budget};

fn number<T: std::str::FromStr + PartialOrd>(
    text: &str,
    low: T,
    high: T,
    words: &str,
) -> Result<T, String> {
    match text.parse::<T>() {
        // The comparison refuses what is not a number.
        Ok(value) if value >= low && value <= high => Ok(value),
        _ => Err(format!("expected {words}")),
    }
}

/// A number within its budget.
fn within(budget: &Budget, text: &str) -> Result<usize, String> {
    let asked: usize = text.parse().map_err(|_| {
        format!(
            "expected {} to {} {}",
            budget.least, budget.most, budget.unit
        )
    })?;
    budget
        .check_size(asked)
        .map_err(|error| error.to_string())?;
    Ok(asked)
}

pub(super) fn samples(text: &str) -> Result<usize, String> {
    within(&budget::SAMPLES, text)
}

/// Further tries may be none.
pub(super) fn retries(text: &str) -> Result<usize, String> {
    match text {
        "0" => Ok(0),
        _ => samples(text),
    }
}

pub(super) fn requests(text: &str) -> Result<usize, String> {
    within(&budget::REQUESTS, text)
}

pub(super) fn tokens(text: &str) -> Result<usize, String> {
    within(&budget::TOKENS, text)
}

pub(super) fn epochs(text: &str) -> Result<usize, String> {
    within(&budget::EPOCHS, text)
}

pub(super) fn step_size(text: &str) -> Result<usize, String> {
    within(&budget::STEP_SIZE, text)
}

/// Rows of which there are some.
pub(super) fn rows(text: &str) -> Result<usize, String> {
    number(text, 1, usize::MAX, "a whole number, at least 1")
}

/// A share that pays for something.
pub(super) fn budget(text: &str) -> Result<f64, String> {
    let share = share(text).ok().filter(|share| *share > 0.0);
    share.ok_or_else(|| "expected a fraction above 0, at most 1".to_owned())
}

/// A time that something may take.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1e9, "seconds above 0")
}

/// A learning rate: f32 holds what it moves.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let words = "a number above 0 and below 3.4e38";
    let rate = number(text, 0.0, f64::from(f32::MAX), words)?;
    if rate > 0.0 {
        Ok(rate)
    } else {
        Err(format!("expected {words}"))
    }
}

/// A ratio that may exceed 1.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e6, "a number from 0 to 1000000")
}

pub(super) fn temperature(text: &str) -> Result<f32, String> {
    number(text, 0.0, 100.0, "a number from 0 (greedy) to 100")
}

pub(super) fn probability(text: &str) -> Result<f32, String> {
    number(text, 0.0, 1.0, "a number from 0 to 1")
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0, "a fraction from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_wrong_use() {
        assert_eq!(share("0.5"), Ok(0.5));
        for text in ["-0.1", "1.1", "NaN", "inf", "x", ""] {
            assert!(share(text).is_err(), "{text}");
        }
        assert!(temperature("inf").is_err() && temperature("0").is_ok());
        for text in ["-1", "0", "NaN", "inf", "1e300", "x"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert!(rate("1e-5").is_ok() && ratio("-1").is_err() && ratio("NaN").is_err());
    }

    #[test]
    fn counts_beyond_any_experiment_are_wrong_use() {
        assert_eq!(
            (samples("8"), retries("0"), epochs("3")),
            (Ok(8), Ok(0), Ok(3))
        );
        for text in ["0", "-1", "100000000000", "18446744073709551616", "x"] {
            assert!(samples(text).is_err(), "{text}");
            assert!(tokens(text).is_err(), "{text}");
            assert!(epochs(text).is_err(), "{text}");
            assert!(step_size(text).is_err(), "{text}");
        }
        let message = samples("100000000000").unwrap_err();
        assert!(
            message.contains("100000000000") && message.contains("100000 samples"),
            "{message}"
        );
    }
}
