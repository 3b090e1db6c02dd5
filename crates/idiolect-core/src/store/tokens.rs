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
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type as SchemaType;
use serde::{Deserialize, Serialize};

use super::parquet_file::{self, guarded};
use super::{StoreError, write_atomic_with};
use idiolect_model::{Distribution, TokenScore};

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

/// What a model gives of tokens: it decides which columns a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    ranks: bool,
    distributions: bool,
}

impl Given {
    fn by(token: &TokenScore) -> Self {
        Self {
            ranks: token.rank.is_some(),
            distributions: token.distribution.is_some(),
        }
    }

    /// What all tokens of some rows have; everything where there is none.
    fn of(rows: &[TokenRow]) -> Self {
        let tokens = || rows.iter().flat_map(|row| &row.tokens);
        Self {
            ranks: tokens().all(|token| token.rank.is_some()),
            distributions: tokens().all(|token| token.distribution.is_some()),
        }
    }

    /// Columns in order, with their types.
    fn columns(self) -> Vec<(&'static str, &'static str)> {
        const ID: &str = "INT32 element (INTEGER(32,false))";
        const REAL: &str = "FLOAT element";
        let mut columns = vec![("token_id", ID), ("logprob", REAL)];
        if self.ranks {
            columns.push(("rank", ID));
        }
        if self.distributions {
            columns.extend(["entropy", "varentropy", "sum_p2"].map(|name| (name, REAL)));
        }
        columns.extend([("byte_start", ID), ("is_end", "BOOLEAN element")]);
        columns
    }

    fn schema(self) -> ParquetResult<SchemaType> {
        let lists: String = self
            .columns()
            .into_iter()
            .map(|(name, element)| {
                format!(
                    "REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED {element}; }} }}\n"
                )
            })
            .collect();
        parse_message_type(&format!(
            "message tokens {{ REQUIRED BYTE_ARRAY trace_id (UTF8);\n{lists} }}"
        ))
    }
}

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
    let mut file = Some(BufWriter::new(file));
    let mut writer: Option<(Given, SerializedFileWriter<_>)> = None;
    // The first rows decide which columns there are.
    let mut flush = |group: &[TokenRow]| -> Result<(), StoreError> {
        if let Some(file) = file.take() {
            let given = Given::of(group);
            writer = Some((given, new_writer(given, file).map_err(failed)?));
        }
        let Some((given, writer)) = &mut writer else {
            return Ok(());
        };
        let mut tokens = group.iter().flat_map(|row| &row.tokens);
        if tokens.any(|token| Given::by(token) != *given) {
            return Err(StoreError::format(
                path,
                "the model gave ranks or entropies for some tokens and not for others",
            ));
        }
        write_group(writer, *given, group).map_err(failed)
    };
    let (mut group, mut tokens) = (Vec::new(), 0);
    rows(&mut |row| {
        tokens += row.tokens.len();
        group.push(row);
        if tokens >= GROUP_TOKENS {
            flush(&group)?;
            (group, tokens) = (Vec::new(), 0);
        }
        Ok(())
    })?;
    flush(&group)?;
    match writer {
        Some((_, writer)) => writer.close().map(drop).map_err(failed),
        None => Ok(()),
    }
}

fn new_writer<W: io::Write + Send>(
    given: Given,
    file: W,
) -> ParquetResult<SerializedFileWriter<W>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("idiolect ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    SerializedFileWriter::new(file, Arc::new(given.schema()?), Arc::new(properties))
}

fn write_group<W: io::Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    given: Given,
    rows: &[TokenRow],
) -> ParquetResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut group = writer.next_row_group()?;
    let ids: Vec<ByteArray> = rows
        .iter()
        .map(|row| row.trace_id.as_str().into())
        .collect();
    column::<ByteArrayType, _>(&mut group, &ids, None)?;
    let levels = Levels::of(rows);
    let of = |field: fn(&Distribution) -> f32| {
        move |token: &TokenScore| token.distribution.as_ref().map_or(f32::NAN, field)
    };
    list::<Int32Type, _>(&mut group, rows, &levels, |token| {
        token.token_id.cast_signed()
    })?;
    list::<FloatType, _>(&mut group, rows, &levels, |token| token.logprob)?;
    if given.ranks {
        list::<Int32Type, _>(&mut group, rows, &levels, |token| {
            token.rank.unwrap_or_default().cast_signed()
        })?;
    }
    if given.distributions {
        list::<FloatType, _>(&mut group, rows, &levels, of(|d| d.entropy))?;
        list::<FloatType, _>(&mut group, rows, &levels, of(|d| d.varentropy))?;
        list::<FloatType, _>(&mut group, rows, &levels, of(|d| d.sum_p2))?;
    }
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
    let bad = |reason: String| StoreError::format(path, format!("not token scores: {reason}"));
    let reader = parquet_file::open(file, path, "token scores")?;
    let fields = reader.metadata().file_metadata().schema().get_fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    let given = Given {
        ranks: names.contains(&"rank"),
        distributions: names.contains(&"entropy"),
    };
    let columns = given.columns();
    let expected = columns.iter().map(|(name, _)| *name);
    if !std::iter::once("trace_id").chain(expected).eq(names) {
        return Err(StoreError::format(
            path,
            "not token scores: its columns are others",
        ));
    }
    for index in 0..reader.num_row_groups() {
        let rows = guarded(|| read_group(reader.get_row_group(index)?.as_ref(), given));
        for row in rows.map_err(bad)? {
            each(row);
        }
    }
    Ok(())
}

fn read_group(group: &dyn RowGroupReader, given: Given) -> ParquetResult<Vec<TokenRow>> {
    let rows = usize::try_from(group.metadata().num_rows())
        .map_err(|_| ParquetError::General("a negative number of rows".to_owned()))?;
    let columns = given.columns();
    let at = |wanted: &str| columns.iter().position(|(name, _)| *name == wanted);
    let reals = |name| match at(name) {
        Some(at) => values::<FloatType>(group, 1 + at, rows).map(|found| found.0),
        None => Ok(Vec::new()),
    };
    let numbers = |name| match at(name) {
        Some(at) => values::<Int32Type>(group, 1 + at, rows),
        None => Ok((Vec::new(), Vec::new())),
    };
    let ids = values::<ByteArrayType>(group, 0, rows)?.0;
    let (token_id, starts) = numbers("token_id")?;
    let logprob = reals("logprob")?;
    let rank = numbers("rank")?.0;
    let [entropy, varentropy, sum_p2] = [reals("entropy")?, reals("varentropy")?, reals("sum_p2")?];
    let byte_start = numbers("byte_start")?.0;
    let is_end = values::<BoolType>(group, columns.len(), rows)?.0;
    let n = token_id.len();
    let ranks = if given.ranks { n } else { 0 };
    let distributions = if given.distributions { n } else { 0 };
    let lengths = [
        (logprob.len(), n),
        (rank.len(), ranks),
        (entropy.len(), distributions),
        (varentropy.len(), distributions),
        (sum_p2.len(), distributions),
        (byte_start.len(), n),
        (is_end.len(), n),
    ];
    let differ = lengths.iter().any(|(length, expected)| length != expected);
    if ids.len() != rows || starts.len() != rows + 1 || differ {
        return Err(ParquetError::General(
            "lists of different lengths".to_owned(),
        ));
    }
    let token = |i: usize| TokenScore {
        token_id: token_id[i].cast_unsigned(),
        logprob: logprob[i],
        rank: given.ranks.then(|| rank[i].cast_unsigned()),
        distribution: given.distributions.then(|| Distribution {
            entropy: entropy[i],
            varentropy: varentropy[i],
            sum_p2: sum_p2[i],
        }),
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
            rank: Some(i + 1),
            distribution: Some(Distribution {
                entropy: 0.5,
                varentropy: 0.25,
                sum_p2: 0.125,
            }),
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
    fn what_a_model_does_not_give_has_no_column() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.parquet");
        let bare = |with_ranks: bool| {
            let mut rows = vec![row("a", 2), row("empty", 0), row("b", 5)];
            for token in rows.iter_mut().flat_map(|row| &mut row.tokens) {
                token.distribution = None;
                token.rank = token.rank.filter(|_| with_ranks);
            }
            rows
        };
        for with_ranks in [true, false] {
            write(&path, |put| bare(with_ranks).into_iter().try_for_each(put)).unwrap();
            let mut back = Vec::new();
            read(&path, |row| back.push(row)).unwrap();
            assert_eq!(back, bare(with_ranks));
        }
        let mut mixed = bare(true);
        mixed[2].tokens[1].rank = None;
        mixed[0].tokens[0].rank = None;
        assert!(write(&path, |put| mixed.into_iter().try_for_each(put)).is_err());
        write(&path, |_| Ok(())).unwrap();
        read(&path, |_| panic!("no rows")).unwrap();
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
