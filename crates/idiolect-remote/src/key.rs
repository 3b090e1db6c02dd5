//! Secrets: they come from the environment and go into one request header, nowhere else.

use std::fmt;

use reqwest::header::HeaderValue;

/// What a message holds in place of a secret.
const HIDDEN: &str = "[key]";

/// The variables that hold the key of an endpoint, in the order in which they are asked.
pub(crate) const KEY_VARIABLES: [&str; 2] = ["IDIOLECT_API_KEY", "OPENAI_API_KEY"];

/// A secret that is sent to a server. It has no `Display`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A key; `None` where it is empty.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        (!secret.is_empty()).then(|| Self(secret.to_owned()))
    }

    /// The key of an endpoint: `IDIOLECT_API_KEY`, else `OPENAI_API_KEY`, else none.
    pub fn from_env() -> Option<Self> {
        KEY_VARIABLES
            .iter()
            .find_map(|name| Self::new(&std::env::var(name).ok()?))
    }

    /// The value of the header `Authorization`; `None` where the key holds what no header can.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A server's words without the key, which some servers repeat.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, HIDDEN)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = Key::new(" sk-123 ").unwrap();
        assert!(!format!("{key:?} {:?}", key.header()).contains("123"));
        assert_eq!(
            key.hide_in("bad key sk-123, sk-123!"),
            "bad key [key], [key]!"
        );
        assert_eq!(Key::new(" \n"), None);
        assert_eq!(Key::new("a\nb").unwrap().header(), None);
    }
}
