use super::*;
use crate::tokenizer::tests::{byte_level, stories, words};

const LIMITS: Limits = Limits {
    max_position_embeddings: 64,
    vocabulary: 600,
};

fn row(tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Result<Row, RowError> {
    let example = Example::new(Context::Prompt(prompt.to_owned()), completion);
    encode_example(tokenizer, LIMITS, &example)
}

#[track_caller]
fn refuses(result: Result<Row, RowError>, text: &str) {
    let reason = result.unwrap_err().reason;
    assert!(reason.contains(text), "`{reason}` lacks `{text}`");
}

#[test]
fn words_may_bring_their_space_in_prompt_or_completion() {
    let tokenizer = words();
    let a = row(&tokenizer, "nums 3 7 |", " 3 * 7").unwrap();
    let b = row(&tokenizer, "nums 3 7 | ", "3 * 7").unwrap();
    assert_eq!((&a.ids, a.completion_start), (&b.ids, b.completion_start));
    assert_eq!(a.ids[a.completion_start..], [3, 9, 4, 1]);
    assert_eq!(a.byte_starts, [1, 3, 5, 6]);
    assert_eq!(b.byte_starts, [0, 2, 4, 5]);
    assert!(!a.traits.straddled && !b.traits.straddled);
}

#[test]
fn a_token_over_the_border_counts_as_prompt_and_is_flagged() {
    let row = row(&byte_level(true), "hi ", "up up").unwrap();
    // " up" begins in the prompt: its two letters in the completion are not scored.
    assert_eq!(row.ids[row.completion_start..].len(), 2);
    assert_eq!(row.byte_starts, [2, 5]);
    assert!(row.traits.straddled);
}

#[test]
fn the_leading_space_makes_a_token_the_completions() {
    let row = row(&byte_level(true), "hi", " up").unwrap();
    assert_eq!(
        (row.ids.len(), row.completion_start, row.traits.straddled),
        (3, 1, false)
    );
    assert_eq!(row.byte_starts, [0, 3]);
}

#[test]
fn special_tokens_lead_and_the_end_token_follows() {
    let row = row(&stories(), "Once upon a time", ", there was a dog.").unwrap();
    assert_eq!((row.ids[0], row.ids.last()), (1, Some(&2)));
    assert_eq!(row.byte_starts.len(), row.ids.len() - row.completion_start);
    assert_eq!(row.byte_starts.last(), Some(&18));
    // The begin token is context enough for an empty prompt.
    let bare = super::tests::row(&stories(), "", "Once").unwrap();
    assert_eq!((bare.completion_start, bare.byte_starts[0]), (1, 0));
}

#[test]
fn rows_without_a_target_or_beyond_the_model_are_refused_with_a_reason() {
    refuses(row(&words(), "nums", ""), "completion is empty");
    refuses(
        row(&words(), "nums", "  "),
        "no token begins in the completion",
    );
    refuses(row(&words(), "", "nums 3"), "prompt is empty");
    refuses(
        row(&words(), "nums", &" 3".repeat(63)),
        "needs 65 tokens and the model holds 64",
    );
    let small = Limits {
        vocabulary: 5,
        ..LIMITS
    };
    let context = Context::Prompt("nums | 3".to_owned());
    let reason = encode_context(&words(), small, &context)
        .unwrap_err()
        .reason;
    assert!(reason.contains("token 8 is outside"), "{reason}");
    let messages = Context::Messages(Vec::new());
    let reason = encode_context(&words(), LIMITS, &messages)
        .unwrap_err()
        .reason;
    assert!(reason.contains("chat template"), "{reason}");
}

#[test]
fn a_context_leaves_room_for_one_token() {
    let fits = Context::Prompt("3 ".repeat(63));
    assert_eq!(encode_context(&words(), LIMITS, &fits).unwrap().len(), 63);
    assert!(encode_context(&words(), LIMITS, &Context::Prompt("3 ".repeat(64))).is_err());
    assert!(encode_context(&words(), LIMITS, &Context::Prompt(" ".to_owned())).is_err());
}

#[test]
fn a_long_text_is_cut_into_rows_that_lose_no_target() {
    let limits = Limits {
        max_position_embeddings: 4,
        vocabulary: 600,
    };
    let rows = encode_whole(&words(), limits, "nums 3 7 2 -> 19 |").unwrap();
    assert_eq!(rows, [vec![2, 3, 4, 5], vec![5, 6, 7, 8], vec![8, 1]]);
    assert_eq!(
        encode_whole(&words(), limits, "nums 3 7").unwrap(),
        [vec![2, 3, 4, 1]]
    );
    assert!(encode_whole(&words(), limits, "").is_err());
}

#[test]
fn an_end_token_in_the_text_is_the_rows_own() {
    let tokenizer = stories();
    let once = row(&tokenizer, "Once upon a time", ", there was a dog.").unwrap();
    for text in [", there was a dog.</s>", ", there was a dog.</s> \n"] {
        let twice = row(&tokenizer, "Once upon a time", text).unwrap();
        assert_eq!(
            (&twice.ids, &twice.byte_starts),
            (&once.ids, &once.byte_starts)
        );
        assert!(twice.traits.end_in_text && !once.traits.end_in_text);
    }
    refuses(row(&tokenizer, "Once", "</s>"), "completion is empty");
}
