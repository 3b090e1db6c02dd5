//! Names of repositories and of files in them.

use std::fmt;

use super::HubError;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Dataset,
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repo {
    pub(super) kind: Kind,
    /// `OWNER/NAME`.
    pub(super) name: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
}

/// A file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatasetFile {
    pub(super) repo: Repo,
    pub(super) path: String,
}

impl Repo {
    /// Parses `OWNER/NAME[@REV]` of a model.
    pub(super) fn model(reference: &str) -> Result<Self, HubError> {
        let (name, revision) = match reference.split_once('@') {
            Some((name, revision)) => (name, revision),
            None => (reference, "main"),
        };
        Self::new(Kind::Model, name, revision, reference)
    }

    fn new(kind: Kind, name: &str, revision: &str, reference: &str) -> Result<Self, HubError> {
        let parts: Vec<&str> = name.split('/').collect();
        // Old models have no owner.
        let whole = parts.len() == 2 || (kind == Kind::Model && parts.len() == 1);
        if !whole || !parts.iter().all(|part| is_plain(part)) {
            return Err(HubError::Reference {
                reference: reference.to_owned(),
                reason: "a repository of the hub is named OWNER/NAME[@REV]".to_owned(),
            });
        }
        if !is_path(revision) {
            return Err(HubError::Reference {
                reference: reference.to_owned(),
                reason: "a revision is a branch, a tag or a commit".to_owned(),
            });
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Its folder in the cache: `models--OWNER--NAME`.
    pub(super) fn folder(&self) -> String {
        format!("{}--{}", self.plural(), self.name.replace('/', "--"))
    }

    /// `models` or `datasets`, as paths of the hub name them.
    pub(super) fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        };
        write!(f, "{kind} `{}` at revision `{}`", self.name, self.revision)
    }
}

impl DatasetFile {
    /// Parses `OWNER/NAME[@REV]/PATH`. A revision with a slash is written with `%2F`.
    pub(super) fn parse(reference: &str) -> Result<Self, HubError> {
        let wrong = |reason: &str| HubError::Reference {
            reference: reference.to_owned(),
            reason: reason.to_owned(),
        };
        let expected = "a file of a data set is named OWNER/NAME[@REV]/PATH";
        let mut parts = reference.splitn(3, '/');
        let (Some(owner), Some(name), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong(expected));
        };
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        let repo = Repo::new(
            Kind::Dataset,
            &format!("{owner}/{name}"),
            &revision,
            reference,
        )?;
        if !is_path(path) {
            return Err(wrong(expected));
        }
        Ok(Self {
            repo,
            path: path.to_owned(),
        })
    }
}

/// Whether a text is a name of the hub, and of a file here.
fn is_plain(text: &str) -> bool {
    is_name(text, 96)
}

fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && !text.starts_with(['.', '-'])
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Whether a text names a file below a folder, and nothing above or beside it.
pub(super) fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && !text.contains(['\\', ':', '\0'])
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text is the hash of a commit or of a file, or may represent one as a file's name.
pub(super) fn is_hash(text: &str) -> bool {
    is_name(text, 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed() {
        let repo = Repo::model("org/name-1.5B@refs/pr/1").unwrap();
        assert_eq!(repo.folder(), "models--org--name-1.5B");
        assert_eq!(repo.revision, "refs/pr/1");
        assert_eq!(Repo::model("gpt2").unwrap().folder(), "models--gpt2");
        let file = DatasetFile::parse("openai/gsm8k@v1/main/test-0.parquet").unwrap();
        assert_eq!(file.repo.folder(), "datasets--openai--gsm8k");
        assert_eq!(file.path, "main/test-0.parquet");
        assert_eq!(file.repo.revision, "v1");
        let file = DatasetFile::parse("a/b@refs%2Fpr%2F1/c.json").unwrap();
        assert_eq!(file.repo.revision, "refs/pr/1");
    }

    #[test]
    fn no_name_leads_out_of_the_cache() {
        for text in [
            "", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a b/c", "a/b@", "a/b@../x", "a/b@/x",
            "a\\b/c", "-a/b",
        ] {
            assert!(Repo::model(text).is_err(), "{text}");
        }
        for text in [
            "a/b", "a/b/", "a/b/../c", "a/b//c", "a/b/c:d", "a/b/.", "a/b/c\n",
        ] {
            assert!(DatasetFile::parse(text).is_err(), "{text}");
        }
        for text in ["", "..", "a/b", ".hidden", "-x"] {
            assert!(!is_hash(text), "{text}");
        }
    }
}
