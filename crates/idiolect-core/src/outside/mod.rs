//! Answers that another program asked a model for, out of the files it leaves.
//!
//! One file a program, each a total function from one of its rows to an [`AnsweredRow`]: the columns
//! of the problem as that program read them, the texts that a model wrote, and what the program made
//! of them. Nothing is graded here, and a field of another type than the program writes is a reason
//! in words that names it.

pub mod answers;
pub mod inspect;
mod lighteval;
mod lm_eval;
mod openai_batch;
mod value;
mod vllm;

use serde_json::{Map, Value};

/// Whose rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// `samples_*.jsonl` of lm-evaluation-harness.
    LmEval,
    /// A log of inspect_ai as JSON.
    Inspect,
    /// `details_*.parquet` of lighteval.
    Lighteval,
    /// The output file of OpenAI's batches, which `vllm run-batch` writes too.
    OpenaiBatch,
    /// `RequestOutput`s of vLLM's offline inference.
    Vllm,
    /// Whoever wrote plain rows of answers; they are known by nothing, and so are stated.
    Answers,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LmEval,
        Self::Inspect,
        Self::Lighteval,
        Self::OpenaiBatch,
        Self::Vllm,
        Self::Answers,
    ];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LmEval => "lm-eval",
            Self::Inspect => "inspect",
            Self::Lighteval => "lighteval",
            Self::OpenaiBatch => "openai-batch",
            Self::Vllm => "vllm",
            Self::Answers => "answers",
        }
    }

    /// What its files hold, for a message.
    pub fn holds(self) -> &'static str {
        match self {
            Self::LmEval => "samples of lm-evaluation-harness (`doc`, `resps`)",
            Self::Inspect => "a log of inspect_ai (`eval`, `samples`)",
            Self::Lighteval => "details of lighteval (`doc`, `model_response`)",
            Self::OpenaiBatch => "the output of an OpenAI batch (`custom_id`, `response`)",
            Self::Vllm => "outputs of vLLM (`outputs` with `text`)",
            Self::Answers => "answers (`response` beside `problem_id` or the question)",
        }
    }

    /// Whether its rows are of an evaluation, and so of test problems where nothing states otherwise.
    pub fn evaluates(self) -> bool {
        matches!(self, Self::LmEval | Self::Inspect | Self::Lighteval)
    }

    /// Whose row this is, by its fields; a log of inspect_ai has no rows and is known by
    /// [`inspect::is_log`].
    pub fn of_row(row: &Map<String, Value>) -> Option<Self> {
        let has = |name: &str| row.contains_key(name);
        // Of an answer of one's own it is text.
        let is_body = |response: &Value| response.is_object() || response.is_null();
        let in_list = |name: &str, field: &str| {
            let first = row.get(name).and_then(|list| list.get(0));
            first.is_some_and(|first| first.get(field).is_some())
        };
        if has("doc_id") && has("doc") && has("resps") {
            Some(Self::LmEval)
        } else if has("doc") && has("model_response") {
            Some(Self::Lighteval)
        } else if has("custom_id") && row.get("response").is_some_and(is_body) {
            Some(Self::OpenaiBatch)
        } else if in_list("outputs", "text") && (has("prompt") || has("request_id")) {
            Some(Self::Vllm)
        } else {
            None
        }
    }

    /// Reads one of its rows.
    ///
    /// # Errors
    /// The field that is missing or of another type, in words.
    pub fn read(self, row: &Map<String, Value>) -> Result<AnsweredRow, String> {
        match self {
            Self::LmEval => lm_eval::read(row),
            Self::Inspect => inspect::read(row),
            Self::Lighteval => lighteval::read(row),
            Self::OpenaiBatch => openai_batch::read(row),
            Self::Vllm => vllm::read(row),
            Self::Answers => answers::read(row),
        }
    }
}

/// One problem as another program asked it, with what was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnsweredRow {
    /// Their name for the problem, where it is one.
    pub id: Option<String>,
    /// The problem's number in its data set, from 0, where they count.
    pub index: Option<usize>,
    /// The columns of the data set's row, as far as they keep them.
    pub columns: Map<String, Value>,
    /// The question, where `columns` may lack it.
    pub question: Option<String>,
    /// The right answer, where `columns` may lack it.
    pub gold: Option<String>,
    /// The whole prompt, as text.
    pub prompt: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// Settings of the sampling, by their usual names (`temperature`, `top_p`, `max_tokens`).
    pub sampling: Map<String, Value>,
    /// What was answered, in their order.
    pub replies: Vec<Reply>,
    /// What the program made of all of it: metric and value.
    pub scores: Map<String, Value>,
    /// The filter that `scores` are of, where one problem has a row a filter; empty where it has no
    /// name.
    pub filter: Option<String>,
}

impl AnsweredRow {
    /// Whether it was decoded greedily, where the row shows it.
    pub fn is_greedy(&self) -> Option<bool> {
        let temperature = self.sampling.get("temperature").and_then(Value::as_f64);
        match temperature {
            Some(temperature) => Some(temperature <= 0.0),
            None if self.sampling.contains_key("do_sample") => Some(false),
            // Several greedy answers would all be equal.
            None => (self.replies.len() > 1).then_some(false),
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// What was written, a reasoning part in `<think>`; or why there is nothing.
    pub text: Result<String, String>,
    /// How it ended, in the program's words.
    pub finish: Option<String>,
    /// Tokens written, where counted.
    pub n_tokens: Option<u64>,
}

impl Reply {
    /// A text of which nothing else is known.
    fn of(text: &str) -> Self {
        Self {
            text: Ok(text.to_owned()),
            finish: None,
            n_tokens: None,
        }
    }

    /// No text, for this reason.
    fn none(reason: String) -> Self {
        Self {
            text: Err(reason),
            finish: None,
            n_tokens: None,
        }
    }
}

/// What a grade of theirs says: right, wrong, or neither (a part of a point, a text of another kind).
pub fn is_right(score: &Value) -> Option<bool> {
    match score {
        Value::Bool(right) => Some(*right),
        // inspect_ai's letters: correct, incorrect.
        Value::String(letter) if letter == "C" => Some(true),
        Value::String(letter) if letter == "I" => Some(false),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Reads a row by the program that its fields show.
    fn read(row: &Value) -> Result<AnsweredRow, String> {
        let row = row.as_object().unwrap();
        Program::of_row(row).unwrap().read(row)
    }

    #[test]
    fn rows_are_told_apart_by_their_fields() {
        let of = |row: Value| Program::of_row(row.as_object().unwrap());
        let outputs = json!([{"text": "a", "token_ids": [1]}]);
        assert_eq!(
            of(json!({"doc_id": 0, "doc": {}, "resps": []})),
            Some(Program::LmEval)
        );
        assert_eq!(
            of(json!({"doc": {}, "model_response": {}, "metric": {}})),
            Some(Program::Lighteval)
        );
        assert_eq!(
            of(json!({"custom_id": "a", "response": null})),
            Some(Program::OpenaiBatch)
        );
        assert_eq!(
            of(json!({"request_id": "0", "outputs": outputs})),
            Some(Program::Vllm)
        );
        assert_eq!(
            of(json!({"question": "q", "answer": "1", "response": "2"})),
            None
        );
        assert_eq!(of(json!({"outputs": ["a"], "prompt": "p"})), None);
        // One's own answers may have such a column.
        assert_eq!(of(json!({"custom_id": "a", "response": "2"})), None);
    }

    #[test]
    fn first_samples_of_lm_eval_name_no_filter_and_list_their_arguments() {
        let of = |settings: Value| {
            read(
                &json!({"doc_id": 0.0, "doc": {"question": "q"}, "target": "3",
                "arguments": [["Q: q", settings]], "resps": [["It is 3"]], "filtered_resps": ["3"],
                "doc_hash": "d", "exact_match": 1.0}),
            )
            .unwrap()
        };
        let row = of(json!({"until": ["Q:"]}));
        assert_eq!((row.index, row.filter.as_deref()), (Some(0), Some("")));
        assert_eq!(
            (row.prompt.as_deref(), row.is_greedy()),
            (Some("Q: q"), Some(true))
        );
        assert_eq!(Value::from(row.scores), json!({"exact_match": 1.0}));
        assert_eq!(of(json!({"do_sample": true})).is_greedy(), Some(false));
    }

    #[test]
    fn a_null_in_place_of_a_text_is_an_answer_that_failed() {
        for row in [
            json!({"doc_id": 0, "doc": {}, "resps": [["a", null]]}),
            json!({"prompt": "p", "outputs": [{"text": "a"}, {"text": null}]}),
            json!({"doc": {"query": "q"}, "model_response": {"text": ["a", null]}}),
            json!({"custom_id": "a", "response": {"body": {"choices": [{"text": "a"}, {"text": null}]}}}),
        ] {
            let replies = read(&row).unwrap().replies;
            assert_eq!((replies.len(), &replies[0].text), (2, &Ok("a".to_owned())));
            let reason = replies[1].text.as_ref().unwrap_err();
            assert!(reason.contains("is null"), "{reason}");
        }
        let own = json!({"problem_id": "a", "responses": null});
        let own = Program::Answers.read(own.as_object().unwrap()).unwrap();
        assert!(own.replies[0].text.is_err());
    }

    #[test]
    fn a_number_that_names_the_problem_is_its_index() {
        let of = |row: Value| {
            let read = read(&row).unwrap();
            (read.id, read.index)
        };
        let outputs = json!([{"text": "a"}]);
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(
            of(json!({"prompt": "p", "outputs": outputs, "id": 7.0})),
            (id("7"), Some(7))
        );
        assert_eq!(
            of(json!({"prompt": "p", "outputs": outputs, "problem_id": null, "custom_id": "a/7"})),
            (id("a/7"), None)
        );
        assert_eq!(
            of(json!({"custom_id": "3", "response": null})),
            (id("3"), Some(3))
        );
        assert_eq!(
            of(json!({"custom_id": -0.5, "response": null})),
            (id("-0.5"), None)
        );
    }

    #[test]
    fn samples_of_lm_eval_keep_every_repeat_and_the_filter() {
        let row = json!({"doc_id": 7, "doc": {"question": "q", "answer": "#### 3"}, "target": "#### 3",
            "arguments": {"gen_args_0": {"arg_0": "Question: q\nAnswer:",
                "arg_1": {"until": ["Q:"], "do_sample": true, "temperature": 0.7, "max_gen_toks": 64}}},
            "resps": [["It is 3", "It is 4"]], "filtered_resps": ["3"], "filter": "strict-match",
            "metrics": ["exact_match"], "exact_match": 1.0});
        let read = read(&row).unwrap();
        assert_eq!((read.index, read.is_greedy()), (Some(7), Some(false)));
        assert_eq!(read.prompt.as_deref(), Some("Question: q\nAnswer:"));
        assert_eq!(read.replies, [Reply::of("It is 3"), Reply::of("It is 4")]);
        assert_eq!(Value::from(read.scores), json!({"exact_match": 1.0}));
        assert_eq!(read.filter.as_deref(), Some("strict-match"));
        assert_eq!(
            Value::from(read.sampling),
            json!({"temperature": 0.7, "max_tokens": 64})
        );
    }

    #[test]
    fn fields_of_other_types_are_reasons_that_name_them() {
        let lm_eval = |change: fn(&mut Value)| {
            let mut row = json!({"doc_id": 0, "doc": {"question": "q"}, "resps": [["a"]]});
            change(&mut row);
            read(&row).unwrap_err()
        };
        for (reason, words) in [
            (lm_eval(|row| row["doc"] = json!([1])), "`doc` is a list"),
            (
                lm_eval(|row| row["doc_id"] = json!(-1)),
                "`doc_id` is -1, not a whole number",
            ),
            (
                lm_eval(|row| row["doc_id"] = json!({})),
                "`doc_id` is an object",
            ),
            (lm_eval(|row| row["resps"] = json!("a")), "`resps` is text"),
            (lm_eval(|row| row["resps"] = json!([])), "`resps` is empty"),
            (
                lm_eval(|row| row["resps"] = json!([["a", 3]])),
                "`resps.0.1` is a number",
            ),
            (
                lm_eval(|row| row["resps"] = json!([[["-1.5", "False"]]])),
                "log-likelihoods of choices",
            ),
        ] {
            assert!(reason.contains(words), "{words}: {reason}");
        }
        let batch = json!({"custom_id": [3], "response": {"status_code": 200, "body": {}}});
        assert!(read(&batch).unwrap_err().contains("`custom_id` is a list"));
        let batch =
            json!({"custom_id": "a", "response": {"status_code": 200, "body": {"choices": {}}}});
        assert!(
            read(&batch)
                .unwrap_err()
                .contains("`response.body.choices` is an object")
        );
        let vllm = json!({"prompt": "p", "outputs": [{"text": "a"}, {"text": 3}]});
        assert!(
            read(&vllm)
                .unwrap_err()
                .contains("`outputs.1.text` is a number")
        );
        let details = json!({"doc": {"query": "q"}, "model_response": {"text": "a"}});
        assert!(
            read(&details)
                .unwrap_err()
                .contains("`model_response.text` is text")
        );
    }

    #[test]
    fn details_of_lighteval_give_the_gold_of_its_choices() {
        let row = json!({"doc": {"query": "Question: q\nAnswer:", "choices": [" no", " 5 #### 5"],
                "gold_index": 1, "id": "12", "task_name": "gsm8k|0", "num_samples": 2},
            "model_response": {"text": ["a", "b"], "reasonings": ["because", null], "output_tokens": [[1, 2, 3], [1]]},
            "metric": {"em": 0.5}});
        let read = read(&row).unwrap();
        assert_eq!((read.index, read.is_greedy()), (Some(12), Some(false)));
        assert_eq!(read.gold.as_deref(), Some("5 #### 5"));
        assert_eq!(
            read.replies[0].text,
            Ok("<think>\nbecause\n</think>\n\na".to_owned())
        );
        assert_eq!(
            (read.replies[0].n_tokens, read.replies[1].n_tokens),
            (Some(3), Some(1))
        );
    }

    #[test]
    fn a_batch_gives_every_choice_and_each_failure_its_reason() {
        let choice = |text: &str, reason: &str| {
            json!({"index": 0, "finish_reason": reason,
            "message": {"role": "assistant", "content": text}})
        };
        let body = json!({"model": "m", "choices": [choice("a", "stop"), choice("b", "length")],
            "usage": {"completion_tokens": 9}});
        let whole = json!({"custom_id": "gsm8k/train/3", "error": null,
            "response": {"status_code": 200, "body": body}});
        let row = read(&whole).unwrap();
        assert_eq!(
            (row.id.as_deref(), row.model.as_deref()),
            (Some("gsm8k/train/3"), Some("m"))
        );
        assert_eq!(row.replies.len(), 2);
        // The usage is of both together.
        assert_eq!(
            (row.replies[1].finish.as_deref(), row.replies[1].n_tokens),
            (Some("length"), None)
        );
        for failed in [
            json!({"custom_id": "a", "response": null, "error": {"code": "batch_expired", "message": "too late"}}),
            json!({"custom_id": "a", "response": {"status_code": 429, "body": {"error": {"message": "too late"}}}}),
        ] {
            let reason = read(&failed).unwrap().replies[0].text.clone().unwrap_err();
            assert!(reason.contains("too late"), "{reason}");
        }
    }

    #[test]
    fn a_message_may_be_parts_or_reasoning_that_was_cut_off() {
        let text = |message: Value| {
            let choices = json!([{"message": message, "finish_reason": "length"}]);
            let row = json!({"custom_id": "a", "response": {"body": {"choices": choices}}});
            let reply = read(&row).unwrap().replies.remove(0);
            assert_eq!(reply.finish.as_deref(), Some("length"));
            reply.text
        };
        let parts = json!([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]);
        assert_eq!(text(json!({"content": parts})), Ok("ab".to_owned()));
        assert_eq!(
            text(json!({"content": null, "reasoning_content": "So 3"})),
            Ok("<think>\nSo 3".to_owned())
        );
        assert_eq!(
            text(json!({"content": "3", "reasoning": "So"})),
            Ok("<think>\nSo\n</think>\n\n3".to_owned())
        );
        assert!(
            text(json!({"content": null, "refusal": "no"}))
                .unwrap_err()
                .ends_with("refused: no")
        );
        assert!(
            text(json!({"content": []}))
                .unwrap_err()
                .contains("has no text")
        );
    }

    #[test]
    fn a_response_object_gives_its_messages_texts() {
        let of = |body: Value| {
            let mut body = body;
            body["object"] = json!("response");
            let row = json!({"custom_id": "a", "response": {"status_code": 200, "body": body}});
            read(&row).unwrap().replies.remove(0)
        };
        let reply = of(
            json!({"model": "m", "status": "completed", "usage": {"output_tokens": 4},
            "output": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "So"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "3"}]}]}),
        );
        assert_eq!(reply.text, Ok("<think>\nSo\n</think>\n\n3".to_owned()));
        assert_eq!(
            (reply.finish.as_deref(), reply.n_tokens),
            (Some("stop"), Some(4))
        );
        let cut = of(json!({"status": "incomplete", "output": [],
            "incomplete_details": {"reason": "max_output_tokens"}}));
        assert_eq!(cut.finish.as_deref(), Some("length"));
        assert!(cut.text.is_err());
        let failed =
            of(json!({"status": "failed", "error": {"message": "too late"}, "output": []}));
        assert!(failed.text.unwrap_err().contains("too late"));
    }

    #[test]
    fn outputs_of_vllm_keep_every_sample_and_other_columns() {
        let row = json!({"request_id": "4", "prompt": "p", "prompt_token_ids": [1], "finished": true, "problem_id": "gsm8k/train/1",
            "outputs": [{"index": 0, "text": "a", "token_ids": [5, 6], "finish_reason": "stop", "stop_reason": null},
                {"index": 1, "text": "b", "token_ids": [5], "finish_reason": "length"}]});
        let read = read(&row).unwrap();
        assert_eq!(read.id.as_deref(), Some("gsm8k/train/1"));
        assert_eq!(
            read.replies[1],
            Reply {
                text: Ok("b".to_owned()),
                finish: Some("length".to_owned()),
                n_tokens: Some(1)
            }
        );
        assert!(read.columns.is_empty(), "{:?}", read.columns);
    }
}
