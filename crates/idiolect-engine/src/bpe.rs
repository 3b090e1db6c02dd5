//! A byte-level BPE vocabulary trained on text, for a student that is trained from scratch on
//! real text. The training itself is the `tokenizers` library's (Sennrich et al. 2016, on bytes as
//! in GPT-2); this module fixes its settings and gives the files of a model directory.

use idiolect_model::ModelError;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerBuilder,
};

/// Ends every text; it is also what an unknown byte could never need, since all 256 are tokens.
pub const END: &str = "<|end|>";

/// A trained tokenizer as the two files of a model directory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Value,
    /// Tokens of the vocabulary, [`END`] included: at most what was asked for.
    pub vocabulary: usize,
    /// Id of [`END`].
    pub end_id: u32,
}

/// Learns `vocabulary` tokens (256 bytes and [`END`] among them) from `texts`. The same texts in
/// any order give the same tokens.
///
/// # Errors
/// [`ModelError::Invalid`] when `vocabulary` cannot hold the bytes.
pub fn learn_bpe<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    vocabulary: usize,
) -> Result<TokenizerFiles, ModelError> {
    let failed =
        |e: tokenizers::Error| ModelError::Invalid(format!("learning a BPE vocabulary: {e}"));
    if vocabulary < 257 {
        return Err(ModelError::Invalid(format!(
            "a byte-level vocabulary of {vocabulary} tokens cannot hold the 256 bytes and the end token; ask for at least 257"
        )));
    }
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(ByteLevel::new(
        false, true, true,
    ))))
    .with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())))
    .build()
    .map_err(failed)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    let end_id = tokenizer
        .token_to_id(END)
        .ok_or_else(|| ModelError::Invalid(format!("the trained vocabulary lacks `{END}`")))?;
    Ok(TokenizerFiles {
        vocabulary: tokenizer.get_vocab_size(true),
        tokenizer: tokenizer.to_string(true).map_err(failed)?,
        tokenizer_config: json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "clean_up_tokenization_spaces": false,
        }),
        end_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = [
        "the cat sat on the mat",
        "the hat is on the cat",
        "a – dash and 12 + 30 = 42",
    ];

    #[test]
    fn the_order_of_the_texts_changes_no_token() {
        let forward = learn_bpe(TEXTS.into_iter(), 300).unwrap();
        let backward = learn_bpe(TEXTS.into_iter().rev(), 300).unwrap();
        assert_eq!(forward, backward);
        assert_eq!(forward.end_id, 0);
    }

    #[test]
    fn any_text_survives_encoding_and_decoding() {
        let files = learn_bpe(TEXTS.into_iter(), 300).unwrap();
        let tokenizer: tokenizers::Tokenizer = files.tokenizer.parse().unwrap();
        for text in ["the cat", "λ≠\u{0} 🙂\n\t x", " leading"] {
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), text);
        }
    }

    #[test]
    fn a_vocabulary_too_small_for_the_bytes_is_refused() {
        assert!(
            learn_bpe(TEXTS.into_iter(), 200)
                .unwrap_err()
                .to_string()
                .contains("257")
        );
    }
}
