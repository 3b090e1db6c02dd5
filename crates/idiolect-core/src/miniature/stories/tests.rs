use std::collections::BTreeSet;

use super::*;
use crate::record::{StepCheck, Verdict};
use crate::task::{NoCode, task};

fn world() -> StoryWorld {
    StoryWorld::new(StorySettings::default()).unwrap()
}

#[test]
fn the_vocabulary_is_what_the_texts_use() {
    let world = world();
    let mut texts: Vec<String> = Vec::new();
    for problem in world.problems() {
        texts.push(problem.question);
        texts.extend(problem.human);
    }
    texts.extend(
        world
            .student_corpus()
            .into_iter()
            .chain(world.teacher_corpus())
            .map(|row| row.text),
    );
    let seen: BTreeSet<&str> = texts.iter().flat_map(|t| t.split_whitespace()).collect();
    let words = vocabulary();
    let known: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(known.len(), words.len(), "a word is there twice");
    let missing: Vec<_> = seen.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let unused: Vec<_> = known
        .difference(&seen)
        .filter(|w| **w != EOS && **w != UNK)
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_splits_have_their_sizes_and_share_no_plot() {
    let problems = world().problems();
    let count = |split| problems.iter().filter(|p| p.split == split).count();
    assert_eq!(
        [Split::Test, Split::Dev, Split::Train, Split::Teacher].map(count),
        [600, 150, 1_650, 8_000]
    );
    let ids: BTreeSet<&str> = problems.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids.len(), problems.len());
}

#[test]
fn people_are_right_and_what_the_models_write_is_checked_step_by_step() {
    let world = world();
    let task = task(TaskName::Gsm8k);
    for problem in world.problems().iter().step_by(7) {
        let human = problem.human.as_deref().unwrap();
        assert!(human.starts_with(' '));
        let judged = task.verify(problem, human, Finish::Stop, &NoCode);
        assert_eq!(judged.verdict, Verdict::Correct, "{human}");
        let plot = &world.plots[&problem.id].0;
        let text = format!(" {}", solution::in_style_m(&plot.chain));
        let judged = task.verify(problem, &text, Finish::Stop, &NoCode);
        assert_eq!(judged.verdict, Verdict::Correct, "{text}");
        assert_eq!(judged.steps.len(), plot.chain.steps.len(), "{text}");
        assert!(judged.steps.iter().all(|s| s.check == StepCheck::Valid));
        assert!((2..=4).contains(&plot.chain.steps.len()));
    }
}

#[test]
fn a_false_step_is_seen_and_a_wrong_answer_is_wrong() {
    let world = world();
    let problem = world
        .problems()
        .into_iter()
        .find(|p| p.gold["answer"] == "14")
        .unwrap();
    let task = task(TaskName::Gsm8k);
    let judged = task.verify(
        &problem,
        " 12 + 5 = 18 ; 18 - 3 = 15 | #### 15",
        Finish::Stop,
        &NoCode,
    );
    assert_eq!(judged.verdict, Verdict::Wrong);
    assert_eq!(judged.extracted.as_deref(), Some("15"));
    assert_eq!(judged.steps[0].check, StepCheck::Invalid);
    assert_eq!(judged.steps[1].check, StepCheck::Valid);
}

#[test]
fn only_teacher_problems_are_solved_in_the_corpora() {
    let world = world();
    let texts: BTreeSet<String> = world
        .problems()
        .into_iter()
        .filter(|p| p.split != Split::Teacher)
        .map(|p| p.question)
        .collect();
    let mut solved = 0;
    for row in world
        .student_corpus()
        .into_iter()
        .chain(world.teacher_corpus())
    {
        if let Some((question, _)) = row.text.split_once(" ? | ") {
            solved += 1;
            assert!(!texts.contains(&format!("{question} ?")), "{question}");
        }
    }
    assert!(solved > 10_000, "{solved}");
}

#[test]
fn texts_fit_the_models_and_have_their_tokens() {
    let world = world();
    for (rows, tokens) in [
        (world.student_corpus(), 3_070_000),
        (world.teacher_corpus(), 2_150_000),
    ] {
        let lengths: Vec<usize> = rows
            .iter()
            .map(|row| row.text.split(' ').count() + 1)
            .collect();
        assert!(lengths.iter().sum::<usize>().abs_diff(tokens) < 1_000);
        assert!(*lengths.iter().max().unwrap() < 256);
    }
}

#[test]
fn the_seed_decides_everything() {
    let of = |seed| {
        let settings = StorySettings {
            seed,
            ..StorySettings::tiny()
        };
        let world = StoryWorld::new(settings).unwrap();
        (world.problems(), world.student_corpus())
    };
    assert_eq!(of(3), of(3));
    assert_ne!(of(3).0, of(4).0);
}

#[test]
fn impossible_worlds_are_refused() {
    let refuse = |change: fn(&mut StorySettings)| {
        let mut settings = StorySettings::tiny();
        change(&mut settings);
        StoryWorld::new(settings).unwrap_err().to_string()
    };
    assert!(refuse(|s| s.teacher_problems = 0).contains("teacher_problems"));
    assert!(refuse(|s| s.student.heads = 5).contains("student"));
}
