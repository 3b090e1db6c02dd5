//! Any JSON object as a raw row of every task: refused with a message, or a problem whose own
//! solution does not fail it.

use idiolect_core::record::{Split, TaskName};
use idiolect_core::task::{ImportRow, NoCode, task};
use serde_json::Value;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Ok(Value::Object(raw)) = serde_json::from_slice(data) else {
        return;
    };
    let at = ImportRow {
        index: 0,
        split: Some(Split::Train),
        set: "fuzz".to_owned(),
    };
    for name in TaskName::ALL {
        let task = task(name);
        match task.import(&raw, &at) {
            Err(reason) => assert!(!reason.is_empty()),
            Ok(imported) => {
                for trace in &imported.traces {
                    task.verify(&imported.problem, &trace.text, trace.finish, &NoCode);
                }
            }
        }
    }
}
