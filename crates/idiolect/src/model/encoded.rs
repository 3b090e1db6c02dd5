//! Scoring of rows that are rendered and tokenized here and computed elsewhere.

use std::ops::ControlFlow;

use idiolect_engine::encode::Row;
use idiolect_engine::text::TextModel;
use idiolect_model::{Example, ModelError, Scored, Sink};

/// Rows that are tokenized before they are asked for.
const ROWS_AT_ONCE: usize = 4096;

/// Encodes examples, some at a time, and has `ask` score the rows of those that can be encoded: it
/// gives each score by the row's place among them, and breaks where it was stopped. `sink` gets every
/// example's by its own place.
///
/// # Errors
/// Those of `ask`.
pub(crate) fn score_encoded(
    text: &TextModel,
    examples: &[Example],
    sink: Sink<'_, Scored>,
    mut ask: impl FnMut(&[Row], Sink<'_, Scored>) -> Result<ControlFlow<()>, ModelError>,
) -> Result<(), ModelError> {
    for (first, examples) in (0..)
        .step_by(ROWS_AT_ONCE)
        .zip(examples.chunks(ROWS_AT_ONCE))
    {
        let (mut at, mut rows) = (Vec::new(), Vec::new());
        for (index, example) in (first..).zip(examples) {
            match text.encode(example) {
                Ok(row) => {
                    at.push(index);
                    rows.push(row);
                }
                Err(refused) => {
                    if sink(index, Err(refused)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        let mut flow = ControlFlow::Continue(());
        let asked = ask(&rows, &mut |row, scored| {
            flow = sink(at[row], scored);
            flow
        })?;
        if flow.is_break() || asked.is_break() {
            return Ok(());
        }
    }
    Ok(())
}
