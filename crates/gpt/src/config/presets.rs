//! Published decoders and small ones, by name. A preset is data: its numbers stand here and nowhere else.

use super::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling};

/// The name of every preset.
pub const PRESETS: [&str; 19] = [
    "book-gpt2",
    "book-llama",
    "gpt2",
    "gpt2-medium",
    "gpt2-large",
    "gpt2-xl",
    "gpt3-small",
    "gpt3-medium",
    "gpt3-large",
    "gpt3-xl",
    "gpt3-2.7b",
    "gpt3-6.7b",
    "gpt3-13b",
    "gpt3-175b",
    "llama-7b",
    "llama-13b",
    "llama-33b",
    "llama-65b",
    "smollm2-135m",
];

/// The preset of that name.
pub fn preset(name: &str) -> Option<DecoderConfig> {
    Some(match name {
        "book-gpt2" => book(&gpt2(6, 384, 6)),
        "book-llama" => DecoderConfig { kv_heads: 2, tied: true, ..book(&llama(6, 384, 6)) },
        "gpt2" => gpt2(12, 768, 12),
        "gpt2-medium" => gpt2(24, 1024, 16),
        "gpt2-large" => gpt2(36, 1280, 20),
        "gpt2-xl" => gpt2(48, 1600, 25),
        "gpt3-small" => gpt3(12, 768, 12),
        "gpt3-medium" => gpt3(24, 1024, 16),
        "gpt3-large" => gpt3(24, 1536, 16),
        "gpt3-xl" => gpt3(24, 2048, 16), // the paper's table says 24 heads of 128, which are not 2048
        "gpt3-2.7b" => gpt3(32, 2560, 32),
        "gpt3-6.7b" => gpt3(32, 4096, 32),
        "gpt3-13b" => gpt3(40, 5120, 40), // the paper's table says 5140, which 40 heads of 128 are not
        "gpt3-175b" => gpt3(96, 12_288, 96),
        "llama-7b" => llama(32, 4096, 32),
        "llama-13b" => llama(40, 5120, 40),
        "llama-33b" => llama(60, 6656, 52),
        "llama-65b" => llama(80, 8192, 64),
        "smollm2-135m" => smollm2(),
        _ => return None,
    })
}

/// GPT-2 (Radford et al., 2019): layer norms, learnt positions, tanh GELU, biases, a tied head, 50,257 tokens.
fn gpt2(layers: i64, d_model: i64, heads: i64) -> DecoderConfig {
    DecoderConfig {
        vocabulary: 50_257,
        context: 1024,
        layers,
        d_model,
        heads,
        kv_heads: heads,
        d_head: d_model / heads,
        d_ff: 4 * d_model,
        norm: Norm::LayerNorm,
        norm_epsilon: 1e-5,
        positions: Positions::Learned,
        feed_forward: FeedForward::GeluTanh,
        attention: Attention::Dense,
        biases: true,
        tied: true,
        dropout: 0.,
        initial_std: 0.02,
        start: 50_256,
    }
}

/// GPT-3 (Brown et al., 2020, table 2.1): twice the context, every other layer banded. The paper does not say how wide
/// the bands are.
fn gpt3(layers: i64, d_model: i64, heads: i64) -> DecoderConfig {
    DecoderConfig {
        context: 2048,
        attention: Attention::Alternating { band: 256 },
        ..gpt2(layers, d_model, heads)
    }
}

/// LLaMA (Touvron et al., 2023, table 2): root mean square norms, rotations, `SwiGLU` at two thirds of 4 D rounded up to
/// a multiple of 256, no biases, a head of its own.
fn llama(layers: i64, d_model: i64, heads: i64) -> DecoderConfig {
    DecoderConfig {
        vocabulary: 32_000,
        context: 2048,
        d_ff: (8 * d_model / 3 + 255) / 256 * 256,
        norm: Norm::RmsNorm,
        norm_epsilon: 1e-6,
        positions: Positions::Rope { theta: 1e4, scaling: Scaling::None },
        feed_forward: FeedForward::SwiGlu,
        biases: false,
        tied: false,
        start: 1,
        ..gpt2(layers, d_model, heads)
    }
}

/// SmolLM2-135M (Allal et al., 2025, <https://arxiv.org/abs/2502.02737>), as released.
fn smollm2() -> DecoderConfig {
    DecoderConfig {
        vocabulary: 49_152,
        context: 8192,
        kv_heads: 3,
        norm_epsilon: 1e-5,
        positions: Positions::Rope { theta: 1e5, scaling: Scaling::None },
        tied: true,
        initial_std: 1. / 24., // 1 / sqrt(D)
        start: 0,
        ..llama(30, 576, 9)
    }
}

/// The same layers for a book: 256 tokens of 8,192.
fn book(config: &DecoderConfig) -> DecoderConfig {
    DecoderConfig { vocabulary: 8192, context: 256, start: 0, ..config.clone() }
}

#[cfg(test)]
mod tests {
    use core_layers::training::Part as _;

    use super::*;

    #[test]
    fn every_preset_is_sound_and_no_other_name_is_one() {
        for name in PRESETS {
            let config = preset(name).expect(name);
            config.validate().expect(name);
            assert_eq!(config.d_query(), config.d_model, "{name}");
        }
        assert!(preset("gpt4").is_none());
    }

    #[test]
    fn published_models_have_their_published_numbers_of_parameters() {
        for (name, parameters) in [
            ("gpt2", 124_439_808),
            ("gpt2-medium", 354_823_168),
            ("gpt2-large", 774_030_080),
            ("gpt2-xl", 1_557_611_200),
            ("llama-7b", 6_738_415_616),
            ("llama-13b", 13_015_864_320),
            ("llama-33b", 32_528_943_616),
            ("llama-65b", 65_285_660_672),
            ("smollm2-135m", 134_515_008),
        ] {
            assert_eq!(preset(name).expect(name).parameters(), parameters, "{name}");
        }
        for (name, billions) in [
            ("gpt3-small", 0.125),
            ("gpt3-medium", 0.35),
            ("gpt3-large", 0.76),
            ("gpt3-xl", 1.3),
            ("gpt3-2.7b", 2.7),
            ("gpt3-6.7b", 6.7),
            ("gpt3-13b", 13.),
            ("gpt3-175b", 175.),
        ] {
            let ratio = preset(name).expect(name).parameters() as f64 / (billions * 1e9);
            assert!((0.98..1.03).contains(&ratio), "{name}: {ratio}");
        }
    }
}
