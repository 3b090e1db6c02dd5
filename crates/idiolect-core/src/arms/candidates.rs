//! Which traces can stand for which source, problem by problem, and why others cannot.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ArmsError;
use super::spec::Source;
use crate::record::{Finish, OriginKind, Problem, Split, Trace, Verdict, VerdictRow, trace_id};

/// The traces of the training problems, each text of a kind once.
pub(super) struct Candidates<'a> {
    /// Training problems by id.
    pub(super) problems: BTreeMap<&'a str, &'a Problem>,
    traces: BTreeMap<&'a str, Vec<&'a Trace>>,
    verdicts: BTreeMap<&'a str, &'a VerdictRow>,
    human_ids: BTreeSet<String>,
    other_ids: BTreeSet<&'a str>,
    unknown_finish_is_stop: bool,
    /// Rows dropped because an equal text of the same making was there.
    pub(super) duplicates: usize,
    /// Traces of problems outside the train split.
    pub(super) held_out_traces: usize,
    /// Traces of problems that were not given.
    pub(super) orphans: usize,
    /// Training problems left out because a held-out problem asks the same question.
    pub(super) same_question: usize,
}

/// How a trace stands to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    /// Of another making altogether.
    OtherKind,
    /// Of the right making, but not usable.
    No(&'static str),
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        problems: &'a [Problem],
        traces: &'a [Trace],
        verdicts: &'a [VerdictRow],
        unknown_finish_is_stop: bool,
    ) -> Result<Self, ArmsError> {
        let mut found = Self {
            problems: BTreeMap::new(),
            traces: BTreeMap::new(),
            verdicts: by_trace(verdicts)?,
            human_ids: BTreeSet::new(),
            other_ids: BTreeSet::new(),
            unknown_finish_is_stop,
            duplicates: 0,
            held_out_traces: 0,
            orphans: 0,
            same_question: 0,
        };
        found.take_problems(problems);
        found.take_traces(problems, traces);
        Ok(found)
    }

    fn take_problems(&mut self, problems: &'a [Problem]) {
        let words = |p: &Problem| p.question.split_whitespace().collect::<Vec<_>>().join(" ");
        let held_out: BTreeSet<String> = problems
            .iter()
            .filter(|p| p.split != Split::Train)
            .map(words)
            .collect();
        for problem in problems.iter().filter(|p| p.split == Split::Train) {
            if held_out.contains(&words(problem)) {
                self.same_question += 1;
                continue;
            }
            if let Some(text) = &problem.human {
                self.human_ids.insert(trace_id(&problem.id, text));
            }
            self.problems.insert(&problem.id, problem);
        }
    }

    fn take_traces(&mut self, problems: &'a [Problem], traces: &'a [Trace]) {
        let known: BTreeSet<&str> = problems.iter().map(|p| p.id.as_str()).collect();
        for trace in traces {
            if trace.origin.kind == OriginKind::Human {
                self.human_ids.insert(trace.id.clone());
            } else {
                self.other_ids.insert(&trace.id);
            }
            if self.problems.contains_key(trace.problem_id.as_str()) {
                self.traces
                    .entry(&trace.problem_id)
                    .or_default()
                    .push(trace);
            } else if known.contains(trace.problem_id.as_str()) {
                self.held_out_traces += 1;
            } else {
                self.orphans += 1;
            }
        }
        for traces in self.traces.values_mut() {
            let before = traces.len();
            // Of equal texts the finished one stays.
            traces.sort_by(|a, b| making(a).cmp(&making(b)).then(a.finish.cmp(&b.finish)));
            traces.dedup_by(|later, earlier| making(later) == making(earlier));
            self.duplicates += before - traces.len();
        }
    }

    fn all(&self, problem: &str) -> &[&'a Trace] {
        self.traces.get(problem).map_or(&[], Vec::as_slice)
    }

    /// The traces of a problem that can stand for a source, in order of id. For [`Source::Flawed`]
    /// those of any parent.
    pub(super) fn of(&self, source: &Source, problem: &str) -> Vec<&'a Trace> {
        self.all(problem)
            .iter()
            .copied()
            .filter(|trace| self.fit(source, trace) == Fit::Yes)
            .collect()
    }

    /// How many traces of the source's making cannot be used, by reason.
    pub(super) fn excluded(&self, source: &Source) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for trace in self.traces.values().flatten() {
            if let Fit::No(reason) = self.fit(source, trace) {
                *reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
        reasons
    }

    fn fit(&self, source: &Source, trace: &Trace) -> Fit {
        match (source, trace.origin.kind) {
            (Source::Human, OriginKind::Human) => yes_if(labels(trace).next().is_none()),
            (Source::Dialect(label), OriginKind::Human) => yes_if(
                labels(trace).any(|l| l == label) || trace.origin.model.as_ref() == Some(label),
            ),
            (Source::Correct, OriginKind::Sampled) => match self.verdict(trace) {
                Some(Verdict::Correct) => Fit::Yes,
                Some(_) => Fit::No("not correct"),
                None => Fit::No("no verdict"),
            },
            (Source::Wrong, OriginKind::Sampled) => self.fit_wrong(trace),
            (Source::Paraphrased, OriginKind::Paraphrased) => self.fit_paraphrase(trace),
            (Source::Flawed(percent), OriginKind::Flawed) => yes_if(dose(trace) == Some(*percent)),
            (Source::Control, OriginKind::Control) => Fit::Yes,
            _ => Fit::OtherKind,
        }
    }

    fn fit_wrong(&self, trace: &Trace) -> Fit {
        let readable = self
            .verdicts
            .get(trace.id.as_str())
            .is_some_and(|row| row.extracted.is_some());
        match self.verdict(trace) {
            None => Fit::No("no verdict"),
            Some(Verdict::Correct) => Fit::No("correct"),
            Some(Verdict::Ungraded) => Fit::No("ungraded"),
            Some(Verdict::NoAnswer) => Fit::No("no readable answer"),
            Some(Verdict::Wrong) if !readable => Fit::No("no readable answer"),
            Some(Verdict::Wrong) => match trace.finish {
                Finish::Stop => Fit::Yes,
                Finish::Length => Fit::No("cut off by the token limit"),
                Finish::Unknown if self.unknown_finish_is_stop => Fit::Yes,
                Finish::Unknown => Fit::No("not known to be finished"),
            },
        }
    }

    fn fit_paraphrase(&self, trace: &Trace) -> Fit {
        let of_other = trace.origin.parent.as_deref().is_some_and(|parent| {
            self.other_ids.contains(parent) && !self.human_ids.contains(parent)
        });
        match self.verdict(trace) {
            _ if of_other => Fit::No("not of a human solution"),
            Some(Verdict::Correct) => Fit::Yes,
            Some(_) => Fit::No("the answer was not preserved"),
            None => Fit::No("no verdict"),
        }
    }

    /// What verification found of a trace.
    pub(super) fn verdict(&self, trace: &Trace) -> Option<Verdict> {
        self.verdicts.get(trace.id.as_str()).map(|row| row.verdict)
    }

    /// Share of a problem's sampled traces that are not correct; `None` without one judged.
    pub(super) fn difficulty(&self, problem: &str) -> Option<f64> {
        let sampled = self
            .all(problem)
            .iter()
            .filter(|t| t.origin.kind == OriginKind::Sampled);
        let judged: Vec<Verdict> = sampled.filter_map(|t| self.verdict(t)).collect();
        let missed = judged.iter().filter(|v| **v != Verdict::Correct).count();
        (!judged.is_empty()).then(|| missed as f64 / judged.len() as f64)
    }

    /// Every source that some trace can stand for, in the order H, other dialects, G, W, P, F, R.
    pub(super) fn sources(&self) -> Vec<Source> {
        let mut dialects = BTreeSet::new();
        let mut doses = BTreeSet::new();
        for trace in self.traces.values().flatten() {
            match trace.origin.kind {
                OriginKind::Human => dialects.extend(labels(trace).map(str::to_owned)),
                OriginKind::Flawed => doses.extend(dose(trace)),
                _ => {}
            }
        }
        let mut sources = vec![Source::Human];
        sources.extend(dialects.into_iter().map(Source::Dialect));
        sources.extend([Source::Correct, Source::Wrong, Source::Paraphrased]);
        sources.extend(doses.into_iter().map(Source::Flawed));
        sources.push(Source::Control);
        sources.retain(|source| match source {
            Source::Human => self.problems.values().any(|p| self.has_human(p)),
            _ => self
                .problems
                .keys()
                .any(|problem| !self.of(source, problem).is_empty()),
        });
        sources
    }

    fn has_human(&self, problem: &Problem) -> bool {
        problem.human.is_some() || !self.of(&Source::Human, &problem.id).is_empty()
    }
}

fn yes_if(condition: bool) -> Fit {
    if condition { Fit::Yes } else { Fit::OtherKind }
}

/// Traces are duplicates when they agree in this. Two doses, or two parents, with one text are two
/// traces: each belongs to its own arm.
fn making(trace: &Trace) -> (&str, OriginKind, Option<&str>, Option<u8>, Option<&str>) {
    let origin = &trace.origin;
    let parent = if origin.kind == OriginKind::Flawed {
        origin.parent.as_deref()
    } else {
        None
    };
    let label = if origin.kind == OriginKind::Human {
        labels(trace).next()
    } else {
        None
    };
    (&trace.id, origin.kind, parent, dose(trace), label)
}

/// The operations that a trace's origin names.
fn labels(trace: &Trace) -> impl Iterator<Item = &str> {
    trace
        .origin
        .ops
        .iter()
        .filter_map(|op| op.as_str().or_else(|| op.get("op").and_then(Value::as_str)))
}

/// The dose that a flawed trace was made with, in percent of steps.
fn dose(trace: &Trace) -> Option<u8> {
    if trace.origin.kind != OriginKind::Flawed {
        return None;
    }
    let dose = trace
        .origin
        .ops
        .iter()
        .find_map(|op| op.get("dose").and_then(Value::as_f64))?;
    let percent = (100.0 * dose).round();
    ((0.0..=100.0).contains(&percent) && (100.0 * dose - percent).abs() < 1e-6)
        .then_some(percent as u8)
}

fn by_trace(verdicts: &[VerdictRow]) -> Result<BTreeMap<&str, &VerdictRow>, ArmsError> {
    let mut rows: BTreeMap<&str, &VerdictRow> = BTreeMap::new();
    for row in verdicts {
        let earlier = rows.insert(&row.trace_id, row);
        if let Some(earlier) = earlier.filter(|earlier| earlier.verdict != row.verdict) {
            return Err(ArmsError::TwoVerdicts {
                trace: row.trace_id.clone(),
                one: earlier.verifier.clone(),
                other: row.verifier.clone(),
            });
        }
    }
    Ok(rows)
}
