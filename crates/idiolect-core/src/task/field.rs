//! The fields that a task reads from a raw row, under every name that they go by: what `--map` can
//! fill and `import --help` lists.

use crate::record::TaskName;

/// A field of a raw row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The names that are looked for, in order; the first is the one to give to `--map`.
    pub names: &'static [&'static str],
    /// What it holds.
    pub about: &'static str,
}

const fn field(names: &'static [&'static str], about: &'static str) -> Field {
    Field { names, about }
}

const SHARED: [Field; 6] = [
    field(
        &["problem_id", "id"],
        "the problem's id; without one it is made of the split and the row's number",
    ),
    field(
        &["split"],
        "train, dev (also val, validation), test or teacher",
    ),
    field(
        &["task"],
        "the task's name; a row of another task is refused",
    ),
    field(&["response"], "a model's solution: becomes a trace"),
    field(
        &["model"],
        "the model that wrote the response; with it the trace counts as sampled (arms G and W)",
    ),
    field(
        &["finish", "finish_reason", "stop_reason", "done_reason"],
        "how the response ended: stop or length, or a server's word for either (end_turn, max_tokens, …)",
    ),
];

const GSM8K: [Field; 3] = [
    field(&["question", "problem"], "the question"),
    field(
        &["answer", "gold"],
        "the right number: bare, or behind #### of a solution, which is then the human one",
    ),
    field(&["human", "solution"], "the human solution"),
];

const MATH: [Field; 4] = [
    field(&["problem", "question"], "the problem"),
    field(&["solution", "human"], "the human solution"),
    field(
        &["answer", "gold"],
        "the right answer; without it what the solution states or boxes",
    ),
    field(&["unique_id"], "an id, taken before problem_id"),
];

const COUNTDOWN: [Field; 6] = [
    field(&["numbers", "nums"], "the numbers"),
    field(&["target"], "the number to reach"),
    field(
        &["gold"],
        "an object of numbers and target, in place of both",
    ),
    field(&["gold_expr"], "a solution to check the problem with"),
    field(&["question", "problem"], "the question; made where absent"),
    field(&["human", "solution"], "the human solution"),
];

const MBPP: [Field; 6] = [
    field(&["question", "text", "prompt", "problem"], "the question"),
    field(
        &["human", "code", "solution", "canonical_solution"],
        "the human solution",
    ),
    field(
        &["tests", "test_list", "test"],
        "assertions; all that are there",
    ),
    field(
        &["setup", "test_imports", "test_setup_code"],
        "code to run before the tests; all that is there",
    ),
    field(&["gold"], "an object of tests and setup, in place of both"),
    field(&["task_id"], "an id, taken after problem_id and id"),
];

/// The fields that a task alone reads.
pub fn own_fields(task: TaskName) -> &'static [Field] {
    match task {
        TaskName::Gsm8k => &GSM8K,
        TaskName::Math => &MATH,
        TaskName::Countdown => &COUNTDOWN,
        TaskName::Mbpp => &MBPP,
    }
}

/// The fields that every task reads.
pub fn shared_fields() -> &'static [Field] {
    &SHARED
}

/// All fields of a task's raw rows.
pub fn fields(task: TaskName) -> impl Iterator<Item = &'static Field> {
    own_fields(task).iter().chain(&SHARED)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::task::{ImportRow, task};

    /// A row that has every field of a task under its first name.
    fn row(name: TaskName) -> Map<String, Value> {
        let row = match name {
            TaskName::Gsm8k => json!({"question": "q", "answer": "18", "human": "h #### 18"}),
            TaskName::Math => json!({"problem": "q", "answer": "18", "solution": "h"}),
            TaskName::Countdown => {
                json!({"numbers": [1, 2], "target": 3, "question": "q", "human": "h"})
            }
            TaskName::Mbpp => json!({"question": "q", "human": "def f(): pass",
                "tests": ["assert f() is None"], "setup": "import re"}),
        };
        let mut row = row.as_object().unwrap().clone();
        let shared = json!({"problem_id": "a/1", "split": "dev", "task": name.as_str(),
            "response": "r", "model": "m", "finish": "stop"});
        row.extend(shared.as_object().unwrap().clone());
        row
    }

    #[test]
    fn every_name_of_a_field_is_read() {
        let at = ImportRow {
            index: 0,
            split: None,
            set: "a".to_owned(),
        };
        for name in TaskName::ALL {
            let whole = task(name).import(&row(name), &at).unwrap();
            assert_eq!(whole.traces.len(), 2, "{name}");
            for field in fields(name) {
                let first = field.names[0];
                // Those that stand in another's place are tried by the tasks' own tests.
                let Some(value) = row(name).get(first).cloned() else {
                    continue;
                };
                for other in field.names {
                    let mut renamed = row(name);
                    renamed.shift_remove(first);
                    renamed.insert((*other).to_owned(), value.clone());
                    let read = task(name).import(&renamed, &at).unwrap();
                    assert_eq!(read, whole, "{name}: `{other}` for `{first}`");
                }
            }
        }
    }

    #[test]
    fn no_two_fields_of_a_task_share_a_name() {
        for name in TaskName::ALL {
            let mut names: Vec<&str> = fields(name).flat_map(|f| f.names).copied().collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{name}");
        }
    }
}
