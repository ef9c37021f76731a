//! Tokens a second of the exact engine on one core, and its share of the core's fused multiply-adds, with random weights.
//! Seconds are those of the thread, so that a busy machine tells much the same.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use core_layers::{
    Conditional, Engine as _,
    categorical::Categorical,
    encoded::Encoded,
    kernels::exact::{Kernel, Variant},
    random,
};
use gpt::{
    config::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling},
    model::TextContext,
    sample::{Decode as _, ExactEngine},
    weights::{Weights, names},
};

fn main() {
    let kernel = Kernel::new(Variant::available()[0], 16);
    let steps = 2_000_000;
    let peak = best(5, || kernel.run_at_peak(steps)) / 1e9;
    println!("{}: registers only {peak:.1} GFLOP/s", kernel.variant());
    let small = decoder(4, 128, 4, 257);
    let middle = decoder(6, 384, 6, 257);
    let subwords = DecoderConfig { kv_heads: 3, d_ff: 1536, ..decoder(30, 576, 9, 49152) };
    for (name, config) in [
        ("bytes, 4 layers, 128 wide", small),
        ("bytes, 6 layers, 384 wide", middle),
        ("SmolLM2-135M", subwords),
    ] {
        let engine = ExactEngine::new(&config, &random_weights(&config)).expect("a variant");
        for rows in [1, 4, 8, 16] {
            let speed = best(3, || steps_of(&engine, rows));
            report(&format!("{name}, {rows} rows"), speed, &config, peak);
        }
        let prefill = best(3, || prefill(&engine));
        report(&format!("{name}, prefill of 256"), prefill, &config, peak);
    }
    for levels in [257, 49152] {
        let logits: Vec<f32> = (0..levels).map(|i| (i % 97) as f32 * 0.1).collect();
        let mut categorical = Categorical::default();
        let mut counts = Vec::new();
        let speed = best(3, || {
            for _ in 0..200 {
                categorical.set(&logits);
                categorical.frequencies(30, &mut counts);
            }
            200.
        });
        println!("frequencies of {levels} levels: {:.1} us", 1e6 / speed);
    }
}

/// Greatest of some measurements of `work`, which returns how much it did, in things a second.
fn best(count: usize, mut work: impl FnMut() -> f64) -> f64 {
    let mut one = || {
        let start = seconds();
        let done = work();
        done / (seconds() - start)
    };
    (0..count).map(|_| one()).fold(0., f64::max)
}

/// Seconds that this thread has run, by Linux's account of it.
fn seconds() -> f64 {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says");
    let nanoseconds = line.split(' ').next().and_then(|it| it.parse::<f64>().ok());
    nanoseconds.expect("nanoseconds stand first") / 1e9
}

fn report(name: &str, speed: f64, config: &DecoderConfig, peak: f64) {
    // multiply-adds of weights but embeddings that are looked up, and of attention over half of 256 positions
    let tables = if config.tied { 0 } else { config.vocabulary * config.d_model };
    let weights = config.parameters() - tables;
    let attention = config.layers * 2 * 128 * config.d_query();
    let flop = 2. * (weights + attention) as f64;
    let share = 100. * speed * flop / 1e9 / peak;
    println!("{name:<40} {speed:>9.0} tokens/s {share:>4.0} % of the peak");
}

/// Tokens drawn from position 0 to 256 of `rows` texts.
fn steps_of(engine: &ExactEngine, rows: usize) -> f64 {
    let length = if engine.vocabulary() > 1000 { 32 } else { 256 };
    let engine = engine.with_length(length);
    let mut stepper = engine.stepper(&TextContext::full(rows));
    let mut conditional = Conditional::default();
    for k in 0..length as u32 {
        stepper.next(&mut conditional);
        stepper.feed(&vec![k % 256; rows]);
    }
    (rows * length) as f64
}

fn prefill(engine: &ExactEngine) -> f64 {
    let tokens: Vec<u32> = (0..256).collect();
    engine.session(1).feed(0, &tokens, 1, &mut Vec::new());
    256.
}

fn decoder(layers: i64, d_model: i64, heads: i64, vocabulary: i64) -> DecoderConfig {
    DecoderConfig {
        vocabulary,
        context: 256,
        layers,
        d_model,
        heads,
        kv_heads: heads,
        d_head: d_model / heads,
        d_ff: d_model * 8 / 3,
        norm: Norm::RmsNorm,
        norm_epsilon: 1e-5,
        positions: Positions::Rope { theta: 1e4, scaling: Scaling::None },
        feed_forward: FeedForward::SwiGlu,
        attention: Attention::Dense,
        biases: false,
        tied: true,
        dropout: 0.,
        initial_std: 0.02,
        start: 0,
    }
}

fn random_weights(config: &DecoderConfig) -> Weights {
    let of = |(index, (name, (rows, columns))): (usize, (String, (i64, i64)))| {
        let mut uniforms = random::generator(1, "weights", index as u64);
        let values: Vec<f32> = (0..rows * columns)
            .map(|_| random::uniform(&mut uniforms) as f32 * 0.1 - 0.05)
            .collect();
        (name, Encoded::from_f32(rows as usize, columns as usize, &values))
    };
    Weights(names(config).into_iter().enumerate().map(of).collect())
}
