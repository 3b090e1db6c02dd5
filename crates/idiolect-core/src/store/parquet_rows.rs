//! Parquet rows as JSON values: what a data set published as parquet needs, without arrow.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::FileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use serde_json::{Map, Number, Value};

use super::StoreError;
use super::parquet_file::{guarded, open};

/// The records of one parquet file.
pub(super) struct Records {
    rows: RowIter<'static>,
    line: u64,
}

impl Records {
    /// Of an open file; `path` is its name.
    pub(super) fn of(file: File, path: &Path) -> Result<Self, StoreError> {
        let reader = open(file, path, "a parquet file")?;
        Ok(Self {
            rows: RowIter::from_file_into(Box::new(reader) as Box<dyn FileReader>),
            line: 0,
        })
    }

    /// The next record and its number from 1.
    pub(super) fn next_value(&mut self) -> Result<Option<(u64, Value)>, String> {
        let row = guarded(|| self.rows.next().transpose())
            .map_err(|reason| format!("cannot be read on after row {}: {reason}", self.line))?;
        let Some(row) = row else { return Ok(None) };
        self.line += 1;
        let object: Map<String, Value> = row
            .get_column_iter()
            .map(|(name, field)| (name.clone(), json(field)))
            .collect();
        Ok(Some((self.line, Value::Object(object))))
    }
}

fn json(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(v) => Value::Bool(*v),
        Field::Byte(v) => Value::from(*v),
        Field::Short(v) => Value::from(*v),
        Field::Int(v) | Field::Date(v) | Field::TimeMillis(v) => Value::from(*v),
        Field::Long(v)
        | Field::TimeMicros(v)
        | Field::TimestampMillis(v)
        | Field::TimestampMicros(v) => Value::from(*v),
        Field::UByte(v) => Value::from(*v),
        Field::UShort(v) => Value::from(*v),
        Field::UInt(v) => Value::from(*v),
        Field::ULong(v) => Value::from(*v),
        Field::Float16(v) => number(f64::from(f32::from(*v))),
        Field::Float(v) => number(f64::from(*v)),
        Field::Double(v) => number(*v),
        Field::Str(text) => Value::from(text.as_str()),
        // Old writers left the UTF-8 mark off their text columns.
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => Value::from(text),
            Err(_) => Value::from(bytes.data().to_vec()),
        },
        Field::Group(row) => Value::Object(
            row.get_column_iter()
                .map(|(name, field)| (name.clone(), json(field)))
                .collect(),
        ),
        Field::ListInternal(list) => list.elements().iter().map(json).collect(),
        Field::MapInternal(map) => Value::Object(
            map.entries()
                .iter()
                .map(|(key, value)| (key_text(key), json(value)))
                .collect(),
        ),
        // Decimals and whatever a later version adds: as they print.
        other => Value::from(other.to_string()),
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn key_text(key: &Field) -> String {
    match key {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    }
}
