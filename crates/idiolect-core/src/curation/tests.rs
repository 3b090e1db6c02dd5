use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Scores whose `nll_per_token` is `nll` on `tokens` tokens.
fn scores(id: &str, nll: f64, tokens: u64) -> ScoreRow {
    serde_json::from_value(json!({
        "trace_id": id, "problem_id": "p", "model": "s", "template": "raw", "n_tokens": tokens, "n_bytes": tokens,
        "nll_nats": nll * tokens as f64, "entropy_nats": 1.0, "varentropy_nats2": 1.0, "abs_excess_nats": 1.0,
        "rank_sum": 4.0, "rank_clip100_sum": 4.0, "log_rank_sum": 0.0, "top1": 0, "top5": 0, "top10": 0, "top50": 0,
        "brier_sum": 0.0, "end_nll_nats": 0.0,
    }))
    .unwrap()
}

/// `(problem, nll, tokens)` a row.
type Rows = Vec<(u8, f64, u64)>;

fn with_items<T>(rows: &Rows, work: impl FnOnce(&[Item<'_>]) -> T) -> T {
    let ids: Vec<(String, String)> = rows
        .iter()
        .enumerate()
        .map(|(at, (problem, ..))| (format!("p{problem}"), format!("t{at:03}")))
        .collect();
    let scores: Vec<ScoreRow> = rows
        .iter()
        .zip(&ids)
        .map(|((_, nll, tokens), (_, id))| scores(id, *nll, *tokens))
        .collect();
    let items: Vec<Item<'_>> = rows
        .iter()
        .zip(ids.iter().zip(&scores))
        .map(|((problem, ..), ((problem_id, trace_id), scores))| Item {
            problem_id,
            trace_id,
            scores,
            difficulty: Some(f64::from(problem % 5) / 5.0),
        })
        .collect();
    work(&items)
}

fn clause(text: &str) -> Clause {
    text.parse().unwrap()
}

fn chosen(picks: &[Chosen]) -> Vec<usize> {
    picks.iter().map(|pick| pick.item).collect()
}

#[test]
fn clauses_read_and_print() {
    for text in [
        "by=nll_per_token",
        "by=rsr,far,per=set,rows=5,band=0.25-0.75,strata=difficulty+length,weights",
        "by=rsr,tokens=500,strata=length",
    ] {
        assert_eq!(clause(text).to_string(), text);
    }
    let why = |text: &str| text.parse::<Clause>().unwrap_err();
    assert!(why("by=speed").contains("nll_per_token"));
    assert!(why("rows=5").contains("by=METRIC"));
    assert!(why("by=rsr,rows=0").contains("above 0"));
    assert!(why("by=rsr,band=0.7-0.2").contains("quantiles"));
    assert!(why("by=rsr,strata=size").contains("difficulty+length"));
    assert!(why("by=rsr,fast").contains("nothing to pick by"));
}

#[test]
fn the_nearest_of_each_problem_is_picked() {
    let rows = vec![(0, 2.0, 5), (0, 1.0, 5), (1, 0.5, 5), (1, 0.6, 5)];
    with_items(&rows, |items| {
        let pick = |text: &str| chosen(&curate(items, &clause(text), 0).chosen);
        assert_eq!(pick("by=nll_per_token"), [1, 2]);
        assert_eq!(pick("by=nll_per_token,far"), [0, 3]);
        assert_eq!(pick("by=nll_per_token,per=set,rows=2"), [2, 3]);
        assert_eq!(pick("by=nll_per_token,rows=1"), [2]);
        assert_eq!(pick("by=nll_per_token,per=set,band=0.5-1"), [0, 1]);
        assert_eq!(pick("by=nll_per_token,per=set,tokens=11"), [2, 3]);
    });
}

#[test]
fn the_length_control_takes_others_of_like_length() {
    let rows = vec![
        (0, 1.0, 10),
        (0, 2.0, 50),
        (0, 2.0, 11),
        (1, 1.0, 40),
        (1, 3.0, 41),
    ];
    with_items(&rows, |items| {
        let curated = curate(items, &clause("by=nll_per_token"), 0);
        assert_eq!(chosen(&curated.chosen), [0, 3]);
        assert_eq!(chosen(&curated.length), [2, 4]);
        assert_eq!(curated.random.len(), 2);
    });
}

#[test]
fn nearer_rows_weigh_more_and_one_on_average() {
    let rows = (0..10).map(|k| (k, f64::from(k), 5)).collect();
    with_items(&rows, |items| {
        let picks = curate(items, &clause("by=nll_per_token,weights"), 0).chosen;
        assert!(
            picks
                .windows(2)
                .all(|pair| pair[0].weight >= pair[1].weight)
        );
        let mean = picks.iter().map(|p| p.weight).sum::<f64>() / 10.0;
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
    });
}

#[test]
fn strata_keep_the_shares_of_the_pool() {
    // A third of the pool is long, and nearest throughout: without strata it would be all.
    let rows: Rows = (0..90)
        .map(|k| {
            (
                k,
                if k < 30 { 0.1 } else { 1.0 },
                if k < 30 { 100 } else { u64::from(k % 50) + 1 },
            )
        })
        .collect();
    with_items(&rows, |items| {
        let count = |text: &str| {
            let picks = chosen(&curate(items, &clause(text), 0).chosen);
            (picks.len(), picks.iter().filter(|i| **i < 30).count())
        };
        assert_eq!(count("by=nll_per_token,per=set,rows=30"), (30, 30));
        assert_eq!(
            count("by=nll_per_token,per=set,rows=30,strata=length"),
            (30, 10)
        );
    });
}

fn rows() -> impl Strategy<Value = Rows> {
    let row = (0..12u8, 0.0..5.0f64, 1..60u64);
    proptest::collection::vec(row, 1..60)
}

proptest! {
    #[test]
    fn a_choice_is_a_subset_of_exact_size_and_the_same_for_the_same_seed(
        rows in rows(), n in 1..40usize, seed in 0..5u64, set in any::<bool>(), strata in any::<bool>(),
    ) {
        let text = format!(
            "by=nll_per_token,per={},rows={n}{}",
            if set { "set" } else { "problem" },
            if strata { ",strata=difficulty+length" } else { "" },
        );
        with_items(&rows, |items| {
            let curated = curate(items, &clause(&text), seed);
            let problems: BTreeSet<_> = items.iter().map(|i| i.problem_id).collect();
            let size = n.min(if set { items.len() } else { problems.len() });
            for picks in [&curated.chosen, &curated.random, &curated.length] {
                let distinct: BTreeSet<usize> = picks.iter().map(|p| p.item).collect();
                assert_eq!(distinct.len(), picks.len());
                assert!(distinct.iter().all(|i| *i < items.len()));
                assert_eq!(picks.len(), size, "{text}");
                if !set {
                    let of: BTreeSet<_> = picks.iter().map(|p| items[p.item].problem_id).collect();
                    assert_eq!(of.len(), size);
                }
            }
            assert_eq!(&curated, &curate(items, &clause(&text), seed));
            // The order of the rows changes nothing.
            let mut turned: Vec<Item<'_>> = items.to_vec();
            turned.reverse();
            let ids = |items: &[Item<'_>], picks: &[Chosen]| -> Vec<String> {
                picks.iter().map(|p| items[p.item].trace_id.to_owned()).collect()
            };
            let again = curate(&turned, &clause(&text), seed);
            assert_eq!(ids(items, &curated.chosen), ids(&turned, &again.chosen));
            assert_eq!(ids(items, &curated.random), ids(&turned, &again.random));
            assert_eq!(ids(items, &curated.length), ids(&turned, &again.length));
        });
    }

    #[test]
    fn tokens_stay_within_their_budget(rows in rows(), budget in 1..500usize) {
        with_items(&rows, |items| {
            let text = format!("by=nll_per_token,per=set,tokens={budget}");
            let picks = curate(items, &clause(&text), 0).chosen;
            let sum: u64 = picks.iter().map(|p| items[p.item].scores.n_tokens).sum();
            assert!(sum <= budget as u64);
        });
    }
}
