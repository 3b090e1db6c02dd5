//! Rows as a parquet table that other programs load without a schema of ours: a column for each
//! field, typed by what the rows hold.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value};

use super::{StoreError, write_atomic_with};

/// Bytes of JSON in a row group, about.
const GROUP_BYTES: usize = 64 << 20;

/// What a column holds; every value may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// Whole numbers of 64 bits.
    Int,
    /// Numbers of 64 bits.
    Double,
    /// Text.
    Text,
    /// Turns of a conversation: a list of `role` and `content`.
    Turns,
    /// Anything else, as its JSON text.
    Json,
}

impl ColumnType {
    /// In words, for a data card.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "int64",
            Self::Double => "float64",
            Self::Text => "text",
            Self::Turns => "list of {role, content}",
            Self::Json => "JSON as text",
        }
    }

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Bool(_) => Some(Self::Bool),
            Value::Number(number) if number.is_i64() => Some(Self::Int),
            Value::Number(_) => Some(Self::Double),
            Value::String(_) => Some(Self::Text),
            Value::Array(items) if !items.is_empty() && items.iter().all(is_turn) => {
                Some(Self::Turns)
            }
            Value::Array(_) | Value::Object(_) => Some(Self::Json),
        }
    }

    /// What holds both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int, Self::Double) | (Self::Double, Self::Int) => Self::Double,
            _ => Self::Json,
        }
    }

    fn schema(self, name: &str) -> String {
        match self {
            Self::Bool => format!("OPTIONAL BOOLEAN {name};"),
            Self::Int => format!("OPTIONAL INT64 {name};"),
            Self::Double => format!("OPTIONAL DOUBLE {name};"),
            Self::Text | Self::Json => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
            Self::Turns => format!(
                "OPTIONAL GROUP {name} (LIST) {{ REPEATED GROUP list {{ OPTIONAL GROUP element {{ \
                 OPTIONAL BYTE_ARRAY role (UTF8); OPTIONAL BYTE_ARRAY content (UTF8); }} }} }}"
            ),
        }
    }
}

/// A turn with `role` and `content` as texts and nothing else.
fn is_turn(value: &Value) -> bool {
    let text = |name: &str| value.get(name).is_some_and(Value::is_string);
    value.as_object().is_some_and(|turn| turn.len() == 2) && text("role") && text("content")
}

/// The columns of rows, in the order in which they first come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(Vec<(String, ColumnType)>);

impl Columns {
    /// Adds what a row holds. A column of which no row has a value is text.
    ///
    /// # Errors
    /// A name that parquet's schema cannot spell.
    pub fn add(&mut self, row: &Map<String, Value>) -> Result<(), String> {
        for (name, value) in row {
            let found = ColumnType::of(value);
            match (self.0.iter_mut().find(|(known, _)| known == name), found) {
                (Some((_, kind)), Some(found)) => *kind = kind.with(found),
                (Some(_), None) | (None, None) => {}
                (None, Some(found)) => {
                    let spelled = !name.is_empty()
                        && name
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte));
                    if !spelled {
                        return Err(format!(
                            "the column `{}` has a name that is not of letters, digits, `_`, `-` and `/`",
                            name.escape_debug()
                        ));
                    }
                    self.0.push((name.clone(), found));
                }
            }
        }
        Ok(())
    }

    /// Names with types.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.0.iter().map(|(name, kind)| (name.as_str(), *kind))
    }
}

/// Takes the next row of a table that is being written.
pub type PutRow<'a> = &'a mut dyn FnMut(Map<String, Value>) -> Result<(), StoreError>;

/// Writes a whole table out of the rows that `rows` gives to its argument.
///
/// # Errors
/// [`StoreError::Io`], or what `rows` returns; nothing is left then.
pub fn write_table(
    path: &Path,
    columns: &Columns,
    rows: impl FnOnce(PutRow<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut failed = None;
    let written = write_atomic_with(path, |file| {
        write(path, file, columns, rows).map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            io::Error::other(message)
        })
    });
    failed.map_or(written, Err)
}

fn write(
    path: &Path,
    file: &mut File,
    columns: &Columns,
    rows: impl FnOnce(PutRow<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error: ParquetError| StoreError::io("write", path)(io::Error::other(error));
    let fields: String = columns
        .iter()
        .map(|(name, kind)| kind.schema(name))
        .collect();
    let schema = parse_message_type(&format!("message rows {{ {fields} }}")).map_err(failed)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("idiolect ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer =
        SerializedFileWriter::new(BufWriter::new(file), Arc::new(schema), Arc::new(properties))
            .map_err(failed)?;
    let (mut group, mut bytes) = (Vec::new(), 0);
    rows(&mut |row| {
        bytes += row
            .values()
            .map(|value| value.as_str().map_or(32, str::len))
            .sum::<usize>();
        group.push(row);
        if bytes >= GROUP_BYTES {
            write_group(&mut writer, columns, &group).map_err(failed)?;
            (group, bytes) = (Vec::new(), 0);
        }
        Ok(())
    })?;
    write_group(&mut writer, columns, &group).map_err(failed)?;
    writer.close().map(drop).map_err(failed)
}

fn write_group<W: io::Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    columns: &Columns,
    rows: &[Map<String, Value>],
) -> ParquetResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut group = writer.next_row_group()?;
    for (name, kind) in columns.iter() {
        let values: Vec<Option<&Value>> = rows
            .iter()
            .map(|row| row.get(name).filter(|value| !value.is_null()))
            .collect();
        let group = &mut group;
        match kind {
            ColumnType::Bool => {
                column::<BoolType, _>(group, &values, |value| value.as_bool().unwrap_or_default())?
            }
            ColumnType::Int => {
                column::<Int64Type, _>(group, &values, |value| value.as_i64().unwrap_or_default())?
            }
            ColumnType::Double => {
                column::<DoubleType, _>(group, &values, |value| value.as_f64().unwrap_or_default())?
            }
            ColumnType::Text => column::<ByteArrayType, _>(group, &values, |value| {
                value.as_str().unwrap_or_default().into()
            })?,
            ColumnType::Json => column::<ByteArrayType, _>(group, &values, |value| {
                value.to_string().as_str().into()
            })?,
            ColumnType::Turns => {
                turns(group, &values, "role")?;
                turns(group, &values, "content")?;
            }
        }
    }
    group.close().map(drop)
}

fn column<T: DataType, W: io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[Option<&Value>],
    of: impl Fn(&Value) -> T::T,
) -> ParquetResult<()> {
    let present: Vec<T::T> = values.iter().flatten().map(|value| of(value)).collect();
    let levels: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column
        .typed::<T>()
        .write_batch(&present, Some(&levels), None)?;
    column.close()
}

/// One field of the turns of each row. Definition levels: 0 no list, 1 an empty one, 4 a text.
fn turns<W: io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[Option<&Value>],
    field: &str,
) -> ParquetResult<()> {
    let (mut texts, mut defined, mut repeated): (Vec<ByteArray>, Vec<i16>, Vec<i16>) =
        Default::default();
    for value in values {
        let Some(turns) = value.and_then(Value::as_array) else {
            defined.push(0);
            repeated.push(0);
            continue;
        };
        if turns.is_empty() {
            defined.push(1);
            repeated.push(0);
        }
        for (place, turn) in turns.iter().enumerate() {
            texts.push(
                turn.get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .into(),
            );
            defined.push(4);
            repeated.push(i16::from(place > 0));
        }
    }
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts, Some(&defined), Some(&repeated))?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::super::Rows;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_gives_back_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        let rows = [
            json!({"id": "a", "n": 1, "x": 1, "ok": true, "messages": [turn("user", "2+2?"), turn("assistant", "4 \"é\"")], "other": {"b": [1]}, "never": null}),
            json!({"id": "b", "n": 2, "x": 0.5, "messages": [turn("user", "q")], "mixed": "text"}),
            json!({"id": null, "n": null, "x": null, "ok": false, "mixed": 3}),
        ];
        let rows: Vec<Map<String, Value>> = rows
            .iter()
            .map(|row| row.as_object().unwrap().clone())
            .collect();
        let mut columns = Columns::default();
        for row in &rows {
            columns.add(row).unwrap();
        }
        let types: Vec<(&str, ColumnType)> = columns.iter().collect();
        assert_eq!(
            types[..6],
            [
                ("id", ColumnType::Text),
                ("n", ColumnType::Int),
                ("x", ColumnType::Double),
                ("ok", ColumnType::Bool),
                ("messages", ColumnType::Turns),
                ("other", ColumnType::Json)
            ]
        );
        assert_eq!(types[6..], [("mixed", ColumnType::Json)]);
        write_table(&path, &columns, |put| {
            rows.iter().try_for_each(|row| put(row.clone()))
        })
        .unwrap();
        let read: Vec<Value> = Rows::<Value>::open(&path)
            .unwrap()
            .map(|row| row.unwrap().unwrap().value)
            .collect();
        assert_eq!(read[0]["messages"], rows[0]["messages"]);
        assert_eq!(
            (&read[0]["id"], &read[0]["n"], &read[0]["x"]),
            (&json!("a"), &json!(1), &json!(1.0))
        );
        assert_eq!(
            (&read[0]["other"], &read[1]["mixed"], &read[2]["mixed"]),
            (&json!("{\"b\":[1]}"), &json!("\"text\""), &json!("3"))
        );
        assert_eq!(
            (&read[2]["id"], &read[2]["ok"], &read[2]["messages"]),
            (&Value::Null, &json!(false), &Value::Null)
        );
        let odd = json!({"a b; }": 1});
        assert!(
            columns
                .add(odd.as_object().unwrap())
                .unwrap_err()
                .contains("letters, digits")
        );
    }
}
