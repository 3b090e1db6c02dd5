//! Statistics against scipy and statsmodels, on the cases of `fixtures/statistics/reference.json`,
//! which `fixtures/statistics/make.py` wrote.

use idiolect_core::statistics::bootstrap::paired_bootstrap;
use idiolect_core::statistics::correlation::rank_correlation;
use idiolect_core::statistics::holm;
use idiolect_core::statistics::permutation::sign_flip;
use idiolect_core::statistics::proportion::{mcnemar, wilson};
use idiolect_model::Rng;
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let text = include_str!("../../../fixtures/statistics/reference.json");
    let all: Value = serde_json::from_str(text).expect("the fixture is JSON");
    let cases = all[name].as_array().expect("a list of cases").clone();
    assert!(cases.len() >= 4, "{name}");
    cases
}

fn number(case: &Value, key: &str) -> f64 {
    case[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {case}"))
}

fn numbers(case: &Value, key: &str) -> Vec<f64> {
    let list = case[key].as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn near(got: f64, expected: f64, within: f64, case: &Value) {
    assert!(
        (got - expected).abs() <= within,
        "{got} is not {expected}: {case}"
    );
}

#[test]
fn mcnemar_wilson_and_holm_agree_with_statsmodels_to_1e_9() {
    for case in cases("mcnemar") {
        let (b, c) = (number(&case, "b") as usize, number(&case, "c") as usize);
        near(mcnemar(b, c), number(&case, "p"), 1e-9, &case);
    }
    for case in cases("wilson") {
        let (k, n) = (number(&case, "k"), number(&case, "n"));
        let interval = wilson(k / n, n as usize, number(&case, "confidence"));
        near(interval.low, number(&case, "low"), 1e-9, &case);
        near(interval.high, number(&case, "high"), 1e-9, &case);
    }
    for case in cases("holm") {
        for (got, expected) in holm(&numbers(&case, "p"))
            .iter()
            .zip(numbers(&case, "holm"))
        {
            near(*got, expected, 1e-9, &case);
        }
    }
}

#[test]
fn bca_agrees_with_scipy_within_monte_carlo_error() {
    for case in cases("bca") {
        let x = numbers(&case, "x");
        let found = paired_bootstrap(&x, 50_000, 0.95, &mut Rng::keyed(0, &["reference"]));
        // Ours is one run of scipy's size: five of its seeds' spreads, and the steps of a discrete
        // mean where values are few.
        let within = 5.0 * number(&case, "spread") + 0.02 * number(&case, "standard_error");
        near(found.bca.low, number(&case, "low"), within, &case);
        near(found.bca.high, number(&case, "high"), within, &case);
        let error = number(&case, "standard_error");
        near(found.standard_error, error, 0.02 * error, &case);
    }
}

#[test]
fn sign_flips_agree_with_scipy_exactly() {
    for case in cases("sign_flip") {
        let found = sign_flip(&numbers(&case, "x"), 0, &mut Rng::keyed(0, &[]));
        assert!(found.exact);
        near(found.p, number(&case, "p"), 1e-9, &case);
    }
}

#[test]
fn rank_correlations_agree_with_scipy_and_their_p_with_enumeration() {
    for case in cases("rank") {
        let found = rank_correlation(&numbers(&case, "x"), &numbers(&case, "y"), 0, 0)
            .expect("the lists vary");
        near(found.spearman, number(&case, "rho"), 1e-9, &case);
        near(found.kendall, number(&case, "tau"), 1e-9, &case);
        for (key, got) in [("p_rho", found.p_spearman), ("p_tau", found.p_kendall)] {
            if let Some(p) = case[key].as_f64() {
                assert!(got.exact);
                near(got.p, p, 1e-9, &case);
            }
        }
    }
}
