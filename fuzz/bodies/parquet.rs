//! Any bytes as a parquet file: refused with a reason that names the file, or read row by row; the same
//! bytes as token scores.

use idiolect_core::store::{Rows, tokens};
use serde_json::Value;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let name = format!("idiolect-fuzz-{}.parquet", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, data).expect("the temporary folder can be written");
    let named = |error: &dyn std::fmt::Display| {
        assert!(error.to_string().contains("idiolect-fuzz-"), "{error}");
    };
    match Rows::<Value>::open(&path) {
        Err(error) => named(&error),
        // What is whole in a few kilobytes has few rows; a damaged count may promise any number.
        Ok(rows) => {
            for row in rows.take(1000) {
                if let Err(error) = row {
                    named(&error);
                }
            }
        }
    }
    if let Err(error) = tokens::read(&path, drop) {
        named(&error);
    }
}
