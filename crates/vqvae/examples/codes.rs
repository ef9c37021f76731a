//! How fast this crate is, one JSON object a measurement: the first stage's training step, the lookup, and sampling codes of
//! 8 x 8 and 16 x 16 places; random weights.
//!
//! `cargo run --release -p vqvae --example codes -- [train|lookup|exact|plain] [--threads T]`. Of several repetitions the
//! best counts.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use core_layers::{
    autocast::Precision,
    device::{keep_memory, physical_cores, set_threads},
    optim::{self, AdamW, AdamWConfig},
    quantise,
    sampling::{Draws, SamplingConfig},
};
use ndarray::{Array2, Array4};
use pixelcnn::{
    model::{ImageContext, Model},
    sample::{Drawing, Sampler},
};
use serde_json::json;
use tch::{Device, Kind, Tensor, kind::FLOAT_CPU, nn};
use vqvae::{config::preset, model::Autoencoder};

#[derive(Debug, Parser)]
struct Args {
    /// train, lookup, exact or plain; all of them without.
    what: Option<String>,
    /// Only this number of threads.
    #[arg(long)]
    threads: Option<usize>,
    /// Repetitions, of which the best counts.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// Images of a training step.
const BATCH: i64 = 32;
/// Images drawn side by side.
const IMAGES: usize = 16;

fn main() -> Result<()> {
    let args = Args::parse();
    keep_memory();
    let threads = args.threads.map_or_else(|| vec![1, physical_cores()], |it| vec![it]);
    for threads in threads {
        set_threads(threads)?;
        let wanted = |what: &str| args.what.as_deref().is_none_or(|it| it == what);
        if wanted("train") {
            for precision in [Precision::F32, Precision::Bf16] {
                train(&args, threads, precision)?;
            }
        }
        if wanted("lookup") {
            lookup(&args, threads)?;
        }
        for (what, sampler) in [("exact", Sampler::Exact), ("plain", Sampler::Plain)] {
            if wanted(what) {
                sample(&args, threads, what, sampler)?;
            }
        }
    }
    Ok(())
}

/// The best seconds of `repeats` calls of `work`, after one that does not count.
fn best(repeats: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut time = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..repeats).map(|_| time()).fold(f64::INFINITY, f64::min)
}

fn print(bench: &str, engine: &str, precision: Precision, batch: usize, threads: usize, rate: f64) {
    println!(
        "{}",
        json!({
            "bench": bench, "engine": engine, "model": "vqvae", "precision": precision.to_string(), "batch": batch,
            "threads": threads, "images_per_second": rate,
        })
    );
}

/// Forward, backward, `AdamW` and the codebook's step of the preset `photos`.
fn train(args: &Args, threads: usize, precision: Precision) -> Result<()> {
    if precision.validate(Device::Cpu).is_err() {
        return Ok(());
    }
    tch::manual_seed(0);
    let config = preset("photos").context("no preset photos")?.model;
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Autoencoder::new(&vs.root(), &config)?;
    let mut optimiser = AdamW::new(&optim::parameters(&vs), AdamWConfig::default());
    let size = [BATCH, config.height, config.width, config.colours];
    let levels = Tensor::randint(256, size, (Kind::Int64, Device::Cpu)).permute([0, 3, 1, 2]);
    let seconds = best(args.repeats, || {
        for _ in 0..4 {
            optimiser.zero_grad();
            let autocast = precision.autocast(Device::Cpu);
            let (losses, latents) = model.losses(&levels);
            drop(autocast);
            (losses.reconstruction + losses.quantisation).backward();
            optimiser.step(3e-4);
            for (latent, quantiser) in latents.iter().zip(model.quantisers()) {
                quantiser.update(&latent.inputs, &quantise::rows(&latent.quantised.codes));
            }
        }
    });
    print(
        "train-step",
        "chainrule",
        precision,
        BATCH as usize,
        threads,
        4. * BATCH as f64 / seconds,
    );
    Ok(())
}

/// The nearest of 512 codes of 64 numbers, for the 2048 vectors of a batch.
fn lookup(args: &Args, threads: usize) -> Result<()> {
    let config = preset("photos").context("no preset photos")?.model.quantiser;
    let vs = nn::VarStore::new(Device::Cpu);
    let quantiser = quantise::VectorQuantiser::new(&vs.root(), &config)?;
    let xs = Tensor::randn([BATCH * 64, config.width()], FLOAT_CPU);
    let seconds = best(args.repeats, || {
        for _ in 0..20 {
            let _codes = quantiser.nearest(&xs);
        }
    });
    let rate = 20. * BATCH as f64 / seconds;
    print("lookup", "chainrule", Precision::F32, BATCH as usize, threads, rate);
    Ok(())
}

/// Codes of the preset `photos-64`: 8 x 8, then 16 x 16 told them.
fn sample(args: &Args, threads: usize, engine: &str, sampler: Sampler) -> Result<()> {
    tch::manual_seed(0);
    let pipeline = preset("photos-64").context("no preset photos-64")?;
    let mut priors = Vec::new();
    for (level, prior) in pipeline.priors.iter().rev().enumerate() {
        let vs = nn::VarStore::new(Device::Cpu);
        priors.push((Model::new(&vs.root(), &prior.model(&pipeline.model, level, 0))?, vs));
    }
    let count = if sampler == Sampler::Plain { 1 } else { IMAGES };
    let precision = Precision::F32;
    let drawing = Drawing { sampler: Some(sampler), device: Device::Cpu, threads, precision };
    let draws = Draws { config: SamplingConfig::default(), seed: 0, known: 0 };
    let width = pipeline.model.quantiser.width() as usize;
    let seconds = best(args.repeats.min(2), || {
        for (level, (model, _vs)) in priors.iter().enumerate().rev() {
            let mut context = ImageContext::none(count);
            if level == 0 {
                context = context.with_map(Array4::zeros((count, width, 8, 8)));
            }
            let mut symbols = Array2::zeros((count, model.config().image().dims() as usize));
            let drawn = drawing.draw(model, &context, &mut symbols, draws, &|_| {});
            drawn.expect("every sampler serves a Gated PixelCNN");
        }
    });
    print("sample", engine, precision, IMAGES, threads, count as f64 / seconds);
    Ok(())
}
