//! How fast this crate is, one JSON object a measurement: training steps and samplers; random weights.
//!
//! `cargo run --release -p wavenet --example speak -- [train|exact|fast|cached|plain] [--model NAME] [--batch B]
//! [--threads T]`: each option leaves out what does not match it. Of several repetitions the best counts.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use core_layers::{
    Conditional, Engine, Stepper,
    autocast::Precision,
    device::{keep_memory, physical_cores, set_threads},
    likelihood::nll,
    optim::{self, AdamW, AdamWConfig, Ema},
    plain::Plain,
    sampling::{Draws, SamplingConfig, draw, draw_in_parallel},
};
use ndarray::Array2;
use serde_json::json;
use tch::{Device, Kind, Tensor, nn};
use wavenet::{
    config::preset,
    model::{Clips, SoundContext, WaveNet},
    sample::{CachedEngine, ExactEngine, FastEngine},
};

#[derive(Debug, Parser)]
struct Args {
    /// train, exact, fast, cached or plain; all of them without.
    what: Option<String>,
    /// Only this preset.
    #[arg(long)]
    model: Option<String>,
    /// Only this number of voices.
    #[arg(long)]
    batch: Option<usize>,
    /// Only this number of threads.
    #[arg(long)]
    threads: Option<usize>,
    /// Repetitions, of which the best counts.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// Presets that are measured: 9 layers of 32 channels, 30 of 64, 50 of 32, and 30 of 64 in 16 bits.
const MODELS: [&str; 4] = ["demo", "speech", "ibab", "speech-16bit"];
/// Samples of a measurement.
const SAMPLES: usize = 2000;
/// Samples of a training window.
const WINDOW: usize = 8192;

struct Subject {
    name: &'static str,
    vs: nn::VarStore,
    model: WaveNet,
}

impl Subject {
    fn new(name: &'static str) -> Result<Self> {
        tch::manual_seed(0);
        let mut config = preset(name).with_context(|| format!("no preset {name}"))?.model;
        config.speakers = 0;
        let vs = nn::VarStore::new(Device::Cpu);
        let model = WaveNet::new(&vs.root(), &config)?;
        let output = vs.variables().remove("output.weight");
        tch::no_grad(|| output.map(|mut ws| ws.uniform_(-0.1, 0.1)));
        Ok(Self { name, vs, model })
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    for (what, measure) in [
        ("train", train as fn(&Args) -> Result<()>),
        ("exact", exact),
        ("fast", fast),
        ("cached", cached),
        ("plain", plain),
    ] {
        if args.what.as_deref().is_none_or(|wanted| wanted == what) {
            measure(&args)?;
        }
    }
    Ok(())
}

impl Args {
    /// Subjects and numbers of threads that are wanted at `batch`.
    fn subjects(&self, models: &[&'static str], batch: usize) -> Result<Vec<(Subject, usize)>> {
        let mut subjects = Vec::new();
        for &model in models {
            for threads in [1, 2] {
                if threads <= physical_cores()
                    && self.model.as_deref().is_none_or(|wanted| wanted == model)
                    && self.batch.is_none_or(|wanted| wanted == batch)
                    && self.threads.is_none_or(|wanted| wanted == threads)
                {
                    subjects.push((Subject::new(model)?, threads));
                }
            }
        }
        Ok(subjects)
    }

    /// The least seconds; the first run, which warms up, does not count.
    fn time(&self, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        work()?;
        let mut seconds = f64::INFINITY;
        for _ in 0..self.repeats {
            let start = Instant::now();
            work()?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

fn report(
    (bench, engine): (&str, &str),
    precision: Precision,
    subject: &Subject,
    (batch, threads): (usize, usize),
    rate: f64,
) {
    let sample_rate = f64::from(subject.model.config().sample_rate);
    println!(
        "{}",
        json!({
            "bench": bench, "engine": engine, "model": subject.name, "precision": precision, "batch": batch,
            "threads": threads, "samples_per_second": rate, "real_time_factor": rate / batch as f64 / sample_rate,
        })
    );
}

/// Forward, backward, clipping, `AdamW` and the moving average.
fn train(args: &Args) -> Result<()> {
    keep_memory();
    for batch in [1, 2] {
        for (subject, threads) in args.subjects(&["speech"], batch)? {
            for precision in [Precision::F32, Precision::Bf16] {
                if precision.validate(Device::Cpu).is_err() {
                    continue;
                }
                set_threads(threads)?;
                let weights = optim::parameters(&subject.vs);
                let mut optimiser = AdamW::new(&weights, AdamWConfig::default());
                let mut ema = Ema::new(&weights, 0.999);
                let xs =
                    Tensor::randint(256, [batch as i64, WINDOW as i64], (Kind::Int64, Device::Cpu));
                let clips = Clips { model: &subject.model, samples: WINDOW };
                let seconds = args.time(|| {
                    optimiser.zero_grad();
                    let autocast = precision.autocast(Device::Cpu);
                    let loss = nll(&clips, &xs, &SoundContext::none(batch)).mean(Kind::Float);
                    drop(autocast);
                    loss.backward();
                    optimiser.clip(1.);
                    optimiser.step(1e-4);
                    ema.update(1);
                    loss.double_value(&[]);
                    Ok(())
                })?;
                let rate = (batch * WINDOW) as f64 / seconds;
                report(("train-step", "chainrule"), precision, &subject, (batch, threads), rate);
            }
        }
    }
    Ok(())
}

/// The model's own distribution.
const DRAWS: Draws = Draws {
    config: SamplingConfig { temperature: 1., top_k: 0, top_p: 1., min_p: 0. },
    seed: 0,
    known: 0,
};

/// The exact engine's sampler.
fn exact(args: &Args) -> Result<()> {
    fused(args, "exact", Precision::F32, |model| ExactEngine::new(model, SAMPLES))
}

/// The fast engine's.
fn fast(args: &Args) -> Result<()> {
    fused(args, "fast", Precision::Bf16, |model| FastEngine::new(model, SAMPLES))
}

fn fused<
    E: Engine<Context = SoundContext> + Sync,
    F: core::error::Error + Send + Sync + 'static,
>(
    args: &Args,
    name: &str,
    precision: Precision,
    engine: impl Fn(&WaveNet) -> Result<E, F>,
) -> Result<()> {
    for batch in [1, 4, 16] {
        for (subject, threads) in args.subjects(&MODELS, batch)? {
            let engine = engine(&subject.model)?;
            let mut xs = Array2::zeros((batch, SAMPLES));
            let seconds = args.time(|| {
                draw_in_parallel(
                    &engine,
                    &SoundContext::none(batch),
                    xs.view_mut(),
                    DRAWS,
                    threads,
                    &|_| {},
                );
                Ok(())
            })?;
            report(
                ("sample", name),
                precision,
                &subject,
                (batch, threads),
                (batch * SAMPLES) as f64 / seconds,
            );
        }
    }
    Ok(())
}

/// Queues of tensors.
fn cached(args: &Args) -> Result<()> {
    for batch in [1, 16] {
        for (subject, threads) in args.subjects(&["speech"], batch)? {
            set_threads(threads)?;
            let engine = CachedEngine::new(&subject.model, 300, Device::Cpu);
            let mut xs = Array2::zeros((batch, 300));
            let seconds = args.time(|| {
                let mut stepper = engine.stepper(&SoundContext::none(batch));
                draw(stepper.as_mut(), engine.layout(), xs.view_mut(), 0, DRAWS, &|_| {});
                Ok(())
            })?;
            report(
                ("sample", "cached"),
                Precision::F32,
                &subject,
                (batch, threads),
                (batch * 300) as f64 / seconds,
            );
        }
    }
    Ok(())
}

/// A full pass over the receptive field for every sample.
fn plain(args: &Args) -> Result<()> {
    for (subject, threads) in args.subjects(&["speech"], 1)? {
        set_threads(threads)?;
        let samples = subject.model.config().receptive_field() as usize;
        let clips = Clips { model: &subject.model, samples };
        let engine = Plain::new(&clips, Device::Cpu);
        let mut stepper: Box<dyn Stepper> = engine.stepper(&SoundContext::none(1));
        let mut conditional = Conditional::default();
        let seconds = args.time(|| {
            stepper.next(&mut conditional);
            stepper.feed(&[0]);
            Ok(())
        })?;
        report(("sample", "plain"), Precision::F32, &subject, (1, threads), 1. / seconds);
    }
    Ok(())
}
