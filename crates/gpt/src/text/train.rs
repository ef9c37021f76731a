//! Byte-pair encoding learnt from text.

use std::collections::HashSet;

use anyhow::{Result, anyhow};
use core_layers::ConfigError;
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::{END_OF_TEXT, Subwords, Tokenizer, parts};

/// Texts are fed in parts of so many bytes.
const PART: usize = 1 << 16;

/// Learns merges; the end of a text is token 0, bytes follow, then merges in the order in which they were found.
pub(super) fn train<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    vocabulary: usize,
) -> Result<Subwords> {
    let rule = format!("257 (bytes, and the end of a text) to {}", Tokenizer::MOST);
    let fits = (257..=Tokenizer::MOST).contains(&vocabulary);
    ConfigError::ensure(fits, "the vocabulary of a BPE", vocabulary, &rule)?;
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(2)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true).normalized(false)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .build();
    let bytes = ByteLevel::default().add_prefix_space(false);
    let failed = |error: tokenizers::Error| anyhow!("tokens cannot be learnt: {error}");
    let mut cutter = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        ByteLevel,
        PostProcessorWrapper,
        ByteLevel,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(bytes))
    .with_decoder(Some(bytes))
    .build()
    .map_err(failed)?;
    cutter.train(&mut trainer, texts.flat_map(|text| parts(text, PART))).map_err(failed)?;
    Subwords::from_value(serde_json::to_value(&cutter)?, None)
}
