//! A model asked by files instead of by calls: OpenAI's batch API and `vllm run-batch` take a file of
//! requests and give one of replies, hours later and at a lower price.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use idiolect_model::{
    Capabilities, Completion, Compute, Generate, GenerateRequest, Model, ModelError, ModelInfo,
    RowError, Sampling, Sink, Template, content_hash,
};
use serde_json::{Value, json};

use super::refusal::Fault;
use super::reply;
use super::request::Parameters;
use crate::address::Address;

/// What a batch may hold, by OpenAI's limits.
const MOST_ROWS: usize = 50_000;
const MOST_BYTES: usize = 190_000_000;

/// The longest line that is read as a reply.
const LONGEST_LINE: u64 = 64 << 20;

/// A model whose requests are written to files and whose replies are read from files, all in one
/// folder. No server is asked.
///
/// What has no reply yet is written to `requests-0001.jsonl` and so on, each request once; every
/// `*.jsonl` of the folder may hold replies, in any order. A request and its reply have the hash of
/// what is asked as `custom_id`, so that nothing is asked for twice, whatever was changed between.
pub struct Batch {
    folder: PathBuf,
    info: ModelInfo,
    parameters: Parameters,
    path: &'static str,
    /// Where the reply to each request is.
    replies: BTreeMap<String, Reply>,
    /// Requests that were written before.
    written: BTreeSet<String>,
    files: Vec<(PathBuf, File)>,
}

#[derive(Clone, Copy)]
struct Reply {
    file: usize,
    at: u64,
    len: usize,
}

impl Batch {
    /// The model that `http(s)://HOST/v1#MODEL` names, by the files of `folder`, which is made where
    /// it is not there. Prompts are rendered as [`Template::Chat`] unless `template` is given.
    ///
    /// # Errors
    /// Where the reference names no model, or a file of the folder cannot be read.
    pub fn open(
        reference: &str,
        template: Option<Template>,
        folder: &Path,
    ) -> Result<Self, ModelError> {
        let address = Address::parse(reference).map_err(ModelError::Invalid)?;
        let Some(name) = address.model else {
            return Err(ModelError::Invalid(format!(
                "`{reference}` names no model, and no server is asked for one: write {reference}#MODEL"
            )));
        };
        let template = template.unwrap_or(Template::Chat);
        let hosted = address.bases.iter().any(|base| base.is_of("openai.com"));
        fs::create_dir_all(folder).map_err(io(folder))?;
        let mut batch = Self {
            folder: folder.to_owned(),
            parameters: if hosted {
                Parameters::of_openai()
            } else {
                Parameters::default()
            },
            info: ModelInfo {
                hash: content_hash(format!("batch {name}").as_bytes()),
                tokenizer_hash: String::new(),
                template,
                name,
                ignored_config_fields: Vec::new(),
                compute: Compute::F32,
                server: None,
            },
            path: match template {
                Template::Raw => "/v1/completions",
                Template::Chat => "/v1/chat/completions",
            },
            replies: BTreeMap::new(),
            written: BTreeSet::new(),
            files: Vec::new(),
        };
        batch.read_folder()?;
        Ok(batch)
    }

    fn read_folder(&mut self) -> Result<(), ModelError> {
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.folder)
            .map_err(io(&self.folder))?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect();
        paths.sort();
        for path in paths {
            let file = File::open(&path).map_err(io(&path))?;
            self.read_file(self.files.len(), &path, &file)?;
            self.files.push((path, file));
        }
        Ok(())
    }

    /// Notes requests and replies of a file.
    fn read_file(&mut self, index: usize, path: &Path, file: &File) -> Result<(), ModelError> {
        let mut reader = BufReader::new(file);
        let (mut at, mut number) = (0u64, 0u64);
        loop {
            let mut line = Vec::new();
            let read = (&mut reader)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line);
            let len = read.map_err(io(path))?;
            if len == 0 {
                return Ok(());
            }
            number += 1;
            let start = at;
            at += len as u64;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let wrong = |what: &str| {
                ModelError::Invalid(format!(
                    "{}, line {number}: {what}; a line of a batch is a request or a reply, each \
                     with a `custom_id`",
                    path.display()
                ))
            };
            let row: Value = serde_json::from_slice(&line)
                .map_err(|error| wrong(&format!("no JSON: {error}")))?;
            let id = row.get("custom_id").and_then(Value::as_str);
            let id = id
                .ok_or_else(|| wrong("there is no `custom_id`"))?
                .to_owned();
            if row.get("body").is_some() {
                self.written.insert(id);
                continue;
            }
            let reply = Reply {
                file: index,
                at: start,
                len,
            };
            // A request that failed may have been sent again.
            if answered(&row) || !self.replies.contains_key(&id) {
                self.replies.insert(id, reply);
            }
        }
    }

    fn reply(&self, place: Reply) -> Result<Value, ModelError> {
        let (path, mut file) = (&self.files[place.file].0, &self.files[place.file].1);
        let mut line = vec![0; place.len];
        file.seek(SeekFrom::Start(place.at))
            .and_then(|_| file.read_exact(&mut line))
            .map_err(io(path))?;
        serde_json::from_slice(&line).map_err(|error| {
            ModelError::Invalid(format!("{} was changed: {error}", path.display()))
        })
    }

    /// Writes requests to new files. Returns their names.
    fn write(&self, requests: &[(String, Value)]) -> Result<Vec<String>, ModelError> {
        let mut names = Vec::new();
        let mut rows = requests.iter().peekable();
        let mut number = 1;
        while rows.peek().is_some() {
            let path = loop {
                let path = self.folder.join(format!("requests-{number:04}.jsonl"));
                if !path.exists() {
                    break path;
                }
                number += 1;
            };
            let written = idiolect_files::replace(&path, |file| {
                let mut file = BufWriter::new(file);
                let (mut count, mut bytes) = (0, 0);
                while let Some((id, body)) = rows.peek() {
                    let line =
                        json!({"custom_id": id, "method": "POST", "url": self.path, "body": body});
                    let line = format!("{line}\n");
                    if count > 0 && (count == MOST_ROWS || bytes + line.len() > MOST_BYTES) {
                        break;
                    }
                    file.write_all(line.as_bytes())?;
                    count += 1;
                    bytes += line.len();
                    rows.next();
                }
                file.flush()
            });
            written.map_err(io(&path))?;
            names.push(path.display().to_string());
        }
        Ok(names)
    }

    fn waiting(&self, missing: usize, new: &[String]) -> ModelError {
        let written = match new {
            [] => "all were written before".to_owned(),
            names => format!("new requests are in {}", names.join(", ")),
        };
        let folder = self.folder.display();
        ModelError::Waiting(format!(
            "{missing} requests have no reply yet; {written}. Send them (`vllm run-batch --model \
             {model} -i {folder}/requests-0001.jsonl -o {folder}/replies-0001.jsonl`, or a batch \
             API), put the replies into {folder}, and run the same command again",
            model = self.info.name,
        ))
    }
}

/// Whether a reply is an answer.
fn answered(row: &Value) -> bool {
    let status = row.pointer("/response/status_code").and_then(Value::as_u64);
    row.get("error").is_none_or(Value::is_null) && status.is_none_or(|status| status == 200)
}

/// The completion of a line of replies.
fn completion(row: &Value, template: Template) -> Result<Completion, RowError> {
    let body = row.pointer("/response/body").unwrap_or(&Value::Null);
    if !answered(row) {
        let errors = [row.get("error"), body.get("error"), Some(body)];
        let error = errors.into_iter().flatten().find(|value| !value.is_null());
        return Err(RowError::other(format!(
            "the batch has an error for this request: {}",
            error.unwrap_or(&Value::Null)
        )));
    }
    match reply::read(body, template) {
        Ok(written) => Ok(written.completion),
        Err(Fault::Row { error, .. }) => Err(error),
        Err(fault) => Err(RowError::other(fault.reason())),
    }
}

impl Model for Batch {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            generate: true,
            sampled_logprobs: false,
            score: false,
            ranks: false,
            entropies: false,
            gradients: false,
            deterministic: false,
        }
    }

    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        Ok(self)
    }
}

impl Generate for Batch {
    /// Gives the replies that are there, then writes down what has none.
    ///
    /// # Errors
    /// [`ModelError::Waiting`] where requests wait for replies.
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError> {
        self.parameters.require(sampling, &self.info.name)?;
        let template = self.info.template;
        let (mut missing, mut new) = (0, Vec::new());
        for (index, request) in requests.iter().enumerate() {
            let body = self.parameters.body(
                (template, &self.info.name),
                &request.context,
                sampling,
                request.seed,
                false,
            );
            let result = match body {
                Err(refused) => Err(refused),
                Ok(body) => {
                    let id = content_hash(body.to_string().as_bytes());
                    match self.replies.get(&id) {
                        Some(place) => completion(&self.reply(*place)?, template),
                        None => {
                            missing += 1;
                            if self.written.insert(id.clone()) {
                                new.push((id, body));
                            }
                            continue;
                        }
                    }
                }
            };
            if sink(index, result) == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        if missing == 0 {
            return Ok(());
        }
        let names = self.write(&new)?;
        Err(self.waiting(missing, &names))
    }

    fn requests_at_once(&self) -> usize {
        usize::MAX
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.display().to_string();
    |source| ModelError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_model::Context;

    const MODEL: &str = "http://127.0.0.1:8000/v1#org/m";

    fn requests(n: u64) -> Vec<GenerateRequest> {
        (0..n)
            .map(|seed| GenerateRequest {
                context: Context::Prompt(format!("q{seed}")),
                seed,
            })
            .collect()
    }

    /// What came of a request: a text, why there is none, or nothing yet.
    type Row = Option<Result<String, String>>;

    fn ask(folder: &Path, n: u64) -> (Vec<Row>, Result<(), ModelError>) {
        let mut batch = Batch::open(MODEL, None, folder).unwrap();
        let mut rows = vec![None; n as usize];
        let end = batch.generate(&requests(n), &Sampling::default(), &mut |index, result| {
            let result = result.map(|c| c.text).map_err(|e| e.reason);
            assert!(rows[index].replace(result).is_none(), "{index} twice");
            ControlFlow::Continue(())
        });
        (rows, end)
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn reply_to(request: &Value) -> Value {
        let question = request["body"]["messages"][0]["content"].as_str().unwrap();
        let message = json!({"role": "assistant", "content": question.to_uppercase()});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        json!({"id": "b", "custom_id": request["custom_id"], "error": null,
               "response": {"status_code": 200, "body": {"choices": [choice]}}})
    }

    fn put(path: &Path, rows: &[Value]) {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn requests_are_written_once_and_replies_found_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, end) = ask(folder.path(), 3);
        assert!(rows.iter().all(Option::is_none));
        let text = end.unwrap_err().to_string();
        assert!(text.contains("3 requests have no reply yet"), "{text}");
        let file = folder.path().join("requests-0001.jsonl");
        let written = lines(&file);
        assert_eq!(written.len(), 3);
        assert_eq!(written[0]["url"], "/v1/chat/completions");
        assert_eq!(written[0]["body"]["model"], "org/m");
        // Two replies come, in another order, one of them an error that was fixed later.
        let failed = json!({"custom_id": written[0]["custom_id"], "error": null,
            "response": {"status_code": 500, "body": {"error": "busy"}}});
        put(
            &folder.path().join("a.jsonl"),
            &[reply_to(&written[2]), failed],
        );
        let (rows, end) = ask(folder.path(), 3);
        assert_eq!(rows[2], Some(Ok("Q2".to_owned())));
        assert!(
            rows[0]
                .as_ref()
                .unwrap()
                .as_ref()
                .unwrap_err()
                .contains("busy")
        );
        assert!(end.unwrap_err().to_string().contains("1 requests"));
        assert!(!folder.path().join("requests-0002.jsonl").exists());
        put(
            &folder.path().join("b.jsonl"),
            &[reply_to(&written[0]), reply_to(&written[1])],
        );
        // A request more is the only new one.
        let (rows, _) = ask(folder.path(), 4);
        assert_eq!(rows[0], Some(Ok("Q0".to_owned())));
        assert_eq!(lines(&folder.path().join("requests-0002.jsonl")).len(), 1);
        let (rows, end) = ask(folder.path(), 3);
        assert!(end.is_ok() && rows.iter().all(|row| matches!(row, Some(Ok(_)))));
    }

    #[test]
    fn a_batch_that_is_too_large_for_one_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let n = MOST_ROWS as u64 + 7;
        ask(folder.path(), n).1.unwrap_err();
        let count = |name: &str| lines(&folder.path().join(name)).len();
        assert_eq!(count("requests-0001.jsonl"), MOST_ROWS);
        assert_eq!(count("requests-0002.jsonl"), 7);
    }

    #[test]
    fn what_is_no_batch_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("x.jsonl"),
            "{\"custom_id\": \"a\"}\n{\"a\": 1}\n",
        )
        .unwrap();
        let error = Batch::open(MODEL, None, folder.path()).err().unwrap();
        assert!(error.to_string().contains("x.jsonl, line 2"), "{error}");
        let unnamed = Batch::open("http://127.0.0.1/v1", None, folder.path());
        assert!(unnamed.err().unwrap().to_string().contains("#MODEL"));
    }

    #[test]
    fn a_hosted_model_is_sent_no_field_that_it_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let mut batch = Batch::open("https://api.openai.com/v1#m", None, folder.path()).unwrap();
        let mut none = |_, _| ControlFlow::Continue(());
        let sampling = Sampling::default();
        batch
            .generate(&requests(1), &sampling, &mut none)
            .unwrap_err();
        let written = lines(&folder.path().join("requests-0001.jsonl"));
        assert!(written[0]["body"].get("top_k").is_none());
        let top = Sampling {
            top_k: 5,
            ..sampling
        };
        let error = batch.generate(&requests(1), &top, &mut none).unwrap_err();
        assert!(error.to_string().contains("`top_k`"), "{error}");
    }
}
