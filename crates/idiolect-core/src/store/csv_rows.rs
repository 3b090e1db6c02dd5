//! Rows of a CSV file (RFC 4180): a header line, cells with commas between them, quotes around cells
//! that hold commas, quotes or line breaks.
//!
//! An empty cell without quotes is absent, `""` an empty text. Cells are texts; where a record wants
//! a number, a truth value, a list or an object, the cell is read as one.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::Arc;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

use super::rows::MAX_ROW_BYTES;

/// Cells of a record: each takes more memory than its comma.
const MAX_CELLS: usize = 100_000;

/// The records of a CSV file.
pub(super) struct Records {
    stream: Box<dyn BufRead>,
    header: Vec<Arc<str>>,
    /// Lines read so far.
    line: u64,
}

/// One record: its cells that are not absent, by column.
pub(super) struct Record(Vec<(Arc<str>, String)>);

/// What is on one or more lines of the file.
struct Lines {
    /// The first of them, from 1.
    line: u64,
    cells: Vec<Cell>,
    /// The beginning of the text, for messages.
    text: Vec<u8>,
}

#[derive(Default)]
struct Cell {
    bytes: Vec<u8>,
    quoted: bool,
}

/// A record that cannot be one: line, reason, beginning.
pub(super) type Bad = (u64, String, Vec<u8>);

/// A record with its line, or what is wrong with one.
type Read = Result<(u64, Record), Bad>;

impl Records {
    /// Reads the header.
    pub(super) fn open(stream: Box<dyn BufRead>) -> Result<Self, String> {
        let mut records = Self {
            stream,
            header: Vec::new(),
            line: 0,
        };
        let Some(first) = records.next_lines()? else {
            return Err("is empty; a CSV file begins with a line of column names".to_owned());
        };
        let first = first.map_err(|(line, reason, _)| format!("line {line}: {reason}"))?;
        let mut names = BTreeSet::new();
        for cell in first.cells {
            let name = String::from_utf8(cell.bytes)
                .map_err(|_| "the line of column names is not UTF-8".to_owned())?;
            let name = name.trim();
            if !name.is_empty() && !names.insert(name.to_owned()) {
                return Err(format!("two columns are named `{name}`"));
            }
            records.header.push(name.into());
        }
        if let [only] = records.header.as_slice()
            && let Some(other) = [';', '\t'].into_iter().find(|c| only.contains(*c))
        {
            return Err(format!(
                "the column names are separated by {other:?}; a CSV file has commas between its cells"
            ));
        }
        Ok(records)
    }

    /// The next record and its first line.
    pub(super) fn next_record(&mut self) -> Result<Option<Read>, String> {
        loop {
            let Lines { line, cells, text } = match self.next_lines()? {
                None => return Ok(None),
                Some(Err(bad)) => return Ok(Some(Err(bad))),
                Some(Ok(lines)) => lines,
            };
            if let [only] = cells.as_slice()
                && only.bytes.is_empty()
                && !only.quoted
            {
                continue;
            }
            let bad = |reason: String| Ok(Some(Err((line, reason, text.clone()))));
            if cells.len() != self.header.len() {
                return bad(format!(
                    "has {} cells, and the header {} columns",
                    cells.len(),
                    self.header.len()
                ));
            }
            let mut record = Vec::with_capacity(cells.len());
            for (name, cell) in self.header.iter().zip(cells) {
                if cell.bytes.is_empty() && !cell.quoted {
                    continue;
                }
                match String::from_utf8(cell.bytes) {
                    Ok(text) => record.push((Arc::clone(name), text)),
                    Err(_) => return bad(format!("the cell of column `{name}` is not UTF-8")),
                }
            }
            return Ok(Some(Ok((line, Record(record)))));
        }
    }

    /// The cells up to the next line break outside quotes; none at the end of the file.
    fn next_lines(&mut self) -> Result<Option<Result<Lines, Bad>>, String> {
        let line = self.line + 1;
        let (mut cells, mut cell, mut text) = (Vec::new(), Cell::default(), Vec::new());
        let mut state = State::Begin;
        let (mut length, mut fault) = (0usize, None);
        loop {
            let byte = self.next_byte()?;
            length += 1;
            if let Some(byte) = byte.filter(|_| text.len() < 1000) {
                text.push(byte);
            }
            match (state, byte) {
                (State::Quoted, None) => {
                    return Err(format!(
                        "line {line}: a quote is opened and never closed; the file is cut off, or \
                         a quote inside a cell is not doubled"
                    ));
                }
                (_, None) if length == 1 => return Ok(None),
                (_, None | Some(b'\n')) if !matches!(state, State::Quoted) => {
                    self.line += u64::from(byte.is_some());
                    if state == State::Plain && cell.bytes.last() == Some(&b'\r') {
                        cell.bytes.pop();
                    }
                    cells.push(cell);
                    return Ok(Some(match fault {
                        Some(reason) => Err((line, reason, text)),
                        None => Ok(Lines { line, cells, text }),
                    }));
                }
                (State::Begin, Some(b'"')) => {
                    cell.quoted = true;
                    state = State::Quoted;
                }
                (State::Begin | State::Plain | State::Closed, Some(b',')) => {
                    cells.push(std::mem::take(&mut cell));
                    state = State::Begin;
                    if cells.len() > MAX_CELLS {
                        cells.clear();
                        fault = Some(format!("has more than {MAX_CELLS} cells"));
                    }
                }
                (State::Begin | State::Plain, Some(byte)) => {
                    cell.bytes.push(byte);
                    state = State::Plain;
                }
                (State::Quoted, Some(b'"')) => state = State::Closed,
                (State::Quoted, Some(byte)) => {
                    self.line += u64::from(byte == b'\n');
                    cell.bytes.push(byte);
                }
                (State::Closed, Some(b'"')) => {
                    cell.bytes.push(b'"');
                    state = State::Quoted;
                }
                (State::Closed, Some(b'\r')) => {}
                (State::Closed, Some(_)) => {
                    fault.get_or_insert_with(|| {
                        "text follows a closing quote; a quote inside a cell is doubled".to_owned()
                    });
                }
                (State::Begin | State::Plain | State::Closed, None) => {}
            }
            if length > MAX_ROW_BYTES {
                cell.bytes.clear();
            }
            if length == MAX_ROW_BYTES + 1 {
                fault = Some(format!("longer than {} MiB", MAX_ROW_BYTES >> 20));
            }
        }
    }

    fn next_byte(&mut self) -> Result<Option<u8>, String> {
        let byte = match self.stream.fill_buf() {
            Ok(bytes) => bytes.first().copied(),
            Err(error) => return Err(super::rows::cut_off(error)),
        };
        self.stream.consume(usize::from(byte.is_some()));
        Ok(byte)
    }
}

/// Where in a cell the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Plain,
    Quoted,
    /// Behind a quote inside quotes: the end of the cell, or the first of two.
    Closed,
}

impl Record {
    /// The record as a typed row.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let entries = self.0.iter().map(|(name, text)| (&**name, Text(text)));
        T::deserialize(MapDeserializer::new(entries))
    }

    /// The record as JSON, for messages.
    pub(super) fn to_json(&self) -> String {
        let entries = self
            .0
            .iter()
            .map(|(k, v)| (k.to_string(), v.as_str().into()));
        Value::Object(Map::from_iter(entries)).to_string()
    }
}

/// A cell's text as what the record wants of it.
struct Text<'a>(&'a str);

impl<'de> IntoDeserializer<'de, Error> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Reads the text as JSON of the wanted kind, else as a text, whose type the visitor then refuses.
macro_rules! as_json {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match serde_json::from_str::<Value>(self.0) {
                Ok(value) if !value.is_string() => value.$name(visitor),
                _ => visitor.visit_str(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        StrDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match serde_json::from_str::<Value>(self.0) {
            Ok(value) if value.is_object() => value.deserialize_struct(name, fields, visitor),
            _ => Err(de::Error::invalid_type(
                de::Unexpected::Str(self.0),
                &visitor,
            )),
        }
    }

    as_json! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_seq
        deserialize_map
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}
