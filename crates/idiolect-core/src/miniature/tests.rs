use std::collections::BTreeSet;

use super::*;
use crate::record::{StepCheck, Verdict};
use crate::task::{NoCode, task};

fn world(seed: u64) -> World {
    World::new(WorldSettings {
        seed,
        ..WorldSettings::tiny()
    })
    .unwrap()
}

#[test]
fn there_are_8119_problems() {
    let whole = World::new(WorldSettings::default()).unwrap();
    assert_eq!(whole.splits.len(), PROBLEMS);
    let count = |split| whole.splits.values().filter(|s| **s == split).count();
    assert_eq!(count(Split::Test), 600);
    assert_eq!(count(Split::Dev) + count(Split::Train), 1_800);
    assert_eq!(count(Split::Teacher), 5_719);
    assert_eq!(WorldSettings::full().problems(), PROBLEMS);
}

#[test]
fn every_word_of_every_text_is_in_the_vocabulary() {
    let vocabulary: BTreeSet<String> = vocabulary().into_iter().collect();
    let mut seen = BTreeSet::new();
    for student_prose in [StudentProse::Plain, StudentProse::Human] {
        let world = World::new(WorldSettings {
            student_prose,
            ..WorldSettings::default()
        })
        .unwrap();
        let mut texts: Vec<String> = world
            .problems()
            .into_iter()
            .filter_map(|p| p.human)
            .collect();
        texts.extend(
            world
                .human_traces(Split::Train, Numerals::Digits)
                .into_iter()
                .map(|t| t.text),
        );
        texts.extend(
            world
                .student_corpus()
                .into_iter()
                .chain(world.teacher_corpus())
                .map(|row| row.text),
        );
        seen.extend(
            texts
                .iter()
                .flat_map(|text| text.split_whitespace())
                .map(str::to_owned),
        );
    }
    let outside: Vec<_> = seen.difference(&vocabulary).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let unused: Vec<_> = vocabulary
        .difference(&seen)
        .filter(|w| *w != EOS && *w != UNK)
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn corpora_have_their_tokens_and_fit_the_models() {
    let world = World::new(WorldSettings::default()).unwrap();
    for (rows, tokens) in [
        (world.student_corpus(), 3_070_000),
        (world.teacher_corpus(), 2_150_000),
    ] {
        let lengths: Vec<usize> = rows
            .iter()
            .map(|row| row.text.split(' ').count() + 1)
            .collect();
        let sum: usize = lengths.iter().sum();
        assert!(sum.abs_diff(tokens) < 1_000, "{sum}");
        assert!(
            lengths.iter().all(|&n| (8..=129).contains(&n)),
            "{:?}",
            lengths.iter().max()
        );
    }
}

#[test]
fn only_teacher_problems_are_solved_in_the_corpora() {
    let world = World::new(WorldSettings::default()).unwrap();
    let mut solved = 0;
    for row in world
        .student_corpus()
        .into_iter()
        .chain(world.teacher_corpus())
    {
        let Some((prompt, _)) = row
            .text
            .strip_prefix("nums ")
            .and_then(|rest| rest.split_once(" | "))
        else {
            continue;
        };
        let Some((numbers, target)) = prompt.split_once(" -> ") else {
            continue;
        };
        let mut numbers: Vec<u32> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
        numbers.sort_unstable();
        let key = ProblemKey {
            numbers: numbers.try_into().unwrap(),
            target: target.parse().unwrap(),
        };
        assert_eq!(
            world.splits.get(&key),
            Some(&Split::Teacher),
            "{}",
            row.text
        );
        solved += 1;
    }
    assert!(solved > 40_000, "{solved}");
}

#[test]
fn a_student_of_the_human_style_sees_problems_solved_in_it() {
    let world = World::new(WorldSettings {
        student_prose: StudentProse::Human,
        ..WorldSettings::tiny()
    })
    .unwrap();
    let solved = |rows: Vec<TextRow>| -> Vec<String> {
        let is_solved = |row: &TextRow| row.text.starts_with("nums ") && row.text.contains(" -> ");
        rows.into_iter()
            .filter(is_solved)
            .map(|row| row.text)
            .collect()
    };
    let in_m = |text: &String| {
        text.split_once(" | ")
            .is_some_and(|(_, rest)| Chain::parse(rest).is_some())
    };
    let (student, teacher) = (
        solved(world.student_corpus()),
        solved(world.teacher_corpus()),
    );
    assert!(
        !student.is_empty() && !student.iter().any(in_m),
        "{student:?}"
    );
    assert!(teacher.iter().all(in_m));
}

#[test]
fn the_seed_decides_a_world() {
    assert_eq!(world(1).problems(), world(1).problems());
    assert_eq!(world(1).student_corpus(), world(1).student_corpus());
    assert_eq!(world(1).teacher_corpus(), world(1).teacher_corpus());
    assert_ne!(world(1).problems(), world(2).problems());
    assert_ne!(world(1).student_corpus(), world(2).student_corpus());
}

#[test]
fn problems_carry_what_their_id_says() {
    for problem in world(0).problems() {
        let mut numbers: Vec<u32> =
            serde_json::from_value(problem.gold["numbers"].clone()).unwrap();
        numbers.sort_unstable();
        let key = ProblemKey {
            numbers: numbers.try_into().unwrap(),
            target: serde_json::from_value(problem.gold["target"].clone()).unwrap(),
        };
        assert_eq!(key.id(), problem.id);
        assert!(problem.human.unwrap().starts_with(' '));
    }
}

#[test]
fn human_traces_are_the_problems_own_texts() {
    let world = world(0);
    let traces = world.human_traces(Split::Train, Numerals::Words);
    let problems: Vec<Problem> = world
        .problems()
        .into_iter()
        .filter(|p| p.split == Split::Train)
        .collect();
    assert_eq!(traces.len(), problems.len());
    for (trace, problem) in traces.iter().zip(&problems) {
        assert_eq!(Some(&trace.text), problem.human.as_ref());
    }
}

#[test]
fn impossible_worlds_are_refused() {
    let refused = |settings| World::new(settings).unwrap_err().to_string();
    let base = WorldSettings::tiny;
    for test_problems in [9_000, usize::MAX] {
        let settings = WorldSettings {
            test_problems,
            ..WorldSettings::default()
        };
        assert!(refused(settings).contains("there are 8119"));
    }
    for max_number in [0, 16] {
        let settings = WorldSettings {
            max_number,
            ..base()
        };
        assert!(refused(settings).contains("expected 1 to 15"));
    }
    assert!(
        refused(WorldSettings {
            teacher_problems: 0,
            ..base()
        })
        .contains("teacher_problems")
    );
    let odd = ModelShape {
        hidden: 36,
        heads: 4,
        ..ModelShape::STUDENT
    };
    assert!(
        refused(WorldSettings {
            student: odd,
            ..base()
        })
        .contains("`student` has width 36")
    );
}

#[test]
fn every_text_that_solves_a_problem_verifies_correct() {
    let countdown = task(TaskName::Countdown);
    let world = World::new(WorldSettings::default()).unwrap();
    let verify =
        |problem: &Problem, text: &str| countdown.verify(problem, text, Finish::Stop, &NoCode);
    let digits: BTreeMap<String, Trace> = [Split::Test, Split::Dev, Split::Train, Split::Teacher]
        .iter()
        .flat_map(|split| world.human_traces(*split, Numerals::Digits))
        .map(|trace| (trace.problem_id.clone(), trace))
        .collect();
    for (problem, key) in world.problems().iter().zip(world.splits.keys()) {
        let human = problem.human.as_ref().unwrap();
        assert_eq!(verify(problem, human).verdict, Verdict::Correct, "{human}");
        let digits = verify(problem, &digits[&problem.id].text);
        assert_eq!(digits.verdict, Verdict::Correct);
        for chain in world.solutions(*key).into_iter().take(3) {
            let judged = verify(problem, &format!(" {}", chain.text().unwrap()));
            assert_eq!(
                judged.verdict,
                Verdict::Correct,
                "{chain}: {}",
                judged.reason
            );
            let bare = |text: Option<String>| text.map(|t| t.replace(' ', ""));
            assert_eq!(bare(judged.extracted), bare(chain.expression()), "{chain}");
            let valid: Vec<StepCheck> = judged.steps.iter().map(|step| step.check).collect();
            assert_eq!(valid, [StepCheck::Valid; 2], "{chain}");
        }
    }
}

#[test]
fn prompts_and_completions_join_at_a_space() {
    let countdown = task(TaskName::Countdown);
    let known: BTreeSet<String> = vocabulary().into_iter().collect();
    for problem in world(0).problems() {
        let human = problem.human.as_ref().unwrap();
        let mini = countdown
            .prompt(&problem, &countdown.prompt_file("mini").unwrap())
            .unwrap();
        let rewrite = countdown.prompt_file("mini-paraphrase").unwrap();
        let rewrite = countdown
            .paraphrase_prompt(&problem, human, &rewrite)
            .unwrap();
        for text in [format!("{mini}{human}"), rewrite] {
            assert!(text.split(' ').all(|word| known.contains(word)), "{text}");
        }
    }
}
