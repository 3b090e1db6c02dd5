//! The data of the page's tools as JSON. All text goes through [`visible`], so that the script need
//! only show it. What does not fit the size of a page is left out by whole problems, and counted.

use std::collections::BTreeMap;

use idiolect_core::record::{Decoding, EvalRow, StepCheck, Verdict, content_hash};
use serde_json::{Value, json};

use crate::format::{inline, visible};
use crate::reading;
use crate::section::examples::{self, StepPiece};
use crate::view::{Answers, Checkpoint, Example, RunView};

/// Bytes of JSON that answers may take, and that rows may take.
const BYTES: usize = 800_000;

/// Bytes of an answer that are shown.
const ANSWER_BYTES: usize = 8_000;

/// Everything that the tools show of each named student. Answers are shown of a single student: a
/// page over several links to each one's own.
pub(crate) fn data(students: &[(&str, &RunView)]) -> Value {
    let arms = arms(students);
    let named: Vec<Value> = arms
        .iter()
        .map(|(name, words)| json!([inline(name), inline(words)]))
        .collect();
    let names: Vec<String> = students.iter().map(|(name, _)| inline(name)).collect();
    let answers = match students {
        [(_, view)] => answers(view, &arms),
        _ => Value::Null,
    };
    json!({
        "arms": named,
        "students": names,
        "shades": examples::SHADES,
        "answers": answers,
        "rows": rows(students, &arms),
    })
}

/// Every arm's name, alone and in full, in the order of the page.
type Arms = Vec<(String, String)>;

fn arms(students: &[(&str, &RunView)]) -> Arms {
    let mut arms: Arms = Vec::new();
    let mut add = |name: &str, words: String| {
        if !arms.iter().any(|(known, _)| known == name) {
            arms.push((name.to_owned(), words));
        }
    };
    for (_, view) in students {
        for arm in reading::ordered(&view.comparison) {
            add(&arm.arm, reading::full(arm));
        }
        for example in &view.examples {
            add(
                &example.arm,
                reading::full_name(&view.comparison, &example.arm),
            );
        }
        for checkpoint in view.answers.iter().flat_map(|a| &a.checkpoints) {
            add(
                &checkpoint.arm,
                reading::full_name(&view.comparison, &checkpoint.arm),
            );
        }
    }
    arms
}

fn place(arms: &Arms, name: &str) -> usize {
    arms.iter()
        .position(|(known, _)| known == name)
        .unwrap_or(0)
}

fn answers(view: &RunView, arms: &Arms) -> Value {
    let budget = BYTES / view.answers.len().max(1);
    let decoding = reading::leading(&view.comparison);
    let (mut shown, mut of) = (0, 0);
    let mut replicates = Vec::new();
    for replicate in &view.answers {
        let runs: Vec<Run<'_>> = replicate
            .checkpoints
            .iter()
            .map(|checkpoint| Run::of(checkpoint, decoding))
            .collect();
        let texts = texts(replicate, &runs, budget);
        shown += texts.len();
        of += replicate.problems.len();
        let problems: Vec<String> = replicate.problems.iter().map(|p| inline(&p.id)).collect();
        let runs: Vec<Value> = runs
            .iter()
            .map(|run| {
                let letters: String = replicate
                    .problems
                    .iter()
                    .map(|p| {
                        run.answers
                            .get(p.id.as_str())
                            .map_or('-', |a| letter(a.verdict))
                    })
                    .collect();
                json!([
                    place(arms, &run.checkpoint.arm),
                    run.checkpoint.seed,
                    letters
                ])
            })
            .collect();
        let name = inline(&reading::replicate_name(view, replicate.replicate));
        replicates
            .push(json!({ "name": name, "problems": problems, "runs": runs, "texts": texts }));
    }
    if of == 0 {
        return Value::Null;
    }
    let how = match decoding {
        Decoding::Greedy => "Greedy answers.",
        Decoding::Sampled => "The first sampled answer to each problem.",
    };
    let note = match shown == of {
        true => how.to_owned(),
        false => format!(
            "{how} Counts are over all problems. To keep the page small, the texts of {} of {} are in it, chosen by a hash of the problem's id; all are in the run directory.",
            crate::format::number(shown),
            crate::format::counted(of, "problem"),
        ),
    };
    json!({ "note": note, "replicates": replicates })
}

/// One checkpoint's answers by problem.
struct Run<'a> {
    checkpoint: &'a Checkpoint,
    answers: BTreeMap<&'a str, &'a EvalRow>,
}

impl<'a> Run<'a> {
    fn of(checkpoint: &'a Checkpoint, decoding: Decoding) -> Self {
        let answers = checkpoint
            .rows
            .iter()
            .filter(|row| row.decoding == decoding && row.sample == 0)
            .map(|row| (row.problem_id.as_str(), row))
            .collect();
        Self {
            checkpoint,
            answers,
        }
    }
}

/// Question, gold and answers of as many problems as fit: the problem's place, its question, its
/// gold, the different answers, and which of them each run gave (−1: none).
fn texts(replicate: &Answers, runs: &[Run<'_>], budget: usize) -> Vec<Value> {
    let mut order: Vec<usize> = (0..replicate.problems.len()).collect();
    order.sort_by_cached_key(|i| content_hash(replicate.problems[*i].id.as_bytes()));
    let mut left = budget;
    let mut out = Vec::new();
    for i in order {
        let problem = &replicate.problems[i];
        let mut different: Vec<Value> = Vec::new();
        let mut of: Vec<i64> = Vec::new();
        for run in runs {
            let Some(row) = run.answers.get(problem.id.as_str()) else {
                of.push(-1);
                continue;
            };
            let answer = answer(row);
            let known = different.iter().position(|other| *other == answer);
            of.push(known.unwrap_or(different.len()) as i64);
            if known.is_none() {
                different.push(answer);
            }
        }
        let (question, more) = cut(&problem.question, ANSWER_BYTES);
        let (gold, _) = cut(&problem.gold, ANSWER_BYTES);
        let value = json!([i, question, more, gold, different, of]);
        let bytes = value.to_string().len();
        if bytes > left {
            break;
        }
        left -= bytes;
        out.push(value);
    }
    out.sort_by_key(|value| value[0].as_u64());
    out
}

fn answer(row: &EvalRow) -> Value {
    let (text, more) = cut(&row.text, ANSWER_BYTES);
    let (extracted, _) = cut(row.extracted.as_deref().unwrap_or(""), ANSWER_BYTES);
    let (reason, _) = cut(row.reason.as_deref().unwrap_or(""), ANSWER_BYTES);
    json!([
        letter(row.verdict).to_string(),
        extracted,
        reason,
        text,
        more
    ])
}

/// A text as it is shown, and how many of its bytes are not.
fn cut(text: &str, most: usize) -> (String, usize) {
    let at = examples::boundary(text, most);
    (visible(&text[..at]).into_owned(), text.len() - at)
}

fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Correct => 'c',
        Verdict::Wrong => 'w',
        Verdict::NoAnswer => 'n',
        Verdict::Ungraded => 'u',
    }
}

/// Rows of every arm of every student, by whole problems, as many as fit.
fn rows(students: &[(&str, &RunView)], arms: &Arms) -> Value {
    let mut prompts: Vec<String> = Vec::new();
    let mut rows: Vec<Value> = Vec::new();
    let mut problems = std::collections::BTreeSet::new();
    for (student, (_, view)) in students.iter().enumerate() {
        let mut left = BYTES / students.len();
        for same in view.examples.chunk_by(|a, b| a.problem_id == b.problem_id) {
            let known = prompts.len();
            let of_problem: Vec<Value> = same
                .iter()
                .map(|example| row(example, student, place(arms, &example.arm), &mut prompts))
                .collect();
            let bytes: usize = of_problem
                .iter()
                .map(|row| row.to_string().len())
                .chain(prompts[known..].iter().map(String::len))
                .sum();
            if bytes > left && !rows.is_empty() {
                prompts.truncate(known);
                break;
            }
            left = left.saturating_sub(bytes);
            rows.extend(of_problem);
            problems.insert(&same[0].problem_id);
        }
    }
    if rows.is_empty() {
        return Value::Null;
    }
    let of = |view: &RunView| {
        view.arms
            .iter()
            .map(|arm| arm.rows.unwrap_or(0))
            .sum::<usize>()
    };
    let all: usize = students.iter().map(|(_, view)| of(view)).sum();
    let replicated = students
        .iter()
        .any(|(_, view)| view.comparison.n_replicates > 1);
    let first = if replicated {
        " of the first replicate"
    } else {
        ""
    };
    let note = match rows.len() < all {
        true => format!(
            "To keep the page small, {} of {}{first} are in it: those of {}, the ones that most arms hold first, then by a hash of the problem's id. All are in the run directory.",
            crate::format::number(rows.len()),
            crate::format::counted(all, "row"),
            crate::format::counted(problems.len(), "problem"),
        ),
        false if replicated => "Rows of the first replicate.".to_owned(),
        false => String::new(),
    };
    json!({ "note": note, "prompts": prompts, "rows": rows })
}

/// Traces as the page over a run draws them, each with a text on who wrote it.
pub(crate) fn traces(traces: &[(String, Example)]) -> Vec<Value> {
    let one = |(who, example): &(String, Example)| {
        let mut prompts = Vec::new();
        let row = row(example, 0, 0, &mut prompts);
        json!({ "who": inline(who), "prompt": prompts[0], "row": row })
    };
    traces.iter().map(one).collect()
}

/// Student, arm, problem, prompt, verdict, reason, tokens, their surprisal in nats, that of the end
/// token, bytes not shown, and the steps: what was found, and pieces of text with surprisal, rank
/// and whether they are kept out of the loss.
fn row(example: &Example, student: usize, arm: usize, prompts: &mut Vec<String>) -> Value {
    let (prompt, _) = cut(&example.prompt, examples::SHOWN_BYTES);
    let prompt = prompts
        .iter()
        .rposition(|p| *p == prompt)
        .unwrap_or_else(|| {
            prompts.push(prompt);
            prompts.len() - 1
        });
    let (shown, more) = examples::shown(example);
    let (steps, end) = examples::pieces(&shown);
    let steps: Vec<Value> = steps.iter().map(step).collect();
    let (tokens, nats) = examples::sums(example);
    let (reason, _) = cut(&example.reason, ANSWER_BYTES);
    json!([
        student,
        arm,
        inline(&example.problem_id),
        prompt,
        inline(&example.verdict).replace('_', " "),
        reason,
        tokens,
        rounded(nats),
        end.map(rounded),
        more,
        steps
    ])
}

fn step(step: &StepPiece) -> Value {
    let check = match step.check {
        None => "",
        Some(StepCheck::Valid) => "valid",
        Some(StepCheck::Invalid) => "invalid",
        Some(StepCheck::Unchecked) => "unchecked",
    };
    let pieces: Vec<Value> = step
        .pieces
        .iter()
        .map(|p| {
            let mut piece = vec![json!(visible(&p.text))];
            if let Some(nats) = p.nats {
                piece.extend([json!(rounded(nats)), json!(p.rank.unwrap_or(0))]);
            } else if p.shade > 0 || p.masked {
                // The rest of a token that a step's border cut.
                piece.extend([json!(-(p.shade as i64)), json!(0)]);
            }
            if p.masked {
                piece.push(json!(1));
            }
            Value::from(piece)
        })
        .collect();
    json!([check, pieces])
}

/// Hundredths of a nat; what is no number is none.
fn rounded(nats: f64) -> Option<f64> {
    nats.is_finite().then(|| (nats * 100.0).round() / 100.0)
}
