//! Scoring by torch in the user's own Python environment: token ids out, every column of the token
//! scores back, on a GPU where there is one.
//!
//! Prompts are rendered and tokenized here, so that the ids are those of the native engine. The
//! worker is one process that holds the model; requests and replies are files of a folder of its own,
//! so that it needs neither a port nor this program's standard output.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use idiolect_engine::encode::Row;
use idiolect_engine::peft;
use idiolect_engine::text::{Opening, TextModel};
use idiolect_model::{
    Capabilities, Compute, Distribution, Example, Model, ModelError, ModelInfo, Score, Scored,
    Sink, TokenScore,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::interrupt::Stop;
use crate::launch::python::{Package, search_path, versions};
use crate::launch::{Launch, Process};
use crate::model::encoded::score_encoded;
use crate::model::{self, How};
use crate::stage::StageError;
pub use settings::TorchSettings;

mod settings;

/// The worker.
const WORKER: &str = include_str!("worker.py");

const PACKAGES: [Package; 2] = [
    Package {
        name: "torch",
        from: "2.5",
    },
    Package {
        name: "transformers",
        from: "5.0",
    },
];

/// What scoring with an adapter needs beside.
const PEFT: Package = Package {
    name: "peft",
    from: "0.17",
};

/// Lines of the worker's log that an error shows.
const SHOWN_LINES: usize = 20;

/// How often its replies are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A model that torch scores with.
pub struct Torch<'a> {
    text: TextModel,
    info: ModelInfo,
    recorded: BTreeMap<String, Value>,
    worker: Worker<'a>,
}

/// The process that holds the model, and the folder through which it is asked.
struct Worker<'a> {
    process: Process,
    folder: TempDir,
    requests: usize,
    stop: &'a Stop,
}

/// What the worker says when it has loaded the model.
#[derive(Deserialize)]
struct Ready {
    device: String,
    vocabulary: usize,
}

/// A line of a reply.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    row: usize,
    logprob: Vec<f32>,
    rank: Vec<u32>,
    entropy: Vec<f32>,
    varentropy: Vec<f32>,
    sum_p2: Vec<f32>,
}

impl<'a> Torch<'a> {
    /// Checks the environment, then starts a worker with a model directory, an adapter directory with
    /// its base, or a model of the hub.
    ///
    /// # Errors
    /// When the environment will not do, the model cannot be used, or the worker does not start.
    pub fn open(
        reference: &str,
        how: &How<'a>,
        settings: &TorchSettings,
    ) -> Result<Self, StageError> {
        if settings.batch_tokens == 0 {
            return Err(StageError::usage("`batch_tokens` begins at 1", ""));
        }
        let directory = model::directory(reference, how.progress, how.stop)?;
        let is_adapter = peft::is_adapter(&directory);
        let mut packages = PACKAGES.to_vec();
        packages.extend(is_adapter.then_some(PEFT));
        let versions = versions(&settings.python, &packages, "scoring by torch")?;
        let in_f32 = Opening {
            compute: Compute::F32,
            ..how.opening
        };
        let text = TextModel::open(&directory, &in_f32)?;
        // Scores name the model by the hash of its weights, whoever computes with them.
        let opened = model::local(
            reference,
            &How {
                opening: in_f32,
                ..*how
            },
        )?;
        let info = ModelInfo {
            compute: how.opening.compute,
            ..opened.info().clone()
        };
        drop(opened);
        let base = match is_adapter {
            true => {
                let config = peft::read_adapter_config(&directory)?;
                Some(peft::find_base(&directory, &config, how.opening.base)?)
            }
            false => None,
        };
        let model = base.as_deref().unwrap_or(&directory);
        let folder = tempfile::Builder::new()
            .prefix("idiolect-torch-")
            .tempdir()
            .map_err(|error| failed(format!("cannot make a temporary folder: {error}")))?;
        let absolute = |path: &Path| {
            fs::canonicalize(path).map_err(|error| failed(format!("`{}`: {error}", path.display())))
        };
        let job = json!({
            "model": absolute(model)?,
            "adapter": if is_adapter { Some(absolute(&directory)?) } else { None },
            "folder": folder.path(),
            "device": settings.device,
            "compute": how.opening.compute,
            "batch_tokens": settings.batch_tokens,
        });
        let (script, file) = (
            folder.path().join("worker.py"),
            folder.path().join("job.json"),
        );
        for (path, text) in [(&script, WORKER.to_owned()), (&file, job.to_string())] {
            fs::write(path, text)
                .map_err(|error| failed(format!("`{}`: {error}", path.display())))?;
        }
        let words = [
            settings.python.as_str(),
            &script.to_string_lossy(),
            &file.to_string_lossy(),
        ];
        let words = words.map(str::to_owned).to_vec();
        let mut launch = Launch::new(words, &folder.path().join("torch.log"));
        launch.environment.extend(search_path(&settings.python));
        let process = Process::start(&launch).map_err(failed)?;
        let mut worker = Worker {
            process,
            folder,
            requests: 0,
            stop: how.stop,
        };
        let ready = worker.ready()?;
        let of_config = text.config().model.vocab;
        if ready.vocabulary != of_config {
            return Err(failed(format!(
                "torch's model has a vocabulary of {}, and its config states {of_config}",
                ready.vocabulary
            )));
        }
        let mut recorded = BTreeMap::new();
        recorded.insert("backend".to_owned(), json!("torch"));
        recorded.insert("torch.device".to_owned(), json!(ready.device));
        for (name, version) in versions {
            recorded.insert(format!("torch.versions.{name}"), json!(version));
        }
        Ok(Self {
            text,
            info,
            recorded,
            worker,
        })
    }
}

impl Worker<'_> {
    /// Waits until the worker has loaded the model.
    fn ready(&mut self) -> Result<Ready, StageError> {
        let path = self.folder.path().join("ready.json");
        loop {
            if let Ok(bytes) = fs::read(&path) {
                return serde_json::from_slice(&bytes).map_err(|error| {
                    failed(format!("the torch worker cannot be understood: {error}"))
                });
            }
            self.look()?;
            if self.stop.requested() {
                return Err(StageError::Interrupted);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Fails where the worker has ended.
    fn look(&mut self) -> Result<(), ModelError> {
        match self.process.poll() {
            None => Ok(()),
            Some(end) => Err(ModelError::Invalid(format!(
                "the torch worker {end}; rows that it scored are kept, and the same command \
                 continues{}",
                self.process.log().tail(SHOWN_LINES)
            ))),
        }
    }

    /// Has rows scored; `sink` gets each as it is done, by its index among them. Breaks
    /// where it was stopped.
    fn ask(&mut self, rows: &[Row], sink: Sink<'_, Scored>) -> Result<ControlFlow<()>, ModelError> {
        let name = |what: &str| {
            self.folder
                .path()
                .join(format!("{}.{what}.jsonl", self.requests))
        };
        let (part, request, reply) = (name("part"), name("request"), name("reply"));
        let mut text = String::new();
        for row in rows {
            text.push_str(&json!({"ids": row.ids, "from": row.completion_start}).to_string());
            text.push('\n');
        }
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &request))
            .map_err(io(&request))?;
        self.requests += 1;
        let mut missing: Vec<bool> = vec![true; rows.len()];
        let (mut left, mut at) = (rows.len(), 0u64);
        while left > 0 {
            let lines = whole_lines(&reply, &mut at)?;
            if lines.is_empty() {
                if self.stop.requested() {
                    return Ok(ControlFlow::Break(()));
                }
                self.look()?;
                std::thread::sleep(LOOK);
            }
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let reply = checked(line, rows, &mut missing)?;
                left -= 1;
                if sink(reply.row, Ok(scored(&rows[reply.row], &reply))).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        for path in [&request, &reply] {
            fs::remove_file(path).map_err(io(path))?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What was written to a file since it was last read, as far as its lines are whole.
fn whole_lines(path: &Path, at: &mut u64) -> Result<Vec<u8>, ModelError> {
    let mut bytes = Vec::new();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(io(path)(error)),
    };
    file.seek(SeekFrom::Start(*at))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(io(path))?;
    bytes.truncate(
        bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1),
    );
    *at += bytes.len() as u64;
    Ok(bytes)
}

/// The reply of a line, if it is one to a row that is still to be answered.
fn checked(line: &[u8], rows: &[Row], missing: &mut [bool]) -> Result<Reply, ModelError> {
    let wrong = |what: &str| {
        ModelError::Invalid(format!("the torch worker's reply cannot be used: {what}"))
    };
    let reply: Reply = serde_json::from_slice(line).map_err(|error| wrong(&error.to_string()))?;
    let row = rows
        .get(reply.row)
        .ok_or_else(|| wrong("it is to no row"))?;
    if !std::mem::replace(&mut missing[reply.row], false) {
        return Err(wrong("it is to a row that has one"));
    }
    let n = row.ids.len() - row.completion_start;
    let columns = [
        &reply.logprob,
        &reply.entropy,
        &reply.varentropy,
        &reply.sum_p2,
    ];
    if reply.rank.len() != n || columns.iter().any(|column| column.len() != n) {
        return Err(wrong(&format!("it is not of {n} tokens")));
    }
    if reply.rank.contains(&0) || reply.logprob.iter().any(|p| *p > 0.0) {
        return Err(wrong("it holds a rank of 0 or a log-probability above 0"));
    }
    Ok(reply)
}

fn scored(row: &Row, reply: &Reply) -> Scored {
    let n = reply.logprob.len();
    let targets = row.ids[row.completion_start..].iter().zip(&row.byte_starts);
    let tokens = targets
        .enumerate()
        .map(|(i, (&token_id, &byte_start))| TokenScore {
            token_id,
            logprob: reply.logprob[i],
            rank: Some(reply.rank[i]),
            distribution: Some(Distribution {
                entropy: reply.entropy[i],
                varentropy: reply.varentropy[i],
                sum_p2: reply.sum_p2[i],
            }),
            byte_start,
            is_end: i + 1 == n,
        });
    Scored {
        tokens: tokens.collect(),
        traits: row.traits,
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        // It ends by itself where it can, and is ended where it cannot.
        let _ =
            File::create(self.folder.path().join("end")).and_then(|mut file| file.write_all(b""));
        self.process.stop();
    }
}

impl Model for Torch<'_> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            generate: false,
            sampled_logprobs: false,
            score: true,
            ranks: true,
            entropies: true,
            gradients: false,
            deterministic: false,
        }
    }

    fn recorded(&self) -> BTreeMap<String, Value> {
        self.recorded.clone()
    }

    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        Ok(self)
    }
}

impl Score for Torch<'_> {
    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError> {
        let Self { text, worker, .. } = self;
        score_encoded(text, examples, sink, |rows, sink| worker.ask(rows, sink))
    }
}

fn failed(message: String) -> StageError {
    StageError::failed(message, "")
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> ModelError + '_ {
    move |source| ModelError::Io {
        path: path.display().to_string(),
        source,
    }
}
