//! Whether two paths mean the same file, or one lies in the other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Whether two paths mean one file or folder: by device and inode where both exist, which sees
/// through hard and symbolic links, else by their names in the same folder.
pub fn is_same(a: &Path, b: &Path) -> bool {
    match (identity(a), identity(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => resolved(a) == resolved(b),
        // One exists and the other does not.
        _ => false,
    }
}

/// Device and inode, without opening: a pipe would be waited for.
#[cfg(unix)]
fn identity(path: &Path) -> Option<impl PartialEq> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<impl PartialEq> {
    same_file::Handle::from_path(path).ok()
}

/// Whether `path` lies in `folder`, at any depth, or is it.
pub fn is_within(path: &Path, folder: &Path) -> bool {
    let (path, resolved_folder) = (resolved(path), resolved(folder));
    path.starts_with(&resolved_folder) || path.ancestors().any(|ancestor| is_same(ancestor, folder))
}

/// The absolute path without links, as far as it exists; the names after that as they are.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: Vec<OsString> = Vec::new();
    for ancestor in whole.ancestors() {
        if let Ok(mut found) = ancestor.canonicalize() {
            found.extend(rest.iter().rev());
            return found;
        }
        rest.extend(ancestor.file_name().map(ToOwned::to_owned));
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_file_by_several_names_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "a").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        for (a, b, same) in [
            ("a", "a", true),
            ("a", "d/../a", true),
            ("a", "hard", true),
            ("a", "b", false),
            ("a", "none", false),
            ("none", "none", true),
            ("none", "d/../none", true),
            ("d/none", "none", false),
        ] {
            assert_eq!(is_same(&at(a), &at(b)), same, "{a} {b}");
        }
        for (path, within, is) in [
            ("d/x/y", "d", true),
            ("d", "d", true),
            ("a", "d", false),
            ("new/x", "new", true),
            ("newer", "new", false),
            ("d/../a", "d", false),
        ] {
            assert_eq!(is_within(&at(path), &at(within)), is, "{path} {within}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("d"), at("soft")).unwrap();
            assert!(is_same(&at("d"), &at("soft")));
            assert!(is_same(&at("d/new"), &at("soft/new")));
            assert!(is_within(&at("soft/new"), &at("d")));
        }
    }
}
