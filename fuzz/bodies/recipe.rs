//! Any text as a recipe: refused with a reason, or its stored form resolves to itself.

use idiolect::run::{read_recipe, resolved_text};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let recipe = match read_recipe(&text, "fuzz", &[]) {
        Ok(recipe) => recipe,
        Err(reason) => return assert!(!reason.to_string().is_empty()),
    };
    let stored = resolved_text(&recipe);
    let again = read_recipe(&stored, "stored", &[]).expect("a stored recipe can be read");
    assert_eq!(resolved_text(&again), stored);
    recipe.students();
    recipe.arms.specs();
    recipe.flaws_of_arms();
    recipe.fractions();
    recipe.references();
}
