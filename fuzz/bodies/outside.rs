//! A row of another program, or a log of one: refused with a reason, or answers each of which is a text
//! or states why there is none.

use idiolect_core::outside::{AnsweredRow, Program, answers, inspect};
use serde_json::{Map, Value};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    inspect::is_log(data);
    match inspect::log(&text) {
        Err(reason) => assert!(!reason.is_empty()),
        Ok(log) => {
            for (_, sample) in log.samples {
                match sample.and_then(|sample| Program::Inspect.read(&sample)) {
                    Err(reason) => assert!(!reason.is_empty()),
                    Ok(row) => answered(&row),
                }
            }
        }
    }
    let Ok(row) = serde_json::from_slice::<Map<String, Value>>(data) else {
        return;
    };
    Program::of_row(&row);
    answers::unknown_fields(&row);
    for program in Program::ALL {
        match program.read(&row) {
            Err(reason) => assert!(!reason.is_empty(), "{}", program.as_str()),
            Ok(row) => answered(&row),
        }
    }
}

fn answered(row: &AnsweredRow) {
    row.is_greedy();
    for reply in &row.replies {
        assert!(
            reply
                .text
                .as_ref()
                .map_or_else(|why| !why.is_empty(), |_| true)
        );
    }
}
