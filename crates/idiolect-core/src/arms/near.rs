//! Texts that are nearly the same, and training texts that repeat held-out questions.
//!
//! Near duplicates are found by MinHash over shingles of words and confirmed by their exact Jaccard
//! index, so that a hash collision drops nothing. Contamination is the fraction of a held-out
//! question's word n-grams that another text holds; 13 words follow the practice since GPT-3
//! (arXiv 2005.14165, appendix C). Case and punctuation do not count; numbers do: problems of one
//! template that differ in a number are two problems.

use std::collections::{BTreeMap, BTreeSet};

/// Words of a shingle.
const SHINGLE: usize = 5;
/// Texts whose shingles overlap this much (Jaccard) are near duplicates.
pub(super) const NEAR: f64 = 0.9;
/// Words of an n-gram of the contamination check; shorter questions are one n-gram.
pub(super) const NGRAM: usize = 13;
/// A text that holds this fraction of a held-out question's n-grams repeats it. Below 1, since a
/// question may be repeated with a word changed; far above the share that a template gives.
pub(super) const REPEATS: f64 = 0.8;
/// Hashes of a signature: BANDS × ROWS.
const BANDS: usize = 16;
const ROWS: usize = 4;

/// Words in lower case without punctuation; signs that mean something in arithmetic are kept.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|word| {
            word.trim_matches(|c: char| !c.is_alphanumeric() && !"+-*/=×÷<>".contains(c))
                .to_lowercase()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Hashes of all runs of `n` words; of a shorter text the one run that it is.
fn runs(text: &str, n: usize) -> BTreeSet<u64> {
    let words = words(text);
    let hash = |run: &[String]| {
        // FNV-1a, then mixed: equal runs hash equally on every machine.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for word in run {
            for byte in word.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        mix(hash)
    };
    match words.len() {
        0 => BTreeSet::new(),
        len if len <= n => BTreeSet::from([hash(&words)]),
        _ => words.windows(n).map(hash).collect(),
    }
}

/// The words of a text that hold a digit.
fn numbers(text: &str) -> BTreeSet<String> {
    let mut words = words(text);
    words.retain(|word| word.contains(|c: char| c.is_ascii_digit()));
    words.into_iter().collect()
}

/// SplitMix64's finaliser.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// For each text that is nearly the same as an earlier one, and has its numbers: its place and that one's. What is
/// dropped already does not count as earlier, so that a chain of small changes keeps its ends.
pub(super) fn near_duplicates(texts: &[&str]) -> Vec<(usize, usize)> {
    let mut buckets: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
    let mut kept: Vec<BTreeSet<u64>> = Vec::with_capacity(texts.len());
    let mut found = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let shingles = runs(text, SHINGLE);
        let bands = bands(&shingles);
        let candidates: BTreeSet<usize> = bands
            .iter()
            .filter_map(|band| buckets.get(band))
            .flatten()
            .copied()
            .collect();
        let twin = candidates.into_iter().find(|&earlier| {
            jaccard(&kept[earlier], &shingles) >= NEAR && numbers(texts[earlier]) == numbers(text)
        });
        match twin {
            Some(earlier) => {
                found.push((at, earlier));
                kept.push(BTreeSet::new());
            }
            None => {
                for band in bands {
                    buckets.entry(band).or_default().push(at);
                }
                kept.push(shingles);
            }
        }
    }
    found
}

/// The bands of a MinHash signature; none of an empty text.
fn bands(shingles: &BTreeSet<u64>) -> Vec<(usize, u64)> {
    if shingles.is_empty() {
        return Vec::new();
    }
    let smallest = |k: usize| {
        let salt = mix(k as u64 + 1);
        shingles.iter().map(|hash| mix(hash ^ salt)).min()
    };
    (0..BANDS)
        .map(|band| {
            let rows = (0..ROWS).filter_map(|row| smallest(band * ROWS + row));
            (band, rows.fold(0, |hash, value| mix(hash ^ value)))
        })
        .collect()
}

fn jaccard(a: &BTreeSet<u64>, b: &BTreeSet<u64>) -> f64 {
    let common = a.intersection(b).count();
    let all = a.len() + b.len() - common;
    if all == 0 {
        0.0
    } else {
        common as f64 / all as f64
    }
}

/// How much two texts share: the Jaccard index of their runs of five words, 0 to 1.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&runs(a, SHINGLE), &runs(b, SHINGLE))
}

/// The held-out questions by their n-grams.
pub(super) struct HeldOut {
    /// Which questions hold an n-gram.
    by_ngram: BTreeMap<u64, Vec<usize>>,
    /// N-grams of each question, and its numbers.
    questions: Vec<(usize, BTreeSet<String>)>,
}

impl HeldOut {
    pub(super) fn new<'a>(questions: impl Iterator<Item = &'a str>) -> Self {
        let mut held_out = Self {
            by_ngram: BTreeMap::new(),
            questions: Vec::new(),
        };
        for question in questions {
            let ngrams = runs(question, NGRAM);
            let at = held_out.questions.len();
            held_out.questions.push((ngrams.len(), numbers(question)));
            for ngram in ngrams {
                held_out.by_ngram.entry(ngram).or_default().push(at);
            }
        }
        held_out
    }

    /// Whether a text repeats a held-out question, its numbers included.
    pub(super) fn repeated_by(&self, text: &str) -> bool {
        let mut hits: BTreeMap<usize, usize> = BTreeMap::new();
        for ngram in runs(text, NGRAM) {
            for question in self.by_ngram.get(&ngram).into_iter().flatten() {
                *hits.entry(*question).or_default() += 1;
            }
        }
        let found = numbers(text);
        hits.iter().any(|(question, hits)| {
            let (ngrams, numbers) = &self.questions[*question];
            *hits as f64 >= REPEATS * *ngrams as f64 && numbers.is_subset(&found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "Natalia sold clips to 48 of her friends in April, and then she sold half as many \
        clips in May. How many clips did Natalia sell altogether in April and May?";

    #[test]
    fn a_changed_comma_is_a_near_duplicate_and_another_story_is_none() {
        let same = STORY.replace(", and", " and").to_uppercase();
        let longer = format!("{STORY} Think well.");
        let other = "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she earn?";
        let found = near_duplicates(&[STORY, other, &same, &longer, other]);
        assert_eq!(found, [(2, 0), (3, 0), (4, 1)]);
    }

    #[test]
    fn one_other_number_makes_another_problem() {
        let other = STORY.replace("48", "50");
        assert_eq!(near_duplicates(&[STORY, &other]), []);
    }

    #[test]
    fn short_and_empty_texts_are_compared_whole() {
        assert_eq!(
            near_duplicates(&["3 + 4", "3 + 5", "", "", "3 + 4"]),
            [(4, 0)]
        );
    }

    #[test]
    fn a_text_that_quotes_a_held_out_question_repeats_it() {
        let held_out = HeldOut::new([STORY, "What is 2 + 2?"].into_iter());
        assert!(held_out.repeated_by(STORY));
        assert!(held_out.repeated_by(&format!("The question was: {STORY} Let us see.")));
        assert!(held_out.repeated_by("what is 2 + 2"));
        assert!(held_out.repeated_by(&STORY.replace("May?", "June?")));
        assert!(!held_out.repeated_by(&STORY.replace("48", "50").replace("April", "June")));
        assert!(!held_out.repeated_by("What is 2 + 3?"));
        assert!(!held_out.repeated_by(""));
    }

    #[test]
    fn the_template_of_the_miniature_repeats_nothing() {
        let question = |a: u32, t: u32| {
            format!(
                "Using the numbers {a}, 7 and 2, each exactly once, and the operations +, -, * and /, make {t}."
            )
        };
        let held_out = HeldOut::new([question(3, 19)].iter().map(String::as_str));
        assert!(held_out.repeated_by(&question(3, 19)));
        for (a, t) in [(4, 19), (3, 20)] {
            assert!(!held_out.repeated_by(&question(a, t)));
            assert_eq!(near_duplicates(&[&question(3, 19), &question(a, t)]), []);
        }
    }
}
