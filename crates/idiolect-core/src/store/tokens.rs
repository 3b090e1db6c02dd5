//! `tokens.parquet`: the token scores of each trace, one row a trace, in input order.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use super::{StoreError, write_atomic_with};
use idiolect_model::TokenScore;

/// One row: the scores of a trace's completion tokens, then of its end token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The trace, or the line number of a row without one.
    pub trace_id: String,
    /// In text order.
    pub tokens: Vec<TokenScore>,
}

/// Tokens of a row group: about 30 bytes each before compression, so 64 MiB.
const GROUP_TOKENS: usize = 2 << 20;

const SCHEMA: &str = "message tokens {
    REQUIRED BYTE_ARRAY trace_id (UTF8);
    REQUIRED GROUP token_id (LIST) { REPEATED GROUP list { REQUIRED INT32 element (INTEGER(32,false)); } }
    REQUIRED GROUP logprob (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
    REQUIRED GROUP rank (LIST) { REPEATED GROUP list { REQUIRED INT32 element (INTEGER(32,false)); } }
    REQUIRED GROUP entropy (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
    REQUIRED GROUP varentropy (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
    REQUIRED GROUP sum_p2 (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
    REQUIRED GROUP byte_start (LIST) { REPEATED GROUP list { REQUIRED INT32 element (INTEGER(32,false)); } }
    REQUIRED GROUP is_end (LIST) { REPEATED GROUP list { REQUIRED BOOLEAN element; } }
}";

/// Takes the next row of a file that is being written.
pub type PutRow<'a> = &'a mut dyn FnMut(TokenRow) -> Result<(), StoreError>;

/// Writes a whole `tokens.parquet` out of the rows that `rows` puts.
///
/// # Errors
/// [`StoreError::Io`], or what `rows` returns; the old file then remains.
pub fn write(
    path: &Path,
    rows: impl FnOnce(PutRow<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut failed = None;
    let written = write_atomic_with(path, |file| {
        write_rows(path, file, rows).map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            io::Error::other(message)
        })
    });
    failed.map_or(written, Err)
}

fn write_rows(
    path: &Path,
    file: &mut File,
    rows: impl FnOnce(PutRow<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error: ParquetError| StoreError::io("write", path)(io::Error::other(error));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("idiolect ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(failed)?);
    let file = BufWriter::new(file);
    let mut writer =
        SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
    let (mut group, mut tokens) = (Vec::new(), 0);
    rows(&mut |row| {
        tokens += row.tokens.len();
        group.push(row);
        if tokens >= GROUP_TOKENS {
            write_group(&mut writer, &group).map_err(failed)?;
            (group, tokens) = (Vec::new(), 0);
        }
        Ok(())
    })?;
    if !group.is_empty() {
        write_group(&mut writer, &group).map_err(failed)?;
    }
    writer.close().map(drop).map_err(failed)
}

fn write_group<W: std::io::Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    rows: &[TokenRow],
) -> ParquetResult<()> {
    let mut group = writer.next_row_group()?;
    let ids: Vec<ByteArray> = rows
        .iter()
        .map(|row| row.trace_id.as_str().into())
        .collect();
    column::<ByteArrayType, _>(&mut group, &ids, None)?;
    let levels = Levels::of(rows);
    list::<Int32Type, _>(&mut group, rows, &levels, |token| {
        token.token_id.cast_signed()
    })?;
    list::<FloatType, _>(&mut group, rows, &levels, |token| token.logprob)?;
    list::<Int32Type, _>(&mut group, rows, &levels, |token| token.rank.cast_signed())?;
    list::<FloatType, _>(&mut group, rows, &levels, |token| token.entropy)?;
    list::<FloatType, _>(&mut group, rows, &levels, |token| token.varentropy)?;
    list::<FloatType, _>(&mut group, rows, &levels, |token| token.sum_p2)?;
    list::<Int32Type, _>(&mut group, rows, &levels, |token| {
        token.byte_start.cast_signed()
    })?;
    list::<BoolType, _>(&mut group, rows, &levels, |token| token.is_end)?;
    group.close().map(drop)
}

/// Parquet's way of writing lists: definition 1 for an element and 0 for an empty list,
/// repetition 0 where a row begins and 1 within it.
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Levels {
    fn of(rows: &[TokenRow]) -> Self {
        let (mut definition, mut repetition) = (Vec::new(), Vec::new());
        for row in rows {
            let n = row.tokens.len();
            definition.extend(std::iter::repeat_n(i16::from(n > 0), n.max(1)));
            repetition.push(0);
            repetition.extend(std::iter::repeat_n(1, n.saturating_sub(1)));
        }
        Self {
            definition,
            repetition,
        }
    }
}

fn list<D: DataType, W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[TokenRow],
    levels: &Levels,
    field: impl Fn(&TokenScore) -> D::T,
) -> ParquetResult<()> {
    let values: Vec<D::T> = rows
        .iter()
        .flat_map(|row| row.tokens.iter().map(&field))
        .collect();
    column::<D, W>(group, &values, Some(levels))
}

fn column<D: DataType, W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[D::T],
    levels: Option<&Levels>,
) -> ParquetResult<()> {
    let missing =
        || ParquetError::General("the schema has fewer columns than the writer".to_owned());
    let mut writer = group.next_column()?.ok_or_else(missing)?;
    let definition = levels.map(|levels| levels.definition.as_slice());
    let repetition = levels.map(|levels| levels.repetition.as_slice());
    writer
        .typed::<D>()
        .write_batch(values, definition, repetition)?;
    writer.close()
}

/// Reads `tokens.parquet` row group by row group; `each` gets the rows in order.
///
/// # Errors
/// [`StoreError::Format`] when it is not such a file, [`StoreError::Io`] when it cannot be opened.
pub fn read(path: &Path, mut each: impl FnMut(TokenRow)) -> Result<(), StoreError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    let bad = |error: ParquetError| StoreError::format(path, format!("not token scores: {error}"));
    let reader = SerializedFileReader::new(file).map_err(bad)?;
    let expected = parse_message_type(SCHEMA).map_err(bad)?;
    let names = |schema: &parquet::schema::types::Type| {
        schema
            .get_fields()
            .iter()
            .map(|field| field.name().to_owned())
            .collect::<Vec<_>>()
    };
    if names(reader.metadata().file_metadata().schema()) != names(&expected) {
        return Err(StoreError::format(
            path,
            "not token scores: its columns are others",
        ));
    }
    for index in 0..reader.num_row_groups() {
        let group = reader.get_row_group(index).map_err(bad)?;
        for row in read_group(group.as_ref()).map_err(bad)? {
            each(row);
        }
    }
    Ok(())
}

fn read_group(group: &dyn RowGroupReader) -> ParquetResult<Vec<TokenRow>> {
    let rows = usize::try_from(group.metadata().num_rows())
        .map_err(|_| ParquetError::General("a negative number of rows".to_owned()))?;
    let ids = values::<ByteArrayType>(group, 0, rows)?.0;
    let (token_id, starts) = values::<Int32Type>(group, 1, rows)?;
    let logprob = values::<FloatType>(group, 2, rows)?.0;
    let rank = values::<Int32Type>(group, 3, rows)?.0;
    let entropy = values::<FloatType>(group, 4, rows)?.0;
    let varentropy = values::<FloatType>(group, 5, rows)?.0;
    let sum_p2 = values::<FloatType>(group, 6, rows)?.0;
    let byte_start = values::<Int32Type>(group, 7, rows)?.0;
    let is_end = values::<BoolType>(group, 8, rows)?.0;
    let n = token_id.len();
    let lengths = [
        logprob.len(),
        rank.len(),
        entropy.len(),
        varentropy.len(),
        sum_p2.len(),
        byte_start.len(),
        is_end.len(),
    ];
    if ids.len() != rows || starts.len() != rows + 1 || lengths.iter().any(|length| *length != n) {
        return Err(ParquetError::General(
            "lists of different lengths".to_owned(),
        ));
    }
    let token = |i: usize| TokenScore {
        token_id: token_id[i].cast_unsigned(),
        logprob: logprob[i],
        rank: rank[i].cast_unsigned(),
        entropy: entropy[i],
        varentropy: varentropy[i],
        sum_p2: sum_p2[i],
        byte_start: byte_start[i].cast_unsigned(),
        is_end: is_end[i],
    };
    let row = |(id, bounds): (&ByteArray, &[usize])| {
        let tokens = (bounds[0]..bounds[1]).map(token).collect();
        Ok(TokenRow {
            trace_id: id.as_utf8()?.to_owned(),
            tokens,
        })
    };
    ids.iter().zip(starts.windows(2)).map(row).collect()
}

/// All values of a column, and where each row's begin (with the end of the last).
fn values<D: DataType>(
    group: &dyn RowGroupReader,
    index: usize,
    rows: usize,
) -> ParquetResult<(Vec<D::T>, Vec<usize>)> {
    let physical = group.metadata().column(index).column_type();
    if physical != D::get_physical_type() {
        return Err(ParquetError::General(format!(
            "column {index} is {physical}"
        )));
    }
    let mut reader = get_typed_column_reader::<D>(group.get_column_reader(index)?);
    let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader.read_records(
            rows - read,
            Some(&mut definition),
            Some(&mut repetition),
            &mut values,
        )?;
        if records == 0 {
            break;
        }
        read += records;
    }
    let mut starts = Vec::with_capacity(rows + 1);
    let mut at = 0;
    for (definition, repetition) in definition.iter().zip(&repetition) {
        if *repetition == 0 {
            starts.push(at);
        }
        at += usize::from(*definition == 1);
    }
    starts.push(at);
    Ok((values, starts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, n: u32) -> TokenRow {
        let token = |i| TokenScore {
            token_id: u32::MAX - i,
            logprob: -0.1 * i as f32,
            rank: i + 1,
            entropy: 0.5,
            varentropy: 0.25,
            sum_p2: 0.125,
            byte_start: 3 * i,
            is_end: i + 1 == n,
        };
        TokenRow {
            trace_id: id.to_owned(),
            tokens: (0..n).map(token).collect(),
        }
    }

    #[test]
    fn token_rows_come_back_equal_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.parquet");
        let rows = vec![
            row("b", 3),
            row("é\u{0}", 1),
            row("empty", 0),
            row("b", 3),
            row("z", 2000),
        ];
        let written = rows.clone();
        write(&path, |put| written.into_iter().try_for_each(put)).unwrap();
        let mut back = Vec::new();
        read(&path, |row| back.push(row)).unwrap();
        assert_eq!(back, rows);
    }

    #[test]
    fn another_parquet_file_is_refused_with_a_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.parquet");
        std::fs::write(&path, b"PAR1 not really PAR1").unwrap();
        let words = read(&path, drop).unwrap_err().to_string();
        assert!(words.contains("not token scores"), "{words}");
    }
}
