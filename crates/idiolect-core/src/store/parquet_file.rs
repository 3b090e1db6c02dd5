//! Opening parquet files that may be damaged. The reader of the `parquet` crate panics on some columns
//! that it does not implement and on some damaged files; a bad file must not end the program, nor show
//! a person where in that crate it was met.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;

use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use super::StoreError;
use super::rows::MAX_ROW_BYTES;

/// A reader of a file whose columns lie in it and are of a size that is read; `path` is its name, and
/// `what` what the file then is not.
///
/// # Errors
/// [`StoreError::Format`].
pub(super) fn open(
    file: File,
    path: &Path,
    what: &str,
) -> Result<SerializedFileReader<File>, StoreError> {
    let length = file.metadata().map_err(StoreError::io("read", path))?.len();
    let reader = guarded(|| SerializedFileReader::new(file))
        .map_err(|reason| StoreError::format(path, format!("not {what}: {reason}")))?;
    check(&reader, length).map_err(|reason| StoreError::format(path, reason))?;
    Ok(reader)
}

/// Refuses columns that the file cannot hold where it states them, and those whose values are on
/// average larger than a row may be.
fn check(reader: &SerializedFileReader<File>, length: u64) -> Result<(), String> {
    for (group, rows) in reader.metadata().row_groups().iter().enumerate() {
        for column in rows.columns() {
            let named = || format!("column `{}` of row group {group}", column.column_path());
            if !lies_within(column, length) {
                return Err(format!(
                    "{} is stated to lie outside the file: it is damaged",
                    named()
                ));
            }
            let mean = column.uncompressed_size() / column.num_values().max(1);
            if mean > MAX_ROW_BYTES as i64 {
                return Err(format!(
                    "{} holds values of {} MiB on average; at most {} MiB are read",
                    named(),
                    mean >> 20,
                    MAX_ROW_BYTES >> 20
                ));
            }
        }
    }
    Ok(())
}

fn lies_within(column: &ColumnChunkMetaData, length: u64) -> bool {
    let first = column
        .dictionary_page_offset()
        .unwrap_or_else(|| column.data_page_offset());
    let end = u64::try_from(first)
        .ok()
        .zip(u64::try_from(column.compressed_size()).ok())
        .and_then(|(start, size)| start.checked_add(size));
    end.is_some_and(|end| end <= length)
}

thread_local! {
    /// Whether this thread reads what may be damaged.
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// What is read, or why it cannot be, a panic of the reader included.
pub(super) fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            if !READING.get() {
                others(info);
            }
        }));
    });
    let before = READING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    READING.set(before);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("a column type that is not supported, or damaged pages".to_owned()),
    }
}
