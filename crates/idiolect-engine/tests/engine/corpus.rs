//! The fuzz targets' bodies on their committed corpora (`fuzz/`), and on blind mutations of them.

use std::path::Path;

use idiolect_model::Rng;

#[path = "../../../../fuzz/bodies/adapter.rs"]
mod adapter;
#[path = "../../../../fuzz/bodies/config.rs"]
mod config;
#[path = "../../../../fuzz/bodies/template.rs"]
mod template;
#[path = "../../../../fuzz/bodies/tokenizer.rs"]
mod tokenizer;
#[path = "../../../../fuzz/bodies/weights.rs"]
mod weights;

/// A target's name, its body, and how many mutations of each input are tried.
type Target = (&'static str, fn(&[u8]), usize);

const TARGETS: [Target; 5] = [
    ("adapter", adapter::run, 200),
    ("template", template::run, 50),
    ("tokenizer", tokenizer::run, 200),
    ("weights", weights::run, 1000),
    ("config", config::run, 200),
];

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder.join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{name}: the corpus is there");
    let read =
        |file: &std::path::PathBuf| (file.display().to_string(), std::fs::read(file).unwrap());
    files.iter().map(read).collect()
}

#[test]
fn the_fuzz_corpus_replays() {
    for (name, body, _) in TARGETS {
        for (file, bytes) in corpus(name) {
            println!("{file}");
            body(&bytes);
        }
    }
}

#[test]
fn mutations_of_the_corpus_are_refused_or_read() {
    for (name, body, tries) in TARGETS {
        for (file, bytes) in corpus(name) {
            let mut rng = Rng::keyed(3, &["mutate", file.rsplit('/').next().unwrap_or_default()]);
            for _ in 0..tries {
                let mut mutated = bytes.clone();
                for _ in 0..=rng.below(3) {
                    mutate(&mut mutated, &mut rng);
                }
                body(&mutated);
            }
        }
    }
}

/// Pieces that mean something in a header or a config.
const PIECES: [&str; 14] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551615",
    "4294967296",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "NaN",
    ",",
    "\"F64\"",
    "\u{0}",
];

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let len = bytes.len();
    if len == 0 {
        return;
    }
    let at = rng.below(len);
    let to = (at + 1 + rng.below(12)).min(len);
    match rng.below(5) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..to)),
        3 => {
            let copied = bytes[at..to].to_vec();
            bytes.splice(at..at, copied);
        }
        // A number of the text, or what is there, becomes another piece.
        _ => {
            let from = (at..len).find(|&i| bytes[i].is_ascii_digit()).unwrap_or(at);
            let end = (from..len)
                .find(|&i| !bytes[i].is_ascii_digit())
                .unwrap_or(len);
            let piece = PIECES[rng.below(PIECES.len())];
            bytes.splice(from..end, piece.bytes());
        }
    }
}
