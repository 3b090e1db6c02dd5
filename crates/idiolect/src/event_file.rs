//! TensorBoard's event files: curves of scalars by step, written and read.
//!
//! A file is a sequence of TFRecords (length, its checksum, data, its checksum; all little-endian),
//! each with one `Event` message of protocol buffers, of which only the fields of scalars are used
//! here. Written is what `SummaryWriter.add_scalar` of PyTorch writes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// One point of a curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The curve, for example `train/loss`.
    pub tag: String,
    /// The step it belongs to.
    pub step: i64,
    /// When it was written, seconds since 1970.
    pub wall_time_s: f64,
    /// Its value; most writers keep 32 bits of it.
    pub value: f64,
}

/// Why an event file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventFileError {
    /// It could not be opened or read.
    #[error("cannot read `{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its bytes are no event file.
    #[error("`{path}`, byte {at}: {reason}")]
    Format {
        /// The file.
        path: String,
        /// Where the record begins.
        at: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The largest record that is read, bytes. Records of scalars have some dozen.
const LARGEST_RECORD: u64 = 256 << 20;

/// The scalars of an event file, in its order. A last record that is cut short, as a writer that
/// works or was killed leaves it, is not there yet and no error.
///
/// # Errors
/// When the file cannot be read, or a checksum or a message in it is wrong.
pub fn read(path: &Path) -> Result<Vec<Scalar>, EventFileError> {
    let name = || path.display().to_string();
    let failed = |source| EventFileError::Io {
        path: name(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let (mut scalars, mut at, mut record) = (Vec::new(), 0, Vec::new());
    loop {
        let wrong = |reason| EventFileError::Format {
            path: name(),
            at,
            reason,
        };
        let mut head = Vec::with_capacity(12);
        (&mut file)
            .take(12)
            .read_to_end(&mut head)
            .map_err(failed)?;
        let Some((length, checksum)) = head.split_at_checked(8).filter(|_| head.len() == 12) else {
            return Ok(scalars);
        };
        if masked_crc32c(length) != little_endian_u32(checksum) {
            return Err(wrong("the checksum of a record's length is wrong"));
        }
        let length = little_endian_u64(length);
        if length > LARGEST_RECORD {
            return Err(wrong("a record has more than 256 MiB"));
        }
        record.clear();
        (&mut file)
            .take(length + 4)
            .read_to_end(&mut record)
            .map_err(failed)?;
        if (record.len() as u64) < length + 4 {
            return Ok(scalars);
        }
        let (data, checksum) = record.split_at(length as usize);
        if masked_crc32c(data) != little_endian_u32(checksum) {
            return Err(wrong("the checksum of a record is wrong"));
        }
        let event = scalars_of(data);
        scalars.extend(event.ok_or_else(|| wrong("a record holds no `Event` message"))?);
        at += 12 + length + 4;
    }
}

/// The record that an event file begins with.
pub fn first_record(wall_time_s: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.fixed64(1, wall_time_s.to_bits());
    event.bytes(3, b"brain.Event:2");
    framed(&event.0)
}

/// The record of what was measured at a step, each value with its tag.
pub fn record(wall_time_s: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, value) in values {
        let mut one = Message::default();
        one.bytes(1, tag.as_bytes());
        one.fixed32(2, (*value as f32).to_bits());
        summary.bytes(1, &one.0);
    }
    let mut event = Message::default();
    event.fixed64(1, wall_time_s.to_bits());
    event.varint(2, step);
    event.bytes(5, &summary.0);
    framed(&event.0)
}

fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_crc32c(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc32c(data).to_le_bytes());
    bytes
}

fn little_endian_u32(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

fn little_endian_u64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// CRC-32C of `bytes`, masked as TFRecord does, so that a checksum of data that holds checksums
/// stays a good one.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)]
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Remainders of each byte by Castagnoli's polynomial, its bits reversed.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A message of protocol buffers being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u64, value: u64) {
        self.number(field << 3);
        self.number(value);
    }

    fn fixed64(&mut self, field: u64, bits: u64) {
        self.number(field << 3 | 1);
        self.0.extend(bits.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.number(field << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn fixed32(&mut self, field: u64, bits: u32) {
        self.number(field << 3 | 5);
        self.0.extend(bits.to_le_bytes());
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// What a field of a message holds.
#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message with their numbers, or nothing where it is none.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_number(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(take_number(&mut bytes)?),
            1 => Field::Fixed64(little_endian_u64(take(&mut bytes, 8)?)),
            2 => {
                let length = usize::try_from(take_number(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            5 => Field::Fixed32(little_endian_u32(take(&mut bytes, 4)?)),
            _ => return None,
        };
        found.push((key >> 3, field));
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The scalars of an `Event`; nothing where the bytes are none.
fn scalars_of(event: &[u8]) -> Option<Vec<Scalar>> {
    let (mut wall_time_s, mut step, mut summary) = (0.0, 0, &[][..]);
    for (number, field) in fields(event)? {
        match (number, field) {
            (1, Field::Fixed64(bits)) => wall_time_s = f64::from_bits(bits),
            (2, Field::Number(value)) => step = value.cast_signed(),
            (5, Field::Bytes(bytes)) => summary = bytes,
            _ => {}
        }
    }
    let mut scalars = Vec::new();
    for (number, field) in fields(summary)? {
        let (1, Field::Bytes(bytes)) = (number, field) else {
            continue;
        };
        let (mut tag, mut value) = (String::new(), None);
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Bytes(bytes)) => tag = String::from_utf8_lossy(bytes).into_owned(),
                (2, Field::Fixed32(bits)) => value = Some(f64::from(f32::from_bits(bits))),
                (8, Field::Bytes(bytes)) => value = number_of_tensor(bytes)?,
                _ => {}
            }
        }
        scalars.extend(value.map(|value| Scalar {
            tag,
            step,
            wall_time_s,
            value,
        }));
    }
    Some(scalars)
}

/// The one float of a tensor, as TensorFlow 2 writes scalars; `Some(None)` for any other tensor.
fn number_of_tensor(bytes: &[u8]) -> Option<Option<f64>> {
    const FLOAT: u64 = 1;
    const DOUBLE: u64 = 2;
    let (mut kind, mut content) = (0, &[][..]);
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Number(value)) => kind = value,
            (4..=6, Field::Bytes(bytes)) => content = bytes,
            (5, Field::Fixed32(bits)) => return Some(Some(f64::from(f32::from_bits(bits)))),
            (6, Field::Fixed64(bits)) => return Some(Some(f64::from_bits(bits))),
            _ => {}
        }
    }
    Some(match (kind, content.len()) {
        (FLOAT, 4) => Some(f64::from(f32::from_bits(little_endian_u32(content)))),
        (DOUBLE, 8) => Some(f64::from_bits(little_endian_u64(content))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_bytes(bytes: &[u8]) -> Result<Vec<Scalar>, EventFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1.host");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn curve() -> Vec<u8> {
        let mut bytes = first_record(1000.5);
        for step in [1_u64, 300, u64::from(u32::MAX) + 1] {
            let values = [
                ("train/loss", 0.5 + step as f64),
                ("train/learning_rate", 1e-5),
            ];
            bytes.extend(record(1000.5 + step as f64, step, &values));
        }
        bytes
    }

    #[test]
    fn checksums_are_those_of_the_specification() {
        // RFC 3720, B.4: 32 zeros, 32 ones, 0 to 31.
        let unmasked = |bytes: &[u8]| {
            masked_crc32c(bytes)
                .wrapping_sub(0xa282_ead8)
                .rotate_left(15)
        };
        assert_eq!(unmasked(&[0; 32]), 0x8a91_36aa);
        assert_eq!(unmasked(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(unmasked(&rising), 0x46dd_794e);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let read = read_bytes(&curve()).unwrap();
        assert_eq!(read.len(), 6);
        let last = &read[4];
        assert_eq!(last.tag, "train/loss");
        assert_eq!(last.step, 1 << 32);
        assert_eq!(
            last.wall_time_s.to_bits(),
            (1000.5 + 2_f64.powi(32)).to_bits()
        );
        assert_eq!(last.value.to_bits(), 2_f64.powi(32).to_bits());
        assert_eq!(read[1].value.to_bits(), f64::from(1e-5_f32).to_bits());
    }

    #[test]
    fn a_file_cut_anywhere_gives_the_whole_records_before() {
        let bytes = curve();
        let whole = read_bytes(&bytes).unwrap();
        for length in 0..bytes.len() {
            let read = read_bytes(&bytes[..length]).unwrap();
            assert_eq!(read, whole[..read.len()], "{length} bytes");
        }
    }

    #[test]
    fn a_changed_byte_is_an_error_with_its_place() {
        let bytes = curve();
        let first = first_record(1000.5).len();
        for at in [first, first + 9, first + 20, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 4;
            let words = read_bytes(&wrong).unwrap_err().to_string();
            assert!(words.contains("checksum"), "{words}");
            assert!(words.contains("byte "), "{words}");
        }
        let words = read_bytes(&framed(&[0xff; 8])).unwrap_err().to_string();
        assert!(
            words.contains("byte 0: a record holds no `Event`"),
            "{words}"
        );
    }

    #[test]
    fn files_of_other_writers_are_read() {
        // Written by fixtures/tensorboard/make.py with the `tensorboard` package.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tensorboard");
        for name in ["simple_value", "tensor", "tensor_content"] {
            let read = read(&folder.join(format!("events.out.tfevents.{name}"))).unwrap();
            let points: Vec<_> = read
                .iter()
                .map(|one| (one.tag.as_str(), one.step, one.value))
                .collect();
            let wanted = [
                ("train/loss", 1, 2.5),
                ("train/learning_rate", 1, f64::from(1e-5_f32)),
                ("train/loss", 2, 1.25),
                ("eval/loss", 2, -0.75),
            ];
            assert_eq!(points, wanted, "{name}");
            assert!(
                read.iter()
                    .all(|one| one.wall_time_s.to_bits() == 1001.5_f64.to_bits()),
                "{name}"
            );
        }
    }
}
