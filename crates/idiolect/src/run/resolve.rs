//! From a recipe's text to the recipe: the file, then its `[scale.NAME]` table, then `--set`.

use toml::{Table, Value};

use super::check::check;
use super::mistake::{Mistake, Origin};
use super::recipe::Recipe;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecipeError {
    /// Not TOML, or not of a recipe's shape.
    #[error("{origin}: {reason}")]
    Shape {
        /// The file, or the `--set` that broke it.
        origin: String,
        /// What the parser stated.
        reason: String,
    },
    /// A `--set` that is not `KEY=VALUE`.
    #[error("`--set {0}` is not KEY=VALUE")]
    Set(String),
    /// No `[scale.NAME]` of that name.
    #[error("the recipe has no scale `{wanted}`; it has {known}")]
    Scale {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// A value that makes no experiment.
    #[error("{origin}: `{field}` {reason}")]
    Value {
        /// The file, with the line of the key where it states it, or the `--set` that does.
        origin: String,
        /// Dotted key.
        field: &'static str,
        /// What is expected.
        reason: String,
    },
}

/// Resolves a recipe's text with its scale and the `--set` overrides, in this order.
pub(super) fn resolve(text: &str, origin: &str, sets: &[String]) -> Result<Recipe, RecipeError> {
    let shape = |origin: &str, reason: String| RecipeError::Shape {
        origin: origin.to_owned(),
        reason,
    };
    let mut table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| shape(origin, e.to_string()))?;
    let overrides = sets
        .iter()
        .map(|s| parse_set(s))
        .collect::<Result<Vec<_>, _>>()?;

    let scales = match table.remove("scale") {
        Some(Value::Table(scales)) => scales,
        _ => Table::new(),
    };
    let scale = overrides
        .iter()
        .rev()
        .find(|(key, _)| key == "scale")
        .map_or("default".to_owned(), |(_, value)| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        });
    if scale != "default" {
        let Some(Value::Table(changes)) = scales.get(&scale) else {
            let known: Vec<_> = std::iter::once("default")
                .chain(scales.keys().map(String::as_str))
                .collect();
            return Err(RecipeError::Scale {
                wanted: scale,
                known: known.join(", "),
            });
        };
        merge(&mut table, changes);
    }
    let stated = Origin {
        file: origin,
        text,
        scale: &scale,
        sets,
    };
    for ((key, value), given) in overrides.iter().zip(sets) {
        if key != "scale" {
            set(&mut table, key, value.clone())
                .map_err(|reason| shape(&format!("--set {given}"), reason))?;
        }
    }
    table.insert("scale".to_owned(), Value::String(scale.clone()));
    let recipe: Recipe = table.try_into().map_err(|error: toml::de::Error| {
        let mistake = Mistake::of(&error);
        shape(&stated.of(&mistake.path), mistake.words)
    })?;
    check(&recipe).map_err(|(field, reason)| RecipeError::Value {
        origin: stated.of(field),
        field,
        reason,
    })?;
    Ok(recipe)
}

/// The recipe as it is stored: resolved.
pub(super) fn stored(recipe: &Recipe) -> String {
    let recipe = toml::to_string_pretty(recipe).expect("a recipe of plain values serialises");
    format!("{MARK}\n\n{recipe}")
}

/// What a stored recipe begins with; a user's own begins otherwise.
pub(super) const MARK: &str =
    "# The recipe of the run in this directory with all its settings, stored by idiolect.";

/// Reads a recipe as it is stored.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_stored(text: &str, origin: &str) -> Result<Recipe, RecipeError> {
    let shape = |origin: String, reason: String| RecipeError::Shape { origin, reason };
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| shape(origin.to_owned(), error.to_string()))?;
    table.try_into().map_err(|error: toml::de::Error| {
        let mistake = Mistake::of(&error);
        shape(Origin::file(origin, text).of(&mistake.path), mistake.words)
    })
}

/// Keys that change how a server is asked, what is told of it, where work is done, or what the report
/// compares, which is made again each time; and no other result.
const CHANGES_NO_RESULT: [&str; 16] = [
    "arms.baselines",
    "models.in_flight",
    "models.price",
    "server.gpus",
    "server.ready_timeout_s",
    "torch.batch_tokens",
    "torch.python",
    "trl.launch",
    "trl.python",
    "execute.on",
    "execute.local",
    "execute.program",
    "execute.tasks",
    "execute.retries",
    "execute.poll_s",
    "execute.resources",
];

/// The table that nothing is made of before the traces are joined.
pub(super) const ARMS: &str = "arms.";

/// The dotted keys in which two stored recipes differ, each with both values, of those that decide
/// results and do not begin with `free`.
pub(super) fn differences(old: &str, new: &str, free: Option<&str>) -> Vec<String> {
    let flat = |text: &str| {
        let mut lines = std::collections::BTreeMap::new();
        if let Ok(table) = text.parse::<Table>() {
            flatten("", &Value::Table(table), &mut lines);
        }
        lines
    };
    let (old, new) = (flat(old), flat(new));
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let show = |side: &std::collections::BTreeMap<String, String>, key: &String| {
        side.get(key).cloned().unwrap_or_else(|| "unset".to_owned())
    };
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .filter(|key| {
            let mut may_differ = CHANGES_NO_RESULT.iter().copied().chain(free);
            !may_differ.any(|start| key.starts_with(start))
        })
        .map(|key| format!("{key}: {} -> {}", show(&old, key), show(&new, key)))
        .collect()
}

fn parse_set(text: &str) -> Result<(String, Value), RecipeError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| RecipeError::Set(text.to_owned()))?;
    let key = key.trim();
    if key.is_empty() {
        return Err(RecipeError::Set(text.to_owned()));
    }
    // A bare word is a string: nobody quotes twice on a command line.
    let parsed = format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"));
    Ok((
        key.to_owned(),
        parsed.unwrap_or_else(|| Value::String(value.to_owned())),
    ))
}

fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => match table
            .entry(first)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(format!(
                "`{first}` is no table, so nothing can be set in it"
            )),
        },
    }
}

fn merge(table: &mut Table, changes: &Table) {
    for (key, value) in changes {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(more)) => merge(inner, more),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

fn flatten(prefix: &str, value: &Value, lines: &mut std::collections::BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&path, inner, lines);
            }
        }
        other => {
            lines.insert(prefix.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::BUILT_IN;
    use super::*;
    use idiolect_core::miniature::StudentProse;

    fn built_in(name: &str) -> &'static str {
        BUILT_IN.iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[test]
    fn every_built_in_recipe_resolves_and_its_stored_form_resolves_to_itself() {
        for (name, text) in BUILT_IN {
            let recipe = resolve(text, name, &[]).unwrap();
            let again = resolve(
                &stored(&recipe).replace("scale = \"default\"\n", ""),
                "stored",
                &[],
            )
            .unwrap();
            assert_eq!(recipe, again, "{name}");
        }
    }

    #[test]
    fn every_recipe_of_the_repository_resolves_at_every_scale() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
        let mut found = 0;
        for path in glob::glob(&format!("{root}/**/*.toml")).unwrap().flatten() {
            let text = std::fs::read_to_string(&path).unwrap();
            let table: toml::Table = text.parse().unwrap();
            let scales = table.get("scale").and_then(toml::Value::as_table);
            let names = scales.into_iter().flat_map(|scales| scales.keys());
            let sets = names.map(|name| vec![format!("scale={name}")]);
            for set in std::iter::once(Vec::new()).chain(sets) {
                resolve(&text, &path.display().to_string(), &set).unwrap();
                found += 1;
            }
        }
        assert!(found >= 14, "{found}");
    }

    #[test]
    fn a_set_wins_over_the_scale_and_the_scale_over_the_file() {
        let text = built_in("miniature");
        let plain = resolve(text, "r", &[]).unwrap();
        let full = resolve(text, "r", &["scale=full".into()]).unwrap();
        assert!(full.replicates > plain.replicates && full.train.seeds >= plain.train.seeds);
        let one = resolve(
            text,
            "r",
            &[
                "scale=full".into(),
                "replicates=1".into(),
                "train.lr=0.5".into(),
            ],
        )
        .unwrap();
        assert_eq!(
            (one.replicates, one.train.lr.to_bits()),
            (1, 0.5f64.to_bits())
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let text = built_in("miniature");
        let error = |set: &str| resolve(text, "r", &[set.into()]).unwrap_err().to_string();
        assert!(
            error("train.epoch=3").contains("the nearest is `epochs`"),
            "{}",
            error("train.epoch=3")
        );
        assert!(error("scale=huge").contains("full"));
        assert!(error("replicates=0").contains("replicates"));
        assert!(error("nonsense").contains("KEY=VALUE"));
        assert!(error("flaws.doses=[2.0]").contains("doses"));
        assert!(error("paraphrase.retries=2").contains("paraphrase.temperature"));
    }

    #[test]
    fn a_fault_names_its_key_and_where_it_is_stated() {
        let refused = |text: &str, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            resolve(text, "r.toml", &sets).unwrap_err().to_string()
        };
        assert_eq!(
            refused("name = \"t\"\n[train]\nepochs = \"one\"\n", &[]),
            "r.toml, line 3: `train.epochs` is \"one\": expected a whole number, 0 or more"
        );
        let unknown = refused("name = \"t\"\n[train]\nepoch = 1\n", &[]);
        assert!(
            unknown
                .starts_with("r.toml, line 3: [train] has no key `epoch`; the nearest is `epochs`"),
            "{unknown}"
        );
        assert!(
            refused("name = \"t\"\ntrain = 3\n", &[])
                .starts_with("r.toml, line 2: `train` is 3: expected a table")
        );
        assert_eq!(
            refused("name = \"t\"\n[train]\nepochs = -1\n", &[]),
            "r.toml, line 3: `train.epochs` is -1: expected a whole number, 0 or more"
        );
        // What `--set` states is no fault of the file, nor the other way round.
        let text = built_in("miniature");
        assert_eq!(
            refused(text, &["train.epochs=one"]),
            "--set train.epochs=one: `train.epochs` is \"one\": expected a whole number, 0 or more"
        );
        assert!(refused(text, &["train.lr=0.0"]).starts_with("--set train.lr=0.0: `train.lr`"));
        let nested = refused(text, &["models.teacher.scratch.epochs=many"]);
        assert!(
            nested.starts_with(
                "--set models.teacher.scratch.epochs=many: `models.teacher.scratch.epochs`"
            ),
            "{nested}"
        );
        let scaled = "name = \"t\"\n[scale.big.train]\nepochs = true\n";
        assert!(
            refused(scaled, &["scale=big"]).starts_with("r.toml, line 3: `train.epochs` is true"),
            "{}",
            refused(scaled, &["scale=big"])
        );
        assert!(refused("", &[]).starts_with("r.toml: the recipe lacks `name`"));
    }

    #[test]
    fn arms_that_cannot_be_compared_are_refused_and_baselines_bind_no_run() {
        let text = built_in("tiny");
        let refused = |set: &str| resolve(text, "r", &[set.into()]).unwrap_err().to_string();
        let unknown = refused(r#"arms.baselines=["base", "Q"]"#);
        assert!(
            unknown.contains("names `Q`") && unknown.contains("base, H"),
            "{unknown}"
        );
        assert!(refused(r#"arms.names=["H", "G", "G"]"#).contains("two arms called `G`"));
        assert!(refused("arms.rows=0").contains("at least 1"));
        let files = "name = \"t\"\n[data]\ntask = \"gsm8k\"\ntrain = [\"q.jsonl\"]\ntest_fraction = 0.6\ndev_fraction = 0.6\n[models]\nstudents = [\"s\"]\n";
        let too_much = resolve(files, "r", &[]).unwrap_err().to_string();
        assert!(
            too_much.starts_with("r, line 5: `data.test_fraction`") && too_much.contains("below 1"),
            "{too_much}"
        );
        let a = stored(&resolve(text, "r", &[]).unwrap());
        let b = stored(&resolve(text, "r", &[r#"arms.baselines=["base"]"#.into()]).unwrap());
        assert_ne!(a, b);
        assert!(differences(&a, &b, None).is_empty());
    }

    #[test]
    fn a_student_of_the_human_style_is_named_in_a_recipe() {
        let with = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            resolve(built_in("miniature"), "r", &sets)
        };
        let recipe = with(&["data.student_prose=human"]).unwrap();
        assert_eq!(recipe.data.student_prose, Some(StudentProse::Human));
        assert!(stored(&recipe).contains("student_prose = \"human\""));
        let refused = |sets: &[&str]| with(sets).unwrap_err().to_string();
        assert!(
            refused(&["data.student_prose=human", "data.world=stories"])
                .contains("data.student_prose")
        );
        assert!(refused(&["data.student_prose=loud"]).contains("loud"));
    }

    #[test]
    fn differences_name_the_key_and_both_values() {
        let text = built_in("miniature");
        let a = stored(&resolve(text, "r", &[]).unwrap());
        let b = stored(&resolve(text, "r", &["train.epochs=3".into()]).unwrap());
        assert_eq!(differences(&a, &b, None), ["train.epochs: 10 -> 3"]);
        assert!(differences(&a, &a, None).is_empty());
    }
}
