//! Reads the parity fixtures; `fixtures/parity/README.md` lists what is in them.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A path below `fixtures/`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

#[test]
fn the_fixtures_are_those_that_the_generator_wrote() {
    let directory = path("parity");
    let sums = std::fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    assert!(
        sums.lines().count() >= 15,
        "the list of sums is short:\n{sums}"
    );
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(directory.join(name)).unwrap();
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            found, sum,
            "`{name}` is not the file that make.py wrote: run make.py again, or restore it"
        );
    }
}
