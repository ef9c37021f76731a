//! How fast a decoder learns, one JSON object a measurement: tokens a second of training steps; random weights.
//!
//! `cargo run --release -p gpt --example learn -- [--model book-gpt2|book-llama] [--precision f32|bf16] [--threads T]
//! [--steps N] [--repeats R]`: 6 layers, 384 wide, 256 tokens of bytes, 12 texts. Of several repetitions the best counts.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use core_layers::{
    autocast::Precision,
    device::{keep_memory, physical_cores, set_threads},
    optim::{self, AdamW, AdamWConfig},
    training::matmul_peak,
};
use gpt::{
    config::{DecoderConfig, preset},
    model::Decoder,
};
use serde_json::json;
use tch::{Device, Kind, Tensor, nn};

#[derive(Debug, Parser)]
struct Args {
    /// Only this preset.
    #[arg(long)]
    model: Option<String>,
    /// Only this arithmetic.
    #[arg(long)]
    precision: Option<Precision>,
    /// Only this number of threads.
    #[arg(long)]
    threads: Option<usize>,
    /// Steps of a repetition.
    #[arg(long, default_value_t = 2)]
    steps: usize,
    /// Repetitions, of which the best counts; one before them warms up.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Texts of a batch.
    #[arg(long, default_value_t = 12)]
    batch: i64,
    /// Tokens of the vocabulary.
    #[arg(long, default_value_t = 257)]
    vocabulary: i64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    keep_memory();
    for model in ["book-gpt2", "book-llama"] {
        for precision in [Precision::F32, Precision::Bf16] {
            for threads in [1, 2] {
                if threads <= physical_cores()
                    && args.model.as_deref().is_none_or(|it| it == model)
                    && args.precision.is_none_or(|it| it == precision)
                    && args.threads.is_none_or(|it| it == threads)
                    && precision.validate(Device::Cpu).is_ok()
                {
                    measure(&args, model, precision, threads)?;
                }
            }
        }
    }
    Ok(())
}

/// Forward, backward, clipping and `AdamW`.
fn measure(args: &Args, model: &str, precision: Precision, threads: usize) -> Result<()> {
    set_threads(threads)?;
    tch::manual_seed(0);
    let config = preset(model).with_context(|| format!("no preset {model}"))?;
    let config = DecoderConfig { vocabulary: args.vocabulary, start: 0, dropout: 0., ..config };
    let vs = nn::VarStore::new(Device::Cpu);
    let decoder = Decoder::new(&vs.root(), &config)?;
    let weights = optim::parameters(&vs);
    let mut optimiser = AdamW::new(&weights, AdamWConfig::default());
    let sizes = [args.batch, config.context + 1];
    let tokens = Tensor::randint(args.vocabulary, sizes, (Kind::Int64, Device::Cpu));
    let mut step = || {
        optimiser.zero_grad();
        let autocast = precision.autocast(Device::Cpu);
        let loss = decoder.log_prob(&tokens, true).mean(Kind::Float).neg();
        drop(autocast);
        loss.backward();
        optimiser.clip(1.);
        optimiser.step(1e-4);
        loss.double_value(&[]) // waits
    };
    step();
    let mut seconds = f64::INFINITY;
    for _ in 0..args.repeats {
        let start = Instant::now();
        for _ in 0..args.steps {
            step();
        }
        seconds = seconds.min(start.elapsed().as_secs_f64() / args.steps as f64);
    }
    let rate = (args.batch * config.context) as f64 / seconds;
    let work = config.describe().training_flops_per_token * rate;
    println!(
        "{}",
        json!({
            "bench": "train-step", "engine": "chainrule", "model": model, "precision": precision,
            "batch": args.batch, "threads": threads, "parameters": config.parameters(),
            "tokens_per_second": rate, "share_of_matmul_peak": work / matmul_peak(Device::Cpu, precision),
        })
    );
    Ok(())
}
