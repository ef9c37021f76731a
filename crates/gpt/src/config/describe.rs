//! What a decoder costs, from its configuration alone: no weight is allocated.

use serde::Serialize;

use super::DecoderConfig;

/// Parameters, memory and arithmetic of a decoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Trained parameters N, a tied head counted once.
    pub parameters: i64,
    /// Those of the layers and the last norm: without embeddings, positions and head.
    pub parameters_without_embeddings: i64,
    /// Bytes of all weights, were they written so.
    pub weight_bytes: Bytes,
    /// Bytes of keys and values that a token leaves behind, in f32.
    pub kv_bytes_per_token: i64,
    /// Operations of a training step for one token at full context: `6 N + 12 L H E T` (Chowdhery et al., "PaLM", 2022,
    /// appendix B, <https://arxiv.org/abs/2204.02311>), T being the band where a layer has one.
    pub training_flops_per_token: f64,
    /// Operations of reading one token: `2 N`, attention left out.
    pub forward_flops_per_token: f64,
}

/// Bytes by the kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Four a weight.
    pub f32: i64,
    /// Two a weight.
    pub bf16: i64,
    /// Our blocks: 66 for 64 weights.
    pub int8: i64,
    /// Our blocks: 34 for 64 weights.
    pub int4: i64,
}

impl DecoderConfig {
    /// What it costs.
    pub fn describe(&self) -> Description {
        let parameters = self.parameters();
        let of = |bytes: i128, weights: i128| {
            let bytes = i128::from(parameters) * bytes / weights;
            i64::try_from(bytes).unwrap_or(i64::MAX)
        };
        let n = parameters as f64;
        let seen = |layer: i64| self.attention.band(layer).unwrap_or(i64::MAX).min(self.context);
        // layers of one parity are alike, so that nobody counts to 2^24
        let [even, odd] = [seen(0), seen(1)].map(|it| it as f64);
        let odd_layers = (self.layers / 2) as f64;
        let attended = even * (self.layers as f64 - odd_layers) + odd * odd_layers; // over layers
        let kv = 2 * i128::from(self.layers) * i128::from(self.d_key()) * 4;
        Description {
            parameters,
            parameters_without_embeddings: self.body_parameters(),
            weight_bytes: Bytes {
                f32: of(4, 1),
                bf16: of(2, 1),
                int8: of(66, 64),
                int4: of(34, 64),
            },
            kv_bytes_per_token: i64::try_from(kv).unwrap_or(i64::MAX),
            training_flops_per_token: 6. * n + 12. * self.d_query() as f64 * attended,
            forward_flops_per_token: 2. * n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::preset;
    use super::*;

    fn described(name: &str) -> Description {
        preset(name).expect("a preset").describe()
    }

    #[test]
    fn gpt2_costs_what_can_be_reckoned_by_hand() {
        let it = described("gpt2");
        assert_eq!(it.parameters_without_embeddings, 124_439_808 - (50_257 + 1024) * 768);
        assert_eq!(it.weight_bytes.f32, 497_759_232);
        assert_eq!(it.weight_bytes.bf16, 248_879_616);
        assert_eq!(it.weight_bytes.int8, 128_328_552);
        assert_eq!(it.weight_bytes.int4, 66_108_648);
        assert_eq!(it.kv_bytes_per_token, 2 * 12 * 768 * 4);
        let attention = 12. * 12. * 12. * 64. * 1024.;
        assert_eq!(it.training_flops_per_token, 6. * 124_439_808. + attention);
        assert_eq!(it.forward_flops_per_token, 248_879_616.);
    }

    #[test]
    fn shared_heads_shrink_the_cache_and_bands_the_arithmetic() {
        assert_eq!(described("smollm2-135m").kv_bytes_per_token, 2 * 30 * 3 * 64 * 4);
        let banded = preset("gpt3-small").expect("a preset");
        let dense = DecoderConfig { attention: super::super::Attention::Dense, ..banded.clone() };
        let saved =
            dense.describe().training_flops_per_token - banded.describe().training_flops_per_token;
        assert_eq!(saved, 12. * 768. * 6. * (2048. - 256.));
    }

    #[test]
    fn absurd_sizes_saturate() {
        let size = 1 << 24;
        let absurd = DecoderConfig {
            vocabulary: size,
            layers: size,
            d_model: size,
            heads: size,
            kv_heads: size,
            d_head: size,
            d_ff: size,
            ..preset("gpt2").expect("a preset")
        };
        assert_eq!(absurd.parameters(), i64::MAX);
        assert_eq!(absurd.describe().weight_bytes.f32, i64::MAX);
    }
}
