//! What a run would do and could show, said before it starts.

use std::fmt::Write as _;
use std::path::Path;

use idiolect_core::statistics::proportion::smallest_detectable;

use super::costs;
use super::recipe::Recipe;

/// Shares of the problems on which two arms may disagree.
const DISAGREEMENT: [f64; 3] = [0.05, 0.1, 0.2];

/// The smallest difference that the evaluation can show, in a sentence.
pub(crate) fn detectable(recipe: &Recipe) -> String {
    let n = (costs::sizes(recipe).test_problems.round() as usize).max(1);
    let points: Vec<String> = DISAGREEMENT
        .iter()
        .map(|d| {
            let points = 100.0 * smallest_detectable(n, *d);
            format!(
                "{points:.1} points if two arms disagree on {:.0} %",
                100.0 * d
            )
        })
        .collect();
    format!(
        "{n} test problems can tell apart (80 % power, p < 0.05, one seed): {}",
        points.join("; ")
    )
}

/// The plan for a person.
pub(crate) fn describe(recipe: &Recipe, dir: &Path) -> String {
    let mut text = String::new();
    let sizes = costs::sizes(recipe);
    let units = costs::units(recipe);
    let total: f64 = units.iter().map(|(_, cost)| cost).sum();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!("{}: {}", recipe.name, recipe.about));
    line(format!(
        "would write {} ({} world(s), seed {})",
        dir.display(),
        recipe.worlds,
        recipe.seed
    ));
    line(format!(
        "arms {} × {} seed(s), {} epochs of {} rows each",
        recipe.arms.names.join(" "),
        recipe.finetune.seeds,
        recipe.finetune.epochs,
        recipe
            .arms
            .rows
            .map_or("all matched".to_owned(), |r| r.to_string()),
    ));
    for (what, parameters, tokens) in [
        ("student", sizes.student, sizes.student_tokens),
        ("teacher", sizes.teacher, sizes.teacher_tokens),
    ] {
        if tokens > 0.0 && (what == "teacher" || recipe.student.is_none()) {
            line(format!(
                "pretrain {what}: {:.0}k parameters on {:.2}M tokens",
                parameters / 1e3,
                tokens / 1e6
            ));
        }
    }
    line(format!(
        "about {:.1} tera-operations in all; two cores did 0.15 of them a second",
        total / 1e12
    ));
    line(detectable(recipe));
    line(if dir.join("recipe.toml").exists() {
        "the directory holds a run: what is complete there is kept".to_owned()
    } else {
        "nothing of it is there yet".to_owned()
    });
    text
}
