//! The fuzz targets' bodies on their committed corpora: `fuzz/`.

use std::path::Path;

#[path = "../../../../fuzz/bodies/config.rs"]
mod config;
#[path = "../../../../fuzz/bodies/weights.rs"]
mod weights;

#[test]
fn the_fuzz_corpus_replays() {
    for (name, body) in [
        ("weights", weights::run as fn(&[u8])),
        ("config", config::run),
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
