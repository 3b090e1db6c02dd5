//! Surprisal of held-out gold solutions after training.

use idiolect_core::arms::Names;
use idiolect_core::comparison::{ArmResult, GoldSurprisal};

use super::{Block, Section};
use crate::figure::gold;
use crate::format::{self, NONE, decimal};
use crate::reading::{self, BASE};
use crate::table::{Table, left, right};
use crate::view::RunView;

/// Left out where no gold solutions were scored, unless accuracy ranks nothing and it is missed.
pub(super) fn section(view: &RunView) -> Option<Section> {
    let blocks = match gold::figure(view) {
        Some(figure) => vec![Block::Figure(figure), Block::Table(table(view))],
        None if reading::near_zero(&view.comparison) => {
            vec![Block::Missing("Held-out gold solutions were not scored in this run; with accuracies this low nothing else could rank the arms.".to_owned())]
        }
        None => return None,
    };
    Some(Section {
        id: "gold",
        title: "How well held-out solutions are predicted".to_owned(),
        blocks,
    })
}

/// The arm that predicts gold solutions best, against the untrained student.
pub(super) fn finding(view: &RunView, names: &Names) -> Option<String> {
    let arms = gold::arms(view);
    let (best, best_gold) = arms.first()?;
    let base = arms.iter().find(|(arm, _)| arm.arm == BASE);
    let against = match base {
        Some((base, _)) if base.arm == best.arm => {
            return Some(format!(
                "No arm makes held-out gold solutions less surprising than they are to the untrained student ({} nats per token).",
                decimal(best_gold.nll_per_token, 3)
            ));
        }
        Some((_, base)) => format!(
            ", against {} for the untrained student",
            decimal(base.nll_per_token, 3)
        ),
        None => String::new(),
    };
    Some(format!(
        "What is left is how well each student predicts held-out gold solutions: best after {}, with {} nats per token{against}. That measures likeness to those solutions, not solving.",
        names.of(&best.arm),
        with_error(best_gold)
    ))
}

fn with_error(gold: &GoldSurprisal) -> String {
    match gold.seed_error {
        Some(error) => format!("{} ± {}", decimal(gold.nll_per_token, 3), decimal(error, 3)),
        None => decimal(gold.nll_per_token, 3),
    }
}

fn table(view: &RunView) -> Table {
    let arms = gold::arms(view);
    let base = arms
        .iter()
        .find(|(arm, _)| arm.arm == BASE)
        .map(|(_, g)| g.nll_per_token);
    let row = |(arm, g): &(&ArmResult, &GoldSurprisal)| {
        vec![
            reading::full(arm),
            decimal(g.nll_per_token, 3),
            g.seed_error.map_or(NONE.to_owned(), |e| decimal(e, 3)),
            base.map_or(NONE.to_owned(), |b| decimal(g.nll_per_token - b, 3)),
            g.bits_per_byte.map_or(NONE.to_owned(), |b| decimal(b, 3)),
            format::count(g.n_tokens),
        ]
    };
    Table {
        caption: format!(
            "Surprisal of the {}' own solutions after training, {}; mean and standard error over fine-tuning seeds. Lower is better.",
            format::counted(view.comparison.n_problems, "test problem")
                .trim_end_matches('s')
                .to_owned()
                + "s",
            reading::replication(&view.comparison)
        ),
        columns: vec![
            left("arm"),
            right("nats per token"),
            right("standard error"),
            right("minus base"),
            right("bits per byte"),
            right("tokens"),
        ],
        rows: arms.iter().map(row).collect(),
        quiet: arms
            .iter()
            .enumerate()
            .filter(|(_, (arm, _))| arm.arm == BASE)
            .map(|(i, _)| i)
            .collect(),
    }
}
