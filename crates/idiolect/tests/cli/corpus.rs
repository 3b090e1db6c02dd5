//! The fuzz target of recipes on its committed corpus, and on the recipes of the repository (`fuzz/`).

use std::path::Path;

#[path = "../../../../fuzz/bodies/recipe.rs"]
mod recipe;

#[test]
fn the_fuzz_corpus_of_recipes_replays() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (folder, fewest) in [("fuzz/corpus/recipe", 3), ("recipes", 3)] {
        let mut files: Vec<_> = std::fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        assert!(files.len() >= fewest, "{folder}: the corpus is there");
        for file in files {
            println!("{}", file.display());
            recipe::run(&std::fs::read(&file).unwrap());
        }
    }
}
