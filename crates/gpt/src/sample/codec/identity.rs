//! What ties a compressed file to its model.

use std::fmt::Write as _;

use core_layers::checkpoint::{hex, sha256};

use crate::{config::DecoderConfig, text::Tokenizer, weights::Weights};

/// The identity of a model: everything that its probabilities and its tokens' bytes depend on, 64 hexadecimal digits.
///
/// SHA-256 of a list: the configuration as JSON (dropout and initial deviation, which matter in training only, as 0), of each
/// weight its name, shape, encoding and the SHA-256 of its bytes, and the SHA-256 of all tokens' bytes, each preceded by its
/// length as u32, little-endian.
pub fn hash(config: &DecoderConfig, weights: &Weights, tokenizer: &Tokenizer) -> String {
    let trained = DecoderConfig { dropout: 0., initial_std: 0., ..config.clone() };
    let mut list = serde_json::to_string(&trained).unwrap_or_default();
    for (name, weight) in &weights.0 {
        let (rows, columns) = (weight.rows(), weight.columns());
        let digest = hex(&sha256(weight.bytes()));
        let _ = write!(list, "\n{name} {rows} {columns} {} {digest}", weight.encoding());
    }
    let mut spelled = Vec::new();
    for token in 0..tokenizer.vocabulary() as u32 {
        let bytes = tokenizer.spelling(token);
        spelled.extend((bytes.len() as u32).to_le_bytes());
        spelled.extend(bytes);
    }
    let _ = write!(list, "\n{}", hex(&sha256(&spelled)));
    hex(&sha256(list.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::exact::tests::{gpt2, llama, random_weights};

    #[test]
    fn what_changes_a_probability_changes_the_identity_and_nothing_else() {
        let of = |config: &DecoderConfig, seed| {
            hash(config, &random_weights(config, seed), &Tokenizer::Bytes)
        };
        let (config, same) = (gpt2(), DecoderConfig { dropout: 0.3, initial_std: 1., ..gpt2() });
        assert_eq!(of(&config, 1), of(&same, 1));
        let other = DecoderConfig { norm_epsilon: 1e-6, ..gpt2() };
        let hashes = [of(&config, 1), of(&config, 2), of(&other, 1), of(&llama(), 1)];
        for (i, hash) in hashes.iter().enumerate() {
            assert!(hash.len() == 64 && !hashes[..i].contains(hash), "{i}");
        }
    }
}
