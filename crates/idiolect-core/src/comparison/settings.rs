//! The same-settings guard: evaluations made differently are not compared by accident.

use std::fmt::Write as _;

use crate::store::{Difference, Meta};

/// What may differ between evaluations that are compared: the checkpoint is what is under test, and
/// a seed of sampling favours nobody.
pub const MAY_DIFFER: [&str; 3] = ["versions.model", "versions.tokenizer", "settings.seed"];

/// Two evaluations that were made differently.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", message(.one, .other, .differences))]
pub struct SettingsDiffer {
    /// The first evaluation.
    pub one: String,
    /// The one that differs from it; `old` is the first's value.
    pub other: String,
    /// In what, by key.
    pub differences: Vec<Difference>,
}

fn message(one: &str, other: &str, differences: &[Difference]) -> String {
    let mut text =
        format!("`{one}` and `{other}` were evaluated differently and cannot be compared:");
    for Difference { key, old, new } in differences {
        // Writing to a string cannot fail.
        let _ = write!(text, " `{key}` is {old} and {new};");
    }
    text + " evaluate them alike"
}

/// Checks that evaluations, by name, were made alike: problems, prompt, template, decoding, task and
/// program version.
///
/// # Errors
/// The first evaluation that differs from the first of all, with every key that differs.
pub fn same_settings(evaluations: &[(&str, &Meta)]) -> Result<(), SettingsDiffer> {
    let Some(((one, first), others)) = evaluations.split_first() else {
        return Ok(());
    };
    for (other, meta) in others {
        let mut differences = first.differences(meta);
        differences.retain(|difference| !MAY_DIFFER.contains(&difference.key.as_str()));
        if !differences.is_empty() {
            let (one, other) = ((*one).to_owned(), (*other).to_owned());
            return Err(SettingsDiffer {
                one,
                other,
                differences,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(temperature: f64, model: &str) -> Meta {
        let mut meta = Meta::of("eval");
        meta.input("problems", "abc")
            .version("model", model)
            .version("task", "countdown@1");
        meta.setting("temperature", temperature)
            .setting("seed", model.len());
        meta
    }

    #[test]
    fn two_checkpoints_may_be_compared() {
        let (a, b) = (meta(0.7, "one"), meta(0.7, "three"));
        assert_eq!(same_settings(&[("G", &a), ("W", &b)]), Ok(()));
        assert_eq!(same_settings(&[]), Ok(()));
    }

    #[test]
    fn a_differing_setting_is_named_with_both_values() {
        let (a, b, mut c) = (meta(0.7, "x"), meta(0.7, "y"), meta(0.2, "z"));
        c.version("task", "countdown@2");
        let error = same_settings(&[("G", &a), ("W", &b), ("P", &c)]).unwrap_err();
        let keys: Vec<&str> = error.differences.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["settings.temperature", "versions.task"]);
        let said = error.to_string();
        assert!(
            said.contains("`G` and `P`") && said.contains("0.7 and 0.2"),
            "{said}"
        );
    }
}
