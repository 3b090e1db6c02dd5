//! Where an endpoint is: `http(s)://HOST[:PORT]/v1#MODEL`, with several base URLs separated by
//! commas.

use reqwest::Url;

/// A parsed reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// At least one, without a slash at the end.
    pub(crate) bases: Vec<Base>,
    /// The model's name on the servers, where the reference names one.
    pub(crate) model: Option<String>,
}

/// The base URL of one server. It holds no user and no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base(Url);

impl Address {
    /// Parses a reference; the error never repeats a password.
    pub(crate) fn parse(reference: &str) -> Result<Self, String> {
        let (bases, model) = match reference.split_once('#') {
            Some((bases, model)) => (bases, Some(model.trim())),
            None => (reference, None),
        };
        let bases = bases
            .split(',')
            .map(|base| Base::parse(base.trim()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            bases,
            model: model.filter(|name| !name.is_empty()).map(str::to_owned),
        })
    }
}

impl Base {
    /// Parses the URL of a server.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // The text itself is left out of messages: it may hold a password.
        let mut url =
            Url::parse(text).map_err(|error| format!("an endpoint's URL is not valid: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("an endpoint's URL begins with http://HOST or https://HOST".to_owned());
        }
        let secret = !url.username().is_empty() || url.password().is_some();
        // Cannot fail for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        url.set_query(None);
        if secret {
            return Err(format!(
                "the URL `{url}` was given with a user or password, which would end up in files; \
                 give the key in the environment instead"
            ));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The URL of a path below the base, such as `chat/completions`.
    pub(crate) fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// The URL of a path beside the `v1` that the base ends in: where llama.cpp has its own API.
    pub(crate) fn beside(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let own = self.0.path().trim_end_matches('/');
        url.set_path(&format!(
            "{}/{path}",
            own.strip_suffix("/v1").unwrap_or(own)
        ));
        url
    }

    /// The base as messages name it.
    pub(crate) fn text(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Whether the server is of a domain.
    pub(crate) fn is_of(&self, domain: &str) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        host == domain || host.ends_with(&format!(".{domain}"))
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.host_str().is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_servers_and_a_model() {
        let address = Address::parse("http://a:8000/v1, https://[::1]/v1/#org/name#x").unwrap();
        assert_eq!(address.model.as_deref(), Some("org/name#x"));
        let [a, b] = &address.bases[..] else {
            panic!("two bases");
        };
        assert_eq!(a.join("models").as_str(), "http://a:8000/v1/models");
        assert_eq!(a.beside("completion").as_str(), "http://a:8000/completion");
        assert_eq!(b.text(), "https://[::1]/v1");
        assert!(b.is_loopback() && !a.is_loopback());
        assert_eq!(Address::parse("http://a/v1#").unwrap().model, None);
        let bare = Base::parse("http://127.0.0.1:80").unwrap();
        assert_eq!(bare.join("models").path(), "/models");
        assert_eq!(bare.beside("completion").path(), "/completion");
        assert!(bare.is_loopback());
    }

    #[test]
    fn no_message_repeats_a_password() {
        for text in [
            "http://me:hunter2@a/v1#m",
            "http://hunter2@a/v1",
            "http://me:hunter2@a:999999/v1",
            "ftp://me:hunter2@a",
            "me:hunter2@a",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Address::parse("").is_err());
    }
}
