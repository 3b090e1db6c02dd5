//! Where the jobs of a run are done, and what each asks of a cluster: the words of `[execute]`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{Job, Stage};
use super::recipe::Execute;

/// Where jobs run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum On {
    /// In this process.
    #[default]
    Local,
    /// On the nodes of the Slurm cluster that `sbatch` submits to.
    Slurm,
    /// On the nodes of a Ray cluster: `HOST:PORT` of its dashboard.
    Ray(String),
}

impl On {
    /// Whether it is this process.
    pub fn is_local(&self) -> bool {
        *self == Self::Local
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Slurm => f.write_str("slurm"),
            Self::Ray(address) => write!(f, "ray://{address}"),
        }
    }
}

impl From<On> for String {
    fn from(on: On) -> Self {
        on.to_string()
    }
}

impl TryFrom<String> for On {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is no place to run jobs; expected local, slurm or ray://HOST:PORT (of the dashboard, usually port 8265)",
                text.escape_debug()
            )
        };
        match text {
            "local" => Ok(Self::Local),
            "slurm" => Ok(Self::Slurm),
            _ => {
                let address = text.strip_prefix("ray://").ok_or_else(wrong)?;
                let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
                let is_host = !host.is_empty()
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c));
                match is_host && port.parse::<u16>().is_ok_and(|port| port > 0) {
                    true => Ok(Self::Ray(address.to_owned())),
                    false => Err(wrong()),
                }
            }
        }
    }
}

/// What a task of a stage asks of a cluster. What is unset is not asked for: the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StageResources {
    /// Cores, which are also its threads; 1 where unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<usize>,
    /// Graphics processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<usize>,
    /// Memory as `64G`: a number with K, M, G or T (powers of 1024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Slurm: longest time, as `4:00:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Slurm: the partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Slurm: the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Slurm: further words for `sbatch`, as `--constraint=h100`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sbatch: Vec<String>,
}

/// What a task asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) cpus: usize,
    pub(super) gpus: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
    /// Further words for `sbatch`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) sbatch: Vec<String>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} CPU", self.cpus)?;
        if self.gpus > 0 {
            write!(f, ", {} GPU", self.gpus)?;
        }
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {:.1} GiB", bytes as f64 / (1u64 << 30) as f64)?;
        }
        if let Some(time) = &self.time {
            write!(f, ", {time}")?;
        }
        self.sbatch.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

/// What a job asks for: of its stage, else of `default`, else what the plan states.
pub(super) fn asked(execute: &Execute, job: &Job) -> Asked {
    let of = |key: &str| execute.resources.get(key);
    let tables = [of(job.stage.name()), of("default")];
    let tables: Vec<&StageResources> = tables.into_iter().flatten().collect();
    let text = |field: fn(&StageResources) -> &Option<String>| {
        tables.iter().find_map(|table| field(table).clone())
    };
    let named = |flag: &str, value: Option<String>| value.map(|value| format!("--{flag}={value}"));
    let mut sbatch: Vec<String> = Vec::new();
    sbatch.extend(named("partition", text(|table| &table.partition)));
    sbatch.extend(named("account", text(|table| &table.account)));
    // A stage's own words come last: where two are of one option, sbatch takes the later.
    for table in tables.iter().rev() {
        sbatch.extend(table.sbatch.iter().cloned());
    }
    Asked {
        cpus: tables.iter().find_map(|table| table.cpus).unwrap_or(1),
        gpus: tables
            .iter()
            .find_map(|table| table.gpus)
            .unwrap_or(job.resources.gpu),
        memory_bytes: text(|table| &table.memory).and_then(|text| bytes(&text)),
        time: text(|table| &table.time),
        sbatch,
    }
}

/// Bytes that `64G` stands for.
fn bytes(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| (1 << 20..1 << 60).contains(bytes))
}

/// Options of `sbatch` that this program sets.
const OWN: [&str; 12] = [
    "--array",
    "-a",
    "--dependency",
    "-d",
    "--job-name",
    "-J",
    "--output",
    "-o",
    "--error",
    "-e",
    "--wrap",
    "--parsable",
];

/// Refuses words of `[execute]` that cannot be meant.
pub(super) fn check(execute: &Execute) -> Result<(), (&'static str, String)> {
    let stages = || Stage::ALL.map(Stage::name).join(", ");
    let is_stage = |name: &str| Stage::ALL.iter().any(|stage| stage.name() == name);
    if let Some(name) = execute.local.iter().find(|name| !is_stage(name)) {
        let known = stages();
        return Err((
            "execute.local",
            format!("has no stage `{name}`; the stages are {known}"),
        ));
    }
    if !(1..=1000).contains(&execute.tasks) {
        return Err(("execute.tasks", "must lie from 1 to 1000".to_owned()));
    }
    if execute.retries > 100 {
        return Err(("execute.retries", "must be at most 100".to_owned()));
    }
    if !(0.05..=3600.0).contains(&execute.poll_s) {
        return Err(("execute.poll_s", "must lie from 0.05 to 3600".to_owned()));
    }
    if execute
        .program
        .as_ref()
        .is_some_and(|program| !is_word(program))
    {
        return Err((
            "execute.program",
            "must be a path or a name, without line breaks".to_owned(),
        ));
    }
    for (stage, table) in &execute.resources {
        let of = |reason: &str| ("execute.resources", format!("of `{stage}`: {reason}"));
        if stage != "default" && !is_stage(stage) {
            return Err(of(&format!(
                "there is no such stage; the stages are {}, and `default` is of all",
                stages()
            )));
        }
        if table.cpus.is_some_and(|cpus| !(1..=65_535).contains(&cpus)) {
            return Err(of("`cpus` must lie from 1 to 65535"));
        }
        if table.gpus.is_some_and(|gpus| gpus > 1024) {
            return Err(of("`gpus` must be at most 1024"));
        }
        if table
            .memory
            .as_ref()
            .is_some_and(|text| bytes(text).is_none())
        {
            return Err(of(
                "`memory` is a whole number with K, M, G or T, of at least 1M, as \"64G\"",
            ));
        }
        let words = [&table.time, &table.partition, &table.account];
        let plain = |text: &String| is_word(text) && !text.contains(char::is_whitespace);
        if !words.into_iter().flatten().all(plain) {
            return Err(of(
                "`time`, `partition` and `account` are words without spaces",
            ));
        }
        for word in &table.sbatch {
            let option = word.split('=').next().unwrap_or_default();
            if !is_word(word) || !word.starts_with('-') {
                return Err(of(
                    "each text of `sbatch` is one option, as \"--constraint=h100\"",
                ));
            }
            if OWN.contains(&option) {
                return Err(of(&format!(
                    "`sbatch` holds `{option}`, which idiolect sets itself"
                )));
            }
        }
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["local", "slurm", "ray://127.0.0.1:8265", "ray://[::1]:8265"] {
            assert_eq!(text.parse::<On>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "Slurm",
            "ray",
            "ray://host",
            "ray://:1",
            "ray://h:0",
            "ray://h/x:1",
        ] {
            let error = text.parse::<On>().unwrap_err();
            assert!(error.contains("ray://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn memory_is_a_number_with_its_unit() {
        assert_eq!((bytes("64G"), bytes("1M")), (Some(64 << 30), Some(1 << 20)));
        for text in [
            "",
            "64",
            "G",
            "-1G",
            "1.5G",
            "1K",
            "99999999999T",
            "64 G",
            "64GB",
            "é",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
