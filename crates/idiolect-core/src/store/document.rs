//! A file that is one JSON document, read as a whole: a log of another program.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use idiolect_model::budget::json_values;

use super::rows::cut_off;
use super::{StoreError, non_finite};

/// A longer document is refused: it is held in memory, twice where it has `NaN`.
const MAX_BYTES: u64 = 512 << 20;

/// Values of a document; what is read of each takes some hundred bytes.
const MAX_VALUES: usize = 1 << 26;

/// The text of an open file, gzipped or not, with each bare `NaN` as null; `path` is its name.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is larger than memory should be asked for.
pub fn document(file: File, path: &Path) -> Result<String, StoreError> {
    let failed = |error| StoreError::format(path, cut_off(error));
    let mut stream = BufReader::new(file);
    let gzipped = stream
        .fill_buf()
        .map_err(failed)?
        .starts_with(&[0x1f, 0x8b]);
    let mut bytes = Vec::new();
    let read = if gzipped {
        MultiGzDecoder::new(stream)
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
    } else {
        stream.take(MAX_BYTES + 1).read_to_end(&mut bytes)
    };
    read.map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let reason = format!(
            "is one document of more than {} MiB; at most that is read",
            MAX_BYTES >> 20
        );
        return Err(StoreError::format(path, reason));
    }
    if json_values(&bytes) > MAX_VALUES {
        return Err(StoreError::format(
            path,
            format!("holds more than {MAX_VALUES} values"),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        StoreError::format(path, format!("not UTF-8 at byte {at}"))
    })?;
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Ok(non_finite::replaced(&text).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_text_whatever_wrapped_it() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        let read = || document(File::open(&path).unwrap(), &path);
        std::fs::write(&path, "\u{feff}{\"a\": NaN}").unwrap();
        assert_eq!(read().unwrap(), "{\"a\": null}");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{}").unwrap();
        let packed = gzip.finish().unwrap();
        std::fs::write(&path, &packed).unwrap();
        assert_eq!(read().unwrap(), "{}");
        std::fs::write(&path, &packed[..packed.len() - 4]).unwrap();
        assert!(read().unwrap_err().to_string().contains("cut off"));
        std::fs::write(&path, b"{\"a\": \"\xff\"}").unwrap();
        assert!(
            read()
                .unwrap_err()
                .to_string()
                .contains("not UTF-8 at byte 7")
        );
    }
}
