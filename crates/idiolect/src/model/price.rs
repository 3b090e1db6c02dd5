//! What tokens behind an endpoint cost.

use idiolect_model::Usage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Prices of an endpoint's tokens, in whatever money, for a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of prompts.
    #[schemars(range(min = 0.0))]
    pub prompt: f64,
    /// Of what is written.
    #[schemars(range(min = 0.0))]
    pub completion: f64,
}

impl Price {
    /// Reads `PROMPT,COMPLETION`.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut numbers = text.split(',').map(|part| part.trim().parse::<f64>().ok());
        match (
            numbers.next().flatten(),
            numbers.next().flatten(),
            numbers.next(),
        ) {
            (Some(prompt), Some(completion), None) => Self { prompt, completion }.checked(),
            _ => {
                Err("expected PROMPT,COMPLETION for a million tokens, such as 0.15,0.6".to_owned())
            }
        }
    }

    /// The prices, if they can be such.
    ///
    /// # Errors
    /// In words.
    pub fn checked(self) -> Result<Self, String> {
        let is_price = |price: f64| price.is_finite() && price >= 0.0;
        if is_price(self.prompt) && is_price(self.completion) {
            Ok(self)
        } else {
            Err("prices must be numbers of at least 0".to_owned())
        }
    }

    /// What was spent. Tokens of replies that were lost on the way are not counted by any server's
    /// answer, so a bill may be higher.
    pub fn of(self, usage: &Usage) -> f64 {
        (self.prompt * usage.prompt_tokens as f64
            + self.completion * usage.completion_tokens as f64)
            / 1e6
    }
}

/// What an endpoint was asked, by name; with its cost where a price is known.
pub fn spent(usage: &Usage, price: Option<Price>) -> Vec<(&'static str, Value)> {
    let mut named = vec![
        ("requests", json!(usage.requests)),
        ("retries", json!(usage.retries)),
        ("rate_limited", json!(usage.limited)),
        ("prompt_tokens", json!(usage.prompt_tokens)),
        ("completion_tokens", json!(usage.completion_tokens)),
    ];
    if let Some(price) = price {
        named.push(("cost", json!((1e6 * price.of(usage)).round() / 1e6)));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_two_numbers_and_a_cost_their_sum() {
        let price = Price::parse("0.15, 0.6").unwrap();
        let usage = Usage {
            prompt_tokens: 2_000_000,
            completion_tokens: 500_000,
            ..Usage::default()
        };
        assert!((price.of(&usage) - 0.6).abs() < 1e-12);
        assert_eq!(
            spent(&usage, Some(price)).last(),
            Some(&("cost", json!(0.6)))
        );
        assert_eq!(spent(&usage, None).len(), 5);
        for text in ["", "1", "1,2,3", "a,b", "-1,2", "1,nan", "1,inf"] {
            assert!(Price::parse(text).is_err(), "{text}");
        }
    }
}
