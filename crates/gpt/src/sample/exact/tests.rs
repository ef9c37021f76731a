//! The engine's laws: one text, one set of bits, however it is read.

use core_layers::{Conditional, encoded::Encoded, random};
use tch::{Device, Tensor};

use super::*;
use crate::{
    config::{Attention, FeedForward, Norm, Positions, Scaling},
    model::Decoder,
    weights::names,
};

/// A small decoder in the manner of GPT-2: banded, with biases, of awkward widths.
pub(crate) fn gpt2() -> DecoderConfig {
    DecoderConfig {
        vocabulary: 261,
        context: 24,
        layers: 2,
        d_model: 36,
        heads: 3,
        kv_heads: 3,
        d_head: 12,
        d_ff: 75,
        norm: Norm::LayerNorm,
        norm_epsilon: 1e-5,
        positions: Positions::Learned,
        feed_forward: FeedForward::GeluTanh,
        attention: Attention::Alternating { band: 5 },
        biases: true,
        tied: true,
        dropout: 0.,
        initial_std: 0.02,
        start: 256,
    }
}

/// A small decoder in the manner of LLaMA: heads that share keys, an odd vocabulary, a head of its own.
pub(crate) fn llama() -> DecoderConfig {
    DecoderConfig {
        heads: 9,
        kv_heads: 3,
        d_head: 4,
        norm: Norm::RmsNorm,
        positions: Positions::Rope { theta: 5e3, scaling: Scaling::None },
        feed_forward: FeedForward::SwiGlu,
        attention: Attention::Dense,
        biases: false,
        tied: false,
        ..gpt2()
    }
}

/// Weights uniform in -0.5..0.5, those of norms around 1.
pub(crate) fn random_weights(config: &DecoderConfig, seed: u64) -> Weights {
    let of = |(index, (name, (rows, columns))): (usize, (String, (i64, i64)))| {
        let mut uniforms = random::generator(seed, "weights", index as u64);
        let centre = if name.contains("norm.weight") { 1. } else { 0. };
        let values: Vec<f32> = (0..rows * columns)
            .map(|_| (random::uniform(&mut uniforms) - 0.5 + centre) as f32)
            .collect();
        (name, Encoded::from_f32(rows as usize, columns as usize, &values))
    };
    Weights(names(config).into_iter().enumerate().map(of).collect())
}

pub(crate) fn random_tokens(config: &DecoderConfig, seed: u64, count: usize) -> Vec<u32> {
    let mut uniforms = random::generator(seed, "tokens", 0);
    let mut token = |_| (random::uniform(&mut uniforms) * config.vocabulary as f64) as u32;
    (0..count).map(&mut token).collect()
}

fn configurations() -> [DecoderConfig; 3] {
    let erf = DecoderConfig { feed_forward: FeedForward::Gelu, biases: false, ..gpt2() };
    [gpt2(), llama(), erf]
}

fn engines(config: &DecoderConfig) -> Vec<ExactEngine> {
    let weights = random_weights(config, 1);
    let of = |variant| ExactEngine::with_variant(config, &weights, variant);
    Variant::available().into_iter().map(of).collect()
}

fn bits(xs: &[f32]) -> Vec<u32> {
    xs.iter().map(|x| x.to_bits()).collect()
}

/// Logits after every token of a text that is read in one go.
fn whole(engine: &ExactEngine, tokens: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    engine.session(1).feed(0, tokens, tokens.len(), &mut logits);
    logits
}

#[test]
fn every_variant_gives_the_same_bits() {
    for config in configurations() {
        let tokens = random_tokens(&config, 2, 24);
        let engines = engines(&config);
        let wanted = whole(&engines[0], &tokens);
        assert!(wanted.iter().all(|it| it.is_finite()));
        for engine in &engines[1..] {
            assert_eq!(bits(&whole(engine, &tokens)), bits(&wanted), "{}", engine.variant);
        }
    }
}

#[test]
fn pieces_steps_and_neighbours_change_no_bit() {
    for config in configurations() {
        let engine = &engines(&config)[0];
        let width = engine.vocabulary();
        let texts: Vec<Vec<u32>> = (0..5).map(|row| random_tokens(&config, row, 24)).collect();
        let alone: Vec<Vec<f32>> = texts.iter().map(|text| whole(engine, text)).collect();
        let mut session = engine.session(5);
        let mut logits = Vec::new();
        for (row, text) in texts.iter().enumerate() {
            // of unequal lengths
            session.feed(row, &text[..2 * row], row, &mut logits);
            assert_eq!(bits(&logits), bits(&alone[row][row * width..2 * row * width]));
        }
        for _ in 0..16 {
            let rows = [3, 0, 4, 1];
            let at = rows.map(|row| session.len(row));
            let tokens: Vec<u32> = rows.iter().zip(at).map(|(&row, at)| texts[row][at]).collect();
            session.step(&rows, &tokens, &mut logits);
            for ((row, at), logits) in rows.into_iter().zip(at).zip(logits.chunks(width)) {
                assert_eq!(bits(logits), bits(&alone[row][at * width..][..width]), "{row} {at}");
            }
        }
    }
}

#[test]
fn what_is_taken_back_is_as_if_it_had_never_been() {
    let config = llama();
    let engine = &engines(&config)[0];
    let (text, other) = (random_tokens(&config, 1, 20), random_tokens(&config, 2, 20));
    let mut session = engine.session(2);
    let mut logits = Vec::new();
    session.feed(0, &text, 0, &mut logits);
    session.feed(1, &other, 0, &mut logits);
    session.truncate(0, 7);
    session.gather(&[1, 0, 0]);
    assert_eq!([0, 1, 2].map(|row| session.len(row)), [20, 7, 7]);
    session.feed(2, &other[..3], 3, &mut logits);
    let whole = whole(engine, &[&text[..7], &other[..3]].concat());
    assert_eq!(bits(&logits), bits(&whole[7 * engine.vocabulary()..]));
    session.feed(1, &text[7..], 1, &mut logits);
    assert_eq!((session.rows(), session.len(1)), (3, 20));
}

#[test]
fn a_prediction_does_not_see_later_tokens_and_a_band_not_far_ones() {
    let mut config = gpt2();
    config.attention = Attention::Alternating { band: 5 };
    let engine = &engines(&config)[0];
    let width = engine.vocabulary();
    let text = random_tokens(&config, 1, 24);
    let before = whole(engine, &text);
    for changed in [3, 11, 23] {
        let mut text = text.clone();
        text[changed] = (text[changed] + 1) % 256;
        let after = whole(engine, &text);
        assert_eq!(bits(&before[..changed * width]), bits(&after[..changed * width]));
        assert_ne!(bits(&before[changed * width..]), bits(&after[changed * width..]));
    }
    // one banded layer sees 5 tokens, its own included
    config.layers = 2;
    let mut weights = random_weights(&config, 1);
    let none = vec![0.; 36 * 36];
    weights.0.insert("layers.0.attention.output.weight".into(), Encoded::from_f32(36, 36, &none));
    let engine = ExactEngine::with_variant(&config, &weights, Variant::Portable);
    let mut changed = text.clone();
    changed[3] = (changed[3] + 1) % 256;
    let (before, after) = (whole(&engine, &text), whole(&engine, &changed));
    assert_ne!(bits(&before[7 * width..8 * width]), bits(&after[7 * width..8 * width]));
    assert_eq!(bits(&before[8 * width..]), bits(&after[8 * width..]));
}

#[test]
fn steppers_see_their_window_beyond_the_context() {
    for config in configurations() {
        let engine = engines(&config)[0].with_length(80);
        let texts: Vec<Vec<u32>> = (0..3).map(|row| random_tokens(&config, row, 80)).collect();
        let mut stepper = engine.stepper(&TextContext::full(3));
        let mut conditional = Conditional::default();
        for k in 0..80 {
            // now and then it is not asked, as for a text that is known
            if k % 7 != 3 && !(40..55).contains(&k) {
                stepper.next(&mut conditional);
                for (row, text) in texts.iter().enumerate() {
                    let seen = window(24, k) - 1;
                    let read = [&[config.start], &text[k - seen..k]].concat();
                    let mut logits = Vec::new();
                    engine.session(1).feed(0, &read, 1, &mut logits);
                    assert_eq!(bits(conditional.row(row)), bits(&logits), "{k} {row}");
                }
            }
            stepper.feed(&texts.iter().map(|text| text[k]).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_bits_are_those_that_written_files_rely_on() {
    let hash = |config: &DecoderConfig| {
        let engine = &engines(config)[0];
        let logits = whole(engine, &random_tokens(config, 3, 24));
        let bytes: Vec<u8> = logits.iter().flat_map(|it| it.to_le_bytes()).collect();
        core_layers::checkpoint::hex(&core_layers::checkpoint::sha256(&bytes)[..8])
    };
    let hashes = configurations().map(|config| hash(&config));
    assert_eq!(hashes, ["802bd01507dd7f55", "b9fee610aa308732", "c93acf90c6ba0302"]);
}

#[test]
#[should_panic(expected = "a row of 25 tokens is longer than the context, 24")]
fn a_row_longer_than_the_context_is_refused() {
    let config = llama();
    whole(&engines(&config)[0], &random_tokens(&config, 1, 25));
}

#[test]
fn the_engine_is_the_decoder_within_1e_4() {
    for config in configurations() {
        let weights = random_weights(&config, 1);
        let decoder = Decoder::load(&config, &weights, Device::Cpu).unwrap();
        let tokens = random_tokens(&config, 2, 24);
        let read: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let read = Tensor::from_slice(&read).unsqueeze(0);
        let logits = tch::no_grad(|| decoder.forward(&read, false)).view(-1);
        let wanted: Vec<f32> = Vec::try_from(logits).unwrap();
        let found = whole(&engines(&config)[0], &tokens);
        let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-4 && found.len() == wanted.len(), "{worst}");
        assert!(wanted.iter().any(|it| it.abs() > 1.), "logits worth comparing");
    }
}
