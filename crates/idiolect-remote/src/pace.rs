//! When to ask again: pauses that double, and what servers state of it in their headers.

use std::time::{Duration, SystemTime};

use idiolect_model::Rng;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest pause between two attempts, unless a server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pause after the `failed`-th failure (from 1): doubling, the upper half of it by chance, so
/// that requests that failed together are not sent together again.
pub(crate) fn backoff(first: Duration, failed: u32, chance: &mut Rng) -> Duration {
    let doubled = first.saturating_mul(1 << failed.saturating_sub(1).min(16));
    let whole = doubled.min(LONGEST_PAUSE.max(first));
    whole.mul_f64(0.5 + 0.5 * chance.uniform())
}

/// How long a server asks to wait: `Retry-After` in seconds or as a date, its variant in
/// milliseconds, else when the limits that are used up are reset.
pub(crate) fn asked_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let milliseconds = text("retry-after-ms")
        .and_then(|value| value.trim().parse::<f64>().ok())
        .and_then(|value| Duration::try_from_secs_f64(value / 1000.0).ok());
    milliseconds
        .or_else(|| retry_after(text(RETRY_AFTER.as_str())?, now))
        .or_else(|| {
            let reset = |kind: &str| {
                let wait = duration(text(&format!("x-ratelimit-reset-{kind}"))?)?;
                let left = text(&format!("x-ratelimit-remaining-{kind}"))
                    .and_then(|value| value.trim().parse::<f64>().ok());
                // A limit that is not used up is not what to wait for.
                left.is_none_or(|left| left < 1.0).then_some(wait)
            };
            ["requests", "tokens"].into_iter().filter_map(reset).max()
        })
}

fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// A length of time as rate-limit headers write it: `6m0s`, `1s`, `250ms`, `1h2m3.5s`, or seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_end] {
                "d" => 86_400.0,
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:07 GMT").unwrap();
        asked_wait(&map, now)
    }

    #[test]
    fn servers_say_how_long_to_wait_in_many_ways() {
        let seconds = |s| Some(Duration::from_secs_f64(s));
        assert_eq!(asked(&[("retry-after", "7")]), seconds(7.0));
        assert_eq!(asked(&[("retry-after", "0.5")]), seconds(0.5));
        assert_eq!(
            asked(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]),
            seconds(30.0)
        );
        assert_eq!(
            asked(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]),
            seconds(0.0)
        );
        assert_eq!(
            asked(&[("retry-after-ms", "1500"), ("retry-after", "9")]),
            seconds(1.5)
        );
        for (text, s) in [
            ("6m0s", 360.0),
            ("1s", 1.0),
            ("250ms", 0.25),
            ("1h2m3.5s", 3723.5),
            ("12", 12.0),
        ] {
            assert_eq!(
                asked(&[("x-ratelimit-reset-requests", text)]),
                seconds(s),
                "{text}"
            );
        }
        assert_eq!(
            asked(&[
                ("x-ratelimit-reset-requests", "6m0s"),
                ("x-ratelimit-remaining-requests", "12"),
                ("x-ratelimit-reset-tokens", "2s"),
                ("x-ratelimit-remaining-tokens", "0"),
            ]),
            seconds(2.0)
        );
        for text in ["soon", "-1", "1e999", "NaN", "5 parsecs", "m", ""] {
            assert_eq!(asked(&[("retry-after", text)]), None, "{text}");
            assert_eq!(asked(&[("x-ratelimit-reset-tokens", text)]), None, "{text}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut chance = Rng::keyed(0, &["pause"]);
        let first = Duration::from_millis(500);
        for failed in 1..40 {
            let whole = (0.5 * 2f64.powi(failed - 1)).min(30.0);
            let pause = backoff(first, failed as u32, &mut chance).as_secs_f64();
            assert!(pause >= 0.5 * whole && pause <= whole, "{failed}: {pause}");
        }
    }
}
