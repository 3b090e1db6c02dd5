//! Renders chat templates for `bench/templates.py`: a row {"template", "values"} a line in, a row
//! {"text"} or {"error"} out.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use idiolect_engine::template::ChatTemplate;
use idiolect_model::Message;
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let row: Value = serde_json::from_str(&line?)?;
        let answer = match rendered(&row) {
            Ok(text) => json!({"text": text}),
            Err(error) => json!({"error": error}),
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()?;
    Ok(())
}

fn rendered(row: &Value) -> Result<String, String> {
    let mut values: Map<String, Value> = row["values"].as_object().cloned().unwrap_or_default();
    let messages: Vec<Message> = match values.remove("messages") {
        Some(messages) => serde_json::from_value(messages).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let source = row["template"].as_str().ok_or("`template` is no text")?;
    ChatTemplate::new(source, BTreeMap::new())?.render_with(&messages, &values, false)
}
