//! How fast this crate is, one JSON object a measurement: training steps, samplers, codec; random weights.
//!
//! `cargo run --release -p pixelcnn --example bench -- [train|exact|cached|plain|codec] [--model NAME] [--batch B]
//! [--threads T] [--precision P]`: each option leaves out what does not match it.
//!
//! Of several repetitions the best counts. `cpu_ms_per_image` is the time that all threads of the process together had
//! a core, which other work on the machine disturbs less than it disturbs `images_per_second`.
//!
//! `bench table FILE` reads such lines, and those of the PyTorch yardstick, and prints them side by side.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

mod table;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use core_layers::{
    Autoregressive, Conditional, Engine,
    autocast::Precision,
    codec,
    device::{keep_memory, physical_cores, set_threads},
    optim::{self, AdamW, AdamWConfig, Ema},
    plain::Plain,
    sampling::{self, Draws, SamplingConfig},
};
use ndarray::Array2;
use pixelcnn::{
    config::{ImageConfig, ModelConfig, SimpleConfig, preset},
    model::{ImageContext, Model},
    sample::{CachedEngine, ExactEngine},
};
use serde_json::json;
use tch::{Device, Kind, Tensor, nn};

#[derive(Debug, Parser)]
struct Args {
    /// train, exact, cached, plain or codec, all of them without; or table.
    what: Option<String>,
    /// What table reads.
    file: Option<PathBuf>,
    /// Only this model.
    #[arg(long)]
    model: Option<String>,
    /// Only this batch size.
    #[arg(long)]
    batch: Option<usize>,
    /// Only this number of threads.
    #[arg(long)]
    threads: Option<usize>,
    /// Only this precision of training.
    #[arg(long)]
    precision: Option<Precision>,
    /// Repetitions, of which the best counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

/// The models that are measured, by name.
const MODELS: [&str; 8] = [
    "gated-mnist",
    "gated-mnist-classes",
    "photos",
    "photos-logistics",
    "pixelcnn-mnist",
    "pixelcnn-mnist-256",
    "simple-64",
    "digits",
];

fn config(name: &str) -> Result<ModelConfig> {
    let of_preset =
        |name| preset(name).map(|run| run.model).with_context(|| format!("no preset {name}"));
    Ok(match name {
        "gated-mnist-classes" => {
            let mut model = of_preset("gated-mnist")?;
            if let ModelConfig::Gated(config) = &mut model {
                config.classes = 10;
            }
            model
        }
        "pixelcnn-mnist-256" => {
            let mut model = of_preset("pixelcnn-mnist")?;
            if let ModelConfig::Pixelcnn(config) = &mut model {
                config.image.levels = 256;
            }
            model
        }
        "simple-64" => ModelConfig::Simple(SimpleConfig {
            image: ImageConfig::grey(28, 28, 256),
            channels: 64,
            layers: 5,
            kernel_size: 7,
        }),
        name => of_preset(name)?,
    })
}

/// A model of random weights, the head's too.
struct Subject {
    name: &'static str,
    vs: nn::VarStore,
    model: Model,
}

impl Subject {
    fn new(name: &'static str) -> Result<Self> {
        tch::manual_seed(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &config(name)?)?;
        let head = vs.variables().remove("head.weight");
        tch::no_grad(|| head.map(|mut ws| ws.uniform_(-0.1, 0.1)));
        Ok(Self { name, vs, model })
    }

    fn context(&self, rows: usize) -> ImageContext {
        match self.model.config().classes() {
            0 => ImageContext::none(rows),
            classes => {
                ImageContext::labels((0..rows).map(|row| (row as i64 % classes) as u32).collect())
            }
        }
    }

    /// Pictures of `rows` discs, which are about as empty as digits are.
    fn discs(&self, rows: usize) -> Array2<u32> {
        let image = self.model.config().image();
        let (width, colours) = (image.width as usize, image.colours as usize);
        Array2::from_shape_fn((rows, image.dims() as usize), |(row, position)| {
            let (y, x) = (position / colours / width, position / colours % width);
            let centre = (width / 2 + row % 5) as f64 - 2.;
            let distance = (y as f64 - centre).hypot(x as f64 - centre);
            let edge = (width as f64 / 4. - distance).clamp(0., 1.);
            (edge * (image.levels - 1) as f64) as u32
        })
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.what.as_deref() == Some("table") {
        return table::print(args.file.as_deref().context("which file?")?);
    }
    for (what, measure) in [
        ("train", train as fn(&Args) -> Result<()>),
        ("exact", exact),
        ("cached", cached),
        ("plain", plain),
        ("codec", compression),
    ] {
        if args.what.as_deref().is_none_or(|wanted| wanted == what) {
            measure(&args)?;
        }
    }
    Ok(())
}

impl Args {
    fn wants(&self, model: &str, batch: usize, threads: usize) -> bool {
        self.model.as_deref().is_none_or(|wanted| wanted == model)
            && self.batch.is_none_or(|wanted| wanted == batch)
            && self.threads.is_none_or(|wanted| wanted == threads)
    }

    /// Models and numbers of threads that are wanted, of `models` at `batch`.
    fn subjects(&self, models: &[&'static str], batch: usize) -> Result<Vec<(Subject, usize)>> {
        let mut subjects = Vec::new();
        for &model in models {
            for threads in [1, 2] {
                if threads <= physical_cores() && self.wants(model, batch, threads) {
                    subjects.push((Subject::new(model)?, threads));
                }
            }
        }
        Ok(subjects)
    }

    /// The least seconds and the least seconds on a core; the first run, which warms up, does not count.
    fn time(&self, mut work: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
        work()?;
        let (mut seconds, mut on_cores) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..self.repeats {
            let (start, cpu) = (Instant::now(), cpu_seconds()?);
            work()?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
            on_cores = on_cores.min(cpu_seconds()? - cpu);
        }
        Ok((seconds, on_cores))
    }
}

/// Seconds that all threads of this process had a core, in the kernel's steps of 10 ms.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').context("/proc/self/stat has a name")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.)
}

/// What was measured, besides its times.
struct Case<'s> {
    bench: &'s str,
    engine: &'s str,
    model: &'s str,
    precision: Precision,
    batch: usize,
    threads: usize,
}

fn report(case: &Case<'_>, (seconds, on_cores): (f64, f64)) {
    let Case { bench, engine, model, precision, batch, threads } = *case;
    let rate = batch as f64 / seconds;
    let cpu = on_cores * 1e3 / batch as f64;
    println!(
        "{}",
        json!({
            "bench": bench, "engine": engine, "model": model, "precision": precision, "batch": batch, "threads": threads,
            "images_per_second": rate, "cpu_ms_per_image": cpu,
        })
    );
}

/// Forward, backward, clipping, `AdamW` and the moving average.
fn train(args: &Args) -> Result<()> {
    keep_memory();
    let models = ["gated-mnist", "photos", "pixelcnn-mnist-256", "simple-64"];
    for (subject, threads) in args.subjects(&models, 16)? {
        for precision in [Precision::F32, Precision::Bf16] {
            if args.precision.is_some_and(|wanted| wanted != precision)
                || precision.validate(Device::Cpu).is_err()
            {
                continue;
            }
            set_threads(threads)?;
            let weights = optim::parameters(&subject.vs);
            let mut optimiser = AdamW::new(&weights, AdamWConfig::default());
            let mut ema = Ema::new(&weights, 0.999);
            let image = subject.model.config().image();
            let options = (Kind::Int64, Device::Cpu);
            let xs = Tensor::randint(image.levels, [16, image.dims()], options);
            let context = subject.context(16);
            let time = args.time(|| {
                optimiser.zero_grad();
                let autocast = precision.autocast(Device::Cpu);
                let loss = subject.model.loss(&xs, &context);
                drop(autocast);
                loss.backward();
                optimiser.clip(1.);
                optimiser.step(1e-4);
                ema.update(1);
                loss.double_value(&[]);
                Ok(())
            })?;
            let case = Case {
                bench: "train-step",
                engine: "chainrule",
                model: subject.name,
                precision,
                batch: 16,
                threads,
            };
            report(&case, time);
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
    for batch in [1, 4, 16, 64] {
        for (subject, threads) in args.subjects(&MODELS, batch)? {
            let engine = ExactEngine::new(&subject.model)?;
            let context = subject.context(batch);
            let mut xs = Array2::zeros((batch, engine.layout().len()));
            let time = args.time(|| {
                let xs = xs.view_mut();
                sampling::draw_in_parallel(&engine, &context, xs, DRAWS, threads, &|_| ());
                Ok(())
            })?;
            report(&sample("exact", subject.name, batch, threads), time);
        }
    }
    Ok(())
}

/// The sampler that keeps features in tensors.
fn cached(args: &Args) -> Result<()> {
    for (subject, threads) in args.subjects(&MODELS, 16)? {
        let engine = CachedEngine::new(&subject.model, Device::Cpu)?;
        set_threads(threads)?;
        let args = Args { repeats: 1, ..Args::parse_from(["bench"]) };
        let mut xs = Array2::zeros((16, engine.layout().len()));
        let time = args.time(|| {
            let mut stepper = engine.stepper(&subject.context(16));
            sampling::draw(stepper.as_mut(), engine.layout(), xs.view_mut(), 0, DRAWS, &|_| ());
            Ok(())
        })?;
        report(&sample("cached", subject.name, 16, threads), time);
    }
    Ok(())
}

/// The sampler that mirrors the formula, from the time of a few positions.
fn plain(args: &Args) -> Result<()> {
    for (subject, threads) in args.subjects(&MODELS, 16)? {
        set_threads(threads)?;
        let engine = Plain::new(&subject.model, Device::Cpu);
        let mut stepper = engine.stepper(&subject.context(16));
        let mut conditional = Conditional::default();
        let (seconds, on_cores) = args.time(|| {
            stepper.next(&mut conditional);
            stepper.feed(&[0; 16]);
            Ok(())
        })?;
        let positions = subject.model.layout().len() as f64;
        let case = sample("plain", subject.name, 16, threads);
        report(&case, (seconds * positions, on_cores * positions));
    }
    Ok(())
}

fn sample<'s>(engine: &'s str, model: &'s str, batch: usize, threads: usize) -> Case<'s> {
    Case { bench: "sample", engine, model, precision: Precision::F32, batch, threads }
}

/// Compression of as many images as give each thread a stream, both ways.
fn compression(args: &Args) -> Result<()> {
    for (subject, threads) in args.subjects(&["gated-mnist", "digits"], 512)? {
        set_threads(1)?;
        let engine = ExactEngine::new(&subject.model)?;
        let images = subject.discs(512);
        let context = subject.context(512);
        let args = Args { repeats: 1, ..Args::parse_from(["bench"]) };
        let mut streams = Vec::new();
        let time = args.time(|| {
            streams = codec::encode(&engine, &context, images.view(), threads, &|_| ())?;
            Ok(())
        })?;
        let case = |bench| Case { bench, ..sample("exact", subject.name, 512, threads) };
        report(&case("compress"), time);
        let mut restored = Array2::zeros((0, 0));
        let time = args.time(|| {
            restored = codec::decode(&engine, &context, &streams, threads, &|_| ())?;
            Ok(())
        })?;
        anyhow::ensure!(restored == images, "{}: the codec lost something", subject.name);
        report(&case("decompress"), time);
    }
    Ok(())
}
