use core_layers::{
    encoded::{Encoded, Encoding},
    kernels::exact::Variant,
    random::uniform_at,
};

use super::{FusedEngine, FusedOptions, twin::Twin};
use crate::{
    config::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling},
    sample::Decode as _,
    weights::{Weights, names},
};

/// Three heads on one of keys, widths that fill no vector, an odd vocabulary.
fn llama() -> DecoderConfig {
    DecoderConfig {
        vocabulary: 101,
        context: 300,
        layers: 2,
        d_model: 64,
        heads: 6,
        kv_heads: 2,
        d_head: 10,
        d_ff: 128,
        norm: Norm::RmsNorm,
        norm_epsilon: 1e-5,
        positions: Positions::Rope { theta: 700., scaling: Scaling::None },
        feed_forward: FeedForward::SwiGlu,
        attention: Attention::Dense,
        biases: false,
        tied: true,
        dropout: 0.,
        initial_std: 0.02,
        start: 0,
    }
}

fn gpt() -> DecoderConfig {
    DecoderConfig {
        heads: 2,
        kv_heads: 2,
        d_head: 32,
        norm: Norm::LayerNorm,
        positions: Positions::Learned,
        feed_forward: FeedForward::GeluTanh,
        attention: Attention::Alternating { band: 5 },
        biases: true,
        tied: false,
        ..llama()
    }
}

/// Matrices with an encoding where their rows are whole blocks, everything else in singles.
fn weights(config: &DecoderConfig, encoding: Encoding) -> Weights {
    let of = |(index, (name, (rows, columns))): (usize, (String, (i64, i64)))| {
        let (rows, columns) = (rows as usize, columns as usize);
        let draw = |i: u64| uniform_at(7, "fused", index as u64, i) as f32 - 0.5;
        let scale = if rows == 1 { 0.3 } else { 3. / (columns as f32).sqrt() };
        let centre = if name.contains("norm.weight") { 1. } else { 0. };
        let values: Vec<f32> =
            (0..(rows * columns) as u64).map(|i| centre + scale * draw(i)).collect();
        let is_packed = rows > 1 && encoding.bytes(columns).is_some();
        let encoding = if is_packed { encoding } else { Encoding::F32 };
        let plain = Encoded::from_f32(rows, columns, &values);
        (name, plain.encode(encoding).unwrap())
    };
    Weights(names(config).into_iter().enumerate().map(of).collect())
}

fn engine(
    config: &DecoderConfig,
    weights: &Weights,
    variant: Variant,
    threads: usize,
) -> FusedEngine {
    FusedEngine::new(config, weights, FusedOptions { threads, context: None, variant }).unwrap()
}

fn tokens(count: u64) -> Vec<u32> {
    (0..count).map(|i| (uniform_at(3, "tokens", 0, i) * 101.) as u32).collect()
}

/// Root mean square of the difference over that of the logits, and whether the likeliest tokens are the same.
fn distance(found: &[f32], wanted: &[f64]) -> (f64, bool) {
    let best = |xs: &[f64]| (0..xs.len()).max_by(|&a, &b| xs[a].total_cmp(&xs[b]));
    let found: Vec<f64> = found.iter().copied().map(f64::from).collect();
    let square = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>();
    let error = square(&mut found.iter().zip(wanted).map(|(a, b)| a - b));
    ((error / square(&mut wanted.iter().copied())).sqrt(), best(&found) == best(wanted))
}

fn greatest_distance(
    config: &DecoderConfig,
    encoding: Encoding,
    variant: Variant,
    len: u64,
) -> f64 {
    let weights = weights(config, encoding);
    let engine = engine(config, &weights, variant, 1);
    let mut session = engine.session(1);
    let mut logits = Vec::new();
    let tokens = tokens(len);
    session.feed(0, &tokens, tokens.len(), &mut logits);
    let mut twin = Twin::new(config, &weights);
    let mut greatest = 0f64;
    for (token, found) in tokens.iter().zip(logits.chunks_exact(engine.vocabulary())) {
        greatest = greatest.max(distance(found, &twin.feed(*token)).0);
    }
    greatest
}

#[test]
fn singles_give_the_logits_of_the_formulas() {
    for (name, config) in [
        ("llama", llama()),
        ("gpt", gpt()),
        ("gelu", DecoderConfig { feed_forward: FeedForward::Gelu, ..gpt() }),
        ("multi-query", DecoderConfig { kv_heads: 1, ..llama() }),
    ] {
        for variant in Variant::available() {
            let distance = greatest_distance(&config, Encoding::F32, variant, 9);
            assert!(distance < 2e-6, "{name} on {variant}: {distance}");
        }
    }
}

#[test]
fn integers_give_the_logits_of_the_formulas_up_to_eight_bits_of_activations() {
    for encoding in [Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1, Encoding::Int8, Encoding::Int4]
    {
        let distance = greatest_distance(&llama(), encoding, Variant::available()[0], 9);
        assert!(distance < 0.04, "{encoding}: {distance}");
    }
    for encoding in [Encoding::F16, Encoding::Bf16] {
        let distance = greatest_distance(&gpt(), encoding, Variant::available()[0], 9);
        assert!(distance < 1e-3, "{encoding}: {distance}");
    }
}

#[test]
fn logits_do_not_depend_on_other_rows_on_pieces_nor_on_threads() {
    for (config, encoding) in [(llama(), Encoding::Q4_1), (gpt(), Encoding::F32)] {
        let weights = weights(&config, encoding);
        let all = tokens(280); // more than one stretch of attention
        let mut wanted = Vec::new();
        let one = engine(&config, &weights, Variant::available()[0], 1);
        one.session(1).feed(0, &all, 1, &mut wanted);
        let two = engine(&config, &weights, Variant::available()[0], 2);
        let mut session = two.session(7);
        let mut logits = Vec::new();
        for row in 0..7 {
            session.feed(row, &all[..10 * row + 3], 0, &mut logits);
        }
        assert!(logits.is_empty());
        session.feed(3, &all[33..278], 1, &mut logits);
        session.step(&[6, 3, 0, 1, 2, 4, 5], &[5, all[278], 1, 2, 3, 4, 6], &mut logits);
        session.step(&[1, 3], &[9, all[279]], &mut logits);
        assert_eq!(session.len(3), 280);
        assert_eq!(logits[101..], wanted[..], "{encoding}");
    }
}

#[test]
fn rows_can_be_cut_copied_and_dropped() {
    let config = llama();
    let weights = weights(&config, Encoding::Q8_0);
    let engine = engine(&config, &weights, Variant::available()[0], 1);
    let all = tokens(40);
    let after = |texts: &[u32]| {
        let mut logits = Vec::new();
        engine.session(1).feed(0, texts, 1, &mut logits);
        logits
    };
    let mut session = engine.session(3);
    let mut logits = Vec::new();
    session.feed(0, &all[..20], 0, &mut logits);
    session.feed(1, &all[5..30], 0, &mut logits);
    session.feed(2, &all[9..10], 0, &mut logits);
    session.truncate(0, 17);
    session.gather(&[1, 0, 1]);
    assert_eq!([0, 1, 2].map(|row| session.len(row)), [25, 17, 25]);
    session.step(&[0, 1, 2], &[7, all[17], 8], &mut logits);
    assert_eq!(logits[..101], after(&[&all[5..30], &[7]].concat()));
    assert_eq!(logits[101..202], after(&all[..18]));
    assert_eq!(logits[202..], after(&[&all[5..30], &[8]].concat()));
}

#[test]
fn other_weights_and_impossible_options_are_refused() {
    let config = llama();
    let options = FusedOptions { threads: 1, context: None, variant: Variant::Portable };
    let refusal = |weights: &Weights, options| {
        FusedEngine::new(&config, weights, options).unwrap_err().to_string()
    };
    let good = weights(&config, Encoding::F32);
    let missing = refusal(&weights(&gpt(), Encoding::F32), options);
    assert!(missing.starts_with("tensor \"layers.0.attention.key.weight\""), "{missing}");
    let threads = refusal(&good, FusedOptions { threads: 0, ..options });
    assert_eq!(threads, "threads is 0, but must be 1 to 1024");
    let context = refusal(&good, FusedOptions { context: Some(301), ..options });
    assert_eq!(context, "context is 301, but must be 1 to the model's context of 300");
}
