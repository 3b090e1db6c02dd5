//! Content hashes: the identity of texts, rows and models.

use sha2::{Digest, Sha256};

/// SHA-256 of some bytes, first 16 of them in hexadecimal: the hash of every file, prompt and
/// setting in this program's outputs.
pub fn content_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
