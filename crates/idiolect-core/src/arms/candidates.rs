//! Which traces can represent which source, problem by problem, and why others cannot.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::filter::{Condition, Known};
use super::left_out::{CUT_OFF, FINISH_UNKNOWN, NO_VERDICT, NOT_SAMPLED, UNGRADED};
use super::near::{HeldOut, near_duplicates};
use super::spec::{Part, Source};
use super::student::Asked;
use super::{ArmsError, ArmsInput, row_of};
use crate::crossed::{ANSWER_ONLY, HUMAN_STYLE, RIGHT_ANSWER};
use crate::flaw::FinalAnswer;
use crate::record::{
    ArmRow, Finish, Origin, OriginKind, Problem, ScoreRow, Split, StepCheck, Trace, Verdict,
    VerdictRow, trace_id,
};

/// The traces of the training problems, each text of a kind once.
#[derive(Clone)]
pub(super) struct Candidates<'a> {
    /// Training problems by id.
    pub(super) problems: BTreeMap<&'a str, &'a Problem>,
    traces: BTreeMap<&'a str, Vec<&'a Trace>>,
    verdicts: BTreeMap<&'a str, &'a VerdictRow>,
    human_ids: BTreeSet<String>,
    other_ids: BTreeSet<&'a str>,
    unknown_finish_is_stop: bool,
    prompts: &'a BTreeMap<String, String>,
    /// Who is to be trained, where known.
    learner: Option<Asked<'a>>,
    /// Score rows by trace id.
    scores: BTreeMap<&'a str, &'a ScoreRow>,
    /// Hash of the student, where the scores name it.
    student: Option<&'a str>,
    /// Rows dropped because an equal text of the same making was there.
    pub(super) duplicates: usize,
    /// Training problems left out because an earlier one asks nearly the same.
    pub(super) near_problems: usize,
    /// Traces left out because another of their problem is nearly the same.
    pub(super) near_traces: usize,
    /// Training problems left out because they repeat a held-out question.
    pub(super) contaminated_problems: usize,
    /// Traces left out because they repeat a held-out question.
    pub(super) contaminated_traces: usize,
    /// Problems outside the train split.
    pub(super) held_out_problems: usize,
    /// Traces of problems outside the train split.
    pub(super) held_out_traces: usize,
    /// Traces of problems that were not given.
    pub(super) orphans: usize,
    /// Training problems left out because a held-out problem asks the same question.
    pub(super) same_question: usize,
}

/// How a trace relates to a source.
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
        input: &ArmsInput<'a>,
        unknown_finish_is_stop: bool,
    ) -> Result<Self, ArmsError> {
        let ArmsInput {
            problems,
            traces,
            verdicts,
            scores,
            ..
        } = *input;
        let mut found = Self {
            problems: BTreeMap::new(),
            traces: BTreeMap::new(),
            verdicts: by_trace(verdicts)?,
            human_ids: BTreeSet::new(),
            other_ids: BTreeSet::new(),
            unknown_finish_is_stop,
            prompts: input.prompts,
            learner: input.student.map(Asked::new),
            scores: scores
                .iter()
                .map(|row| (row.trace_id.as_str(), row))
                .collect(),
            student: scores.first().map(|row| row.model.as_str()),
            duplicates: 0,
            near_problems: 0,
            near_traces: 0,
            contaminated_problems: 0,
            contaminated_traces: 0,
            held_out_problems: problems.iter().filter(|p| p.split != Split::Train).count(),
            held_out_traces: 0,
            orphans: 0,
            same_question: 0,
        };
        // What a teacher was trained on is no test; it guards as a whole question above.
        let tested = |p: &&Problem| matches!(p.split, Split::Test | Split::Dev);
        let questions = problems.iter().filter(tested).map(|p| p.question.as_str());
        let held_out = HeldOut::new(questions);
        found.take_problems(problems, &held_out);
        found.take_traces(problems, traces, &held_out);
        Ok(found)
    }

    fn take_problems(&mut self, problems: &'a [Problem], held_out: &HeldOut) {
        let words = |p: &Problem| p.question.split_whitespace().collect::<Vec<_>>().join(" ");
        let elsewhere: BTreeSet<String> = problems
            .iter()
            .filter(|p| p.split != Split::Train)
            .map(words)
            .collect();
        let mut training: Vec<&Problem> = Vec::new();
        for problem in problems.iter().filter(|p| p.split == Split::Train) {
            if elsewhere.contains(&words(problem)) {
                self.same_question += 1;
            } else if held_out.repeated_by(&problem.question) {
                self.contaminated_problems += 1;
            } else {
                training.push(problem);
            }
        }
        training.sort_by_key(|p| &p.id);
        let questions: Vec<&str> = training.iter().map(|p| p.question.as_str()).collect();
        let near: BTreeSet<usize> = near_duplicates(&questions)
            .into_iter()
            .map(|(later, _)| later)
            .collect();
        self.near_problems = near.len();
        for (at, problem) in training.into_iter().enumerate() {
            if near.contains(&at) {
                continue;
            }
            if let Some(text) = &problem.human {
                self.human_ids.insert(trace_id(&problem.id, text));
            }
            self.problems.insert(&problem.id, problem);
        }
    }

    fn take_traces(&mut self, problems: &'a [Problem], traces: &'a [Trace], held_out: &HeldOut) {
        let known: BTreeSet<&str> = problems.iter().map(|p| p.id.as_str()).collect();
        for trace in traces {
            if trace.origin.kind == OriginKind::Human {
                self.human_ids.insert(trace.id.clone());
            } else {
                self.other_ids.insert(&trace.id);
            }
            if self.problems.contains_key(trace.problem_id.as_str()) {
                if held_out.repeated_by(&trace.text) {
                    self.contaminated_traces += 1;
                    continue;
                }
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
        let student = self.student;
        let key = |trace| (making(trace), is_own(student, trace));
        for traces in self.traces.values_mut() {
            let before = traces.len();
            // Of equal texts the finished one stays.
            traces.sort_by(|a, b| key(a).cmp(&key(b)).then(a.finish.cmp(&b.finish)));
            traces.dedup_by(|later, earlier| key(later) == key(earlier));
            self.duplicates += before - traces.len();
            self.near_traces += drop_near(traces, student);
        }
    }

    fn all(&self, problem: &str) -> &[&'a Trace] {
        self.traces.get(problem).map_or(&[], Vec::as_slice)
    }

    /// The traces of a problem that can represent a source, in order of id. For [`Source::Flawed`]
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
        if *source == Source::Human {
            for problem in self.problems.values().filter(|p| self.stands_alone(p)) {
                let fault = solution(problem).and_then(|trace| self.fault(source, &trace));
                if let Some(reason) = fault {
                    *reasons.entry(reason.to_owned()).or_default() += 1;
                }
            }
        }
        reasons
    }

    /// The problem's own solution as a trace, where it has one that the student can take.
    pub(super) fn own_solution(&self, problem: &Problem) -> Option<Trace> {
        solution(problem).filter(|trace| self.fault(&Source::Human, trace).is_none())
    }

    /// Whether a problem's own solution is not among the traces.
    fn stands_alone(&self, problem: &Problem) -> bool {
        let is_human = |trace: &&Trace| self.making_fits(&Source::Human, trace) == Fit::Yes;
        !self.all(&problem.id).iter().any(is_human)
    }

    /// The same candidates for a student that can be trained on every row; `None` where this is
    /// what they are.
    pub(super) fn for_any_student(&self) -> Option<Self> {
        self.learner.as_ref()?;
        Some(Self {
            learner: None,
            ..self.clone()
        })
    }

    /// The traces that the student was found not to take, by reason; `None` without a student.
    pub(super) fn refused_by_student(&self) -> Option<BTreeMap<String, usize>> {
        self.learner.as_ref().map(Asked::refused)
    }

    /// Why the student cannot be trained on a trace that represents a source.
    fn fault(&self, source: &Source, trace: &Trace) -> Option<&'static str> {
        let learner = self.learner.as_ref()?;
        // A problem without a prompt is an error where its row is made.
        let prompt = self.prompts.get(&trace.problem_id)?;
        let row = ArmRow {
            prompt: prompt.clone(),
            ..row_of(source, trace, self)
        };
        learner.fault(&row).map(|fault| fault.name())
    }

    fn fit(&self, source: &Source, trace: &Trace) -> Fit {
        match self.making_fits(source, trace) {
            Fit::Yes => self.fault(source, trace).map_or(Fit::Yes, Fit::No),
            other => other,
        }
    }

    /// How a trace relates to a source, whoever is to be trained on it.
    fn making_fits(&self, source: &Source, trace: &Trace) -> Fit {
        match (source, trace.origin.kind) {
            (Source::Human, OriginKind::Human) => yes_if(labels(trace).next().is_none()),
            (Source::Style(label), OriginKind::Human) => yes_if(
                labels(trace).any(|l| l == label) || trace.origin.model.as_ref() == Some(label),
            ),
            (Source::Own, OriginKind::Sampled) if self.is_own(trace) => match trace.finish {
                Finish::Length => Fit::No(CUT_OFF),
                Finish::Stop | Finish::Unknown => Fit::Yes,
            },
            (Source::Correct | Source::Wrong | Source::WrongPrefix, OriginKind::Sampled)
                if self.is_own(trace) =>
            {
                Fit::OtherKind
            }
            (Source::Correct, OriginKind::Sampled) => match self.verdict(trace) {
                Some(Verdict::Correct) => Fit::Yes,
                Some(_) => Fit::No("not correct"),
                None => Fit::No(NO_VERDICT),
            },
            (Source::Any, _) => Fit::Yes,
            (Source::Correct | Source::Wrong | Source::WrongPrefix, OriginKind::Imported) => {
                Fit::No(NOT_SAMPLED)
            }
            (Source::Wrong, OriginKind::Sampled) => self.fit_wrong(trace),
            (Source::WrongPrefix, OriginKind::Sampled) => match self.fit_wrong(trace) {
                Fit::Yes if self.prefix(trace) == Some(0) => Fit::No("its first step is false"),
                fit => fit,
            },
            (Source::Paraphrased, OriginKind::Paraphrased) if !has(trace, HUMAN_STYLE) => {
                self.fit_paraphrase(trace)
            }
            (Source::CorrectInHumanStyle, OriginKind::Paraphrased) if has(trace, HUMAN_STYLE) => {
                self.fit_retold(trace, Verdict::Correct)
            }
            (Source::WrongInHumanStyle, OriginKind::Paraphrased) if has(trace, HUMAN_STYLE) => {
                self.fit_retold(trace, Verdict::Wrong)
            }
            (Source::Flawed(percent, answer), OriginKind::Flawed) => {
                yes_if(flaws(trace) == Some((*percent, *answer)))
            }
            (Source::AnswerOnly, OriginKind::Control) => yes_if(has(trace, ANSWER_ONLY)),
            (Source::ControlRight, OriginKind::Control) => yes_if(has(trace, RIGHT_ANSWER)),
            (Source::Control, OriginKind::Control) => {
                yes_if(!has(trace, ANSWER_ONLY) && !has(trace, RIGHT_ANSWER))
            }
            _ => Fit::OtherKind,
        }
    }

    fn fit_wrong(&self, trace: &Trace) -> Fit {
        let readable = self
            .verdicts
            .get(trace.id.as_str())
            .is_some_and(|row| row.extracted.is_some());
        match self.verdict(trace) {
            None => Fit::No(NO_VERDICT),
            Some(Verdict::Correct) => Fit::No("correct"),
            Some(Verdict::Ungraded) => Fit::No(UNGRADED),
            Some(Verdict::NoAnswer) => Fit::No("no readable answer"),
            Some(Verdict::Wrong) if !readable => Fit::No("no readable answer"),
            Some(Verdict::Wrong) => match trace.finish {
                Finish::Stop => Fit::Yes,
                Finish::Length => Fit::No(CUT_OFF),
                Finish::Unknown if self.unknown_finish_is_stop => Fit::Yes,
                Finish::Unknown => Fit::No(FINISH_UNKNOWN),
            },
        }
    }

    fn fit_paraphrase(&self, trace: &Trace) -> Fit {
        let of_other = trace.origin.parent.as_deref().is_some_and(|parent| {
            self.other_ids.contains(parent) && !self.human_ids.contains(parent)
        });
        match self.verdict(trace) {
            _ if of_other => Fit::No("not of a human solution"),
            _ if labels(trace).any(|label| label == FAULT) => {
                Fit::No("not faithful to its original")
            }
            Some(Verdict::Correct) => Fit::Yes,
            Some(_) => Fit::No("the answer was not preserved"),
            None => Fit::No(NO_VERDICT),
        }
    }

    /// A trace in the human style is a copy of a right or of a wrong one, as its answer is.
    fn fit_retold(&self, trace: &Trace, wanted: Verdict) -> Fit {
        match self.verdict(trace) {
            Some(verdict) => yes_if(verdict == wanted),
            None => Fit::No(NO_VERDICT),
        }
    }

    /// The first byte of a trace's first false step; 0 where no step comes before it, `None` where
    /// no step is false.
    pub(super) fn prefix(&self, trace: &Trace) -> Option<usize> {
        let steps = &self.verdicts.get(trace.id.as_str())?.steps;
        let first = steps
            .iter()
            .position(|step| step.check == StepCheck::Invalid)?;
        Some(if first == 0 { 0 } else { steps[first].start })
    }

    /// The scores of a derived trace (flawed or paraphrased) and of what it was made from.
    pub(super) fn with_parent(
        &self,
        problem: &str,
        trace_id: &str,
    ) -> Option<(&'a ScoreRow, &'a ScoreRow)> {
        let trace = self.all(problem).iter().find(|trace| {
            trace.id == trace_id
                && matches!(
                    trace.origin.kind,
                    OriginKind::Flawed | OriginKind::Paraphrased
                )
        })?;
        let parent = trace.origin.parent.as_deref()?;
        Some((self.scores(trace_id)?, self.scores(parent)?))
    }

    /// Whether a trace fulfils the filter of a part.
    pub(super) fn passes(&self, part: &Part, trace: &Trace) -> bool {
        self.passes_where(part, trace, |_| true)
    }

    /// Whether a trace fulfils those conditions of a part that `concerns` picks.
    pub(super) fn passes_where(
        &self,
        part: &Part,
        trace: &Trace,
        concerns: impl Fn(&Condition) -> bool,
    ) -> bool {
        let known = Known {
            trace,
            verdict: self.verdicts.get(trace.id.as_str()).copied(),
            scores: self.scores.get(trace.id.as_str()).copied(),
        };
        let mut conditions = part.filter.iter().filter(|condition| concerns(condition));
        conditions.all(|condition| condition.holds(&known) == Some(true))
    }

    /// Whether any trace has scores.
    pub(super) fn some_scored(&self) -> bool {
        !self.scores.is_empty()
    }

    /// The scores of a trace, where known.
    pub(super) fn scores(&self, trace_id: &str) -> Option<&'a ScoreRow> {
        self.scores.get(trace_id).copied()
    }

    /// Tokens of a trace without the end token, where its scores are known.
    pub(super) fn tokens(&self, trace_id: &str) -> Option<u64> {
        Some(self.scores.get(trace_id)?.n_tokens)
    }

    fn is_own(&self, trace: &Trace) -> bool {
        is_own(self.student, trace)
    }

    /// What verification found of a trace.
    pub(super) fn verdict(&self, trace: &Trace) -> Option<Verdict> {
        self.verdict_of(&trace.id)
    }

    /// What verification found of the trace of an id.
    pub(super) fn verdict_of(&self, trace_id: &str) -> Option<Verdict> {
        self.verdicts.get(trace_id).map(|row| row.verdict)
    }

    /// Share of a problem's sampled traces that are not correct; `None` without one judged.
    pub(super) fn difficulty(&self, problem: &str) -> Option<f64> {
        let sampled = self
            .all(problem)
            .iter()
            .filter(|t| t.origin.kind == OriginKind::Sampled && !self.is_own(t));
        let judged: Vec<Verdict> = sampled.filter_map(|t| self.verdict(t)).collect();
        let missed = judged.iter().filter(|v| **v != Verdict::Correct).count();
        (!judged.is_empty()).then(|| missed as f64 / judged.len() as f64)
    }

    /// Every source that some trace can represent, in the order H, other styles, G, W, P, F, GH, WH,
    /// A, R, RR, S.
    pub(super) fn sources(&self) -> Vec<Source> {
        let mut styles = BTreeSet::new();
        let mut doses = BTreeSet::new();
        for trace in self.traces.values().flatten() {
            match trace.origin.kind {
                OriginKind::Human => styles.extend(labels(trace).map(str::to_owned)),
                OriginKind::Flawed => doses.extend(flaws(trace)),
                _ => {}
            }
        }
        let mut sources = vec![Source::Human];
        sources.extend(styles.into_iter().map(Source::Style));
        sources.extend([Source::Correct, Source::Wrong, Source::Paraphrased]);
        sources.extend(
            doses
                .into_iter()
                .map(|(dose, answer)| Source::Flawed(dose, answer)),
        );
        sources.extend([
            Source::CorrectInHumanStyle,
            Source::WrongInHumanStyle,
            Source::AnswerOnly,
            Source::Control,
            Source::ControlRight,
            Source::Own,
        ]);
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
        self.own_solution(problem).is_some() || !self.of(&Source::Human, &problem.id).is_empty()
    }
}

/// Drops sampled and imported traces that are nearly the same as another of the same model's, and
/// gives their number. Flawed and control traces are made to be near others, and stay.
fn drop_near(traces: &mut Vec<&Trace>, student: Option<&str>) -> usize {
    let before = traces.len();
    for own in [false, true] {
        let places: Vec<usize> = (0..traces.len())
            .filter(|&at| {
                matches!(
                    traces[at].origin.kind,
                    OriginKind::Sampled | OriginKind::Imported
                ) && is_own(student, traces[at]) == own
            })
            .collect();
        let texts: Vec<&str> = places.iter().map(|&at| traces[at].text.as_str()).collect();
        let near: BTreeSet<usize> = near_duplicates(&texts)
            .into_iter()
            .map(|(later, _)| places[later])
            .collect();
        let mut at = 0;
        traces.retain(|_| {
            at += 1;
            !near.contains(&(at - 1))
        });
    }
    before - traces.len()
}

/// A problem's own solution as a trace.
fn solution(problem: &Problem) -> Option<Trace> {
    let text = problem.human.as_deref()?;
    let origin = Origin::of(OriginKind::Human);
    Some(Trace::new(&problem.id, text, Finish::Stop, origin))
}

fn yes_if(condition: bool) -> Fit {
    if condition { Fit::Yes } else { Fit::OtherKind }
}

/// Traces are duplicates when they agree in this. Two doses, or two parents, with one text are two
/// traces: each belongs to its own arm.
fn making(trace: &Trace) -> Making<'_> {
    let origin = &trace.origin;
    let is_copy = origin.kind == OriginKind::Flawed
        || [ANSWER_ONLY, RIGHT_ANSWER, HUMAN_STYLE]
            .iter()
            .any(|label| has(trace, label));
    let parent = origin.parent.as_deref().filter(|_| is_copy);
    let label = if origin.kind == OriginKind::Human || is_copy {
        labels(trace).next()
    } else {
        None
    };
    (&trace.id, origin.kind, parent, flaws(trace), label)
}

/// Id, kind, parent of a copy, flaws and label.
type Making<'t> = (
    &'t str,
    OriginKind,
    Option<&'t str>,
    Option<(u8, FinalAnswer)>,
    Option<&'t str>,
);

/// Whether the student itself wrote a trace: origins name a model `HASH` or `NAME@HASH`.
fn is_own(student: Option<&str>, trace: &Trace) -> bool {
    let hash = trace
        .origin
        .model
        .as_deref()
        .and_then(|m| m.rsplit('@').next());
    student.is_some() && hash == student
}

/// The operation in the origin of a rewriting that was found at fault; see [`crate::paraphrase`].
pub const FAULT: &str = "fault";

/// The operations that a trace's origin names.
fn labels(trace: &Trace) -> impl Iterator<Item = &str> {
    trace
        .origin
        .ops
        .iter()
        .filter_map(|op| op.as_str().or_else(|| op.get("op").and_then(Value::as_str)))
}

/// Whether a trace's origin names an operation.
fn has(trace: &Trace, label: &str) -> bool {
    labels(trace).any(|own| own == label)
}

/// What a flawed trace was made with: a dose in percent of steps, and what became of its answer.
fn flaws(trace: &Trace) -> Option<(u8, FinalAnswer)> {
    if trace.origin.kind != OriginKind::Flawed {
        return None;
    }
    let dose = trace
        .origin
        .ops
        .iter()
        .find_map(|op| op.get("dose").and_then(Value::as_f64))?;
    let percent = (100.0 * dose).round();
    let answer = trace.origin.ops.iter().find_map(|op| op.get("answer"));
    let answer = match answer {
        Some(answer) => serde_json::from_value(answer.clone()).ok()?,
        None => FinalAnswer::AsItComes,
    };
    ((0.0..=100.0).contains(&percent) && (100.0 * dose - percent).abs() < 1e-6)
        .then_some((percent as u8, answer))
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
