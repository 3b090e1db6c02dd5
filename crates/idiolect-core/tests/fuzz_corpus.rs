//! The fuzz targets' bodies on their committed corpora: `fuzz/`.

use std::path::Path;

#[path = "../../../fuzz/bodies/arm.rs"]
mod arm;
#[path = "../../../fuzz/bodies/expression.rs"]
mod expression;
#[path = "../../../fuzz/bodies/extraction.rs"]
mod extraction;
#[path = "../../../fuzz/bodies/latex.rs"]
mod latex;
#[path = "../../../fuzz/bodies/meta.rs"]
mod meta;
#[path = "../../../fuzz/bodies/outside.rs"]
mod outside;
#[path = "../../../fuzz/bodies/parquet.rs"]
mod parquet;
#[path = "../../../fuzz/bodies/rows.rs"]
mod rows;

#[test]
fn the_fuzz_corpus_replays() {
    for (name, body) in [
        ("extraction", extraction::run as fn(&[u8])),
        ("latex", latex::run),
        ("expression", expression::run),
        ("rows", rows::run),
        ("arm", arm::run),
        ("meta", meta::run),
        ("outside", outside::run),
        ("parquet", parquet::run),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() >= 3, "{name}: the corpus is there");
        for file in files {
            println!("{}", file.display());
            body(&std::fs::read(&file).unwrap());
        }
    }
}
