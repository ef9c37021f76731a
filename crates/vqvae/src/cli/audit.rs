//! `audit` and `info`: what a run is, and whether its priors keep the laws.

use anyhow::{Result, bail};
use clap::Args;
use core_layers::{
    ConfigError,
    audit::{self, Law},
    autocast::Precision,
    cli::{InfoArgs, ModelArgs},
};
use ndarray::Array4;
use pixelcnn::{config::ImageConfig, model::parameters, sample::laws};
use serde_json::json;
use tch::{Device, nn};

use super::{load_with_priors, print_json};
use crate::{
    config::{PRESETS, Pipeline, preset},
    model::Autoencoder,
    sample::level_context,
    trained::{TrainedPipeline, read_config},
};

/// Flags of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vqvae audit runs/vq")]
pub struct AuditArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Positions whose causality is proved, spread over the codes; 0 takes all.
    #[arg(long, default_value_t = 48)]
    positions: usize,
    /// Seed of the codes that the laws are tried on.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `audit`: an error where a law is broken.
pub(super) fn run(args: &AuditArgs) -> Result<()> {
    ConfigError::ensure(
        args.model.precision == Precision::F32,
        "--precision",
        args.model.precision,
        "f32: an audit holds exact engines to the full pass",
    )?;
    let (trained, device) = load_with_priors(&args.model)?;
    let mut all: Vec<Law> = Vec::new();
    let mut by_level = Vec::new();
    for level in (0..trained.priors.len()).rev() {
        let found = level_laws(&trained, level, device, args)?;
        let ImageConfig { height, width, .. } = trained.priors[level].model.config().image();
        if !args.json {
            println!("prior over {height} x {width} codes");
            for law in &found {
                println!("  {law}");
            }
        }
        by_level.push(json!({"size": [height, width], "laws": audit::to_json(&found)}));
        all.extend(found);
    }
    if args.json {
        print_json(&json!({"model": "vqvae", "priors": by_level}));
    }
    audit::ensure_all_hold(&all, &args.model.model)
}

fn level_laws(
    trained: &TrainedPipeline,
    level: usize,
    device: Device,
    args: &AuditArgs,
) -> Result<Vec<Law>> {
    const ROWS: usize = 3;
    let model = &trained.priors[level].model;
    let classes = model.config().classes() as u32;
    let labels: Option<Vec<u32>> =
        (classes > 0).then(|| (0..ROWS as u32).map(|row| row % classes).collect());
    let config = trained.autoencoder.model.config();
    let above = config.sizes().get(level + 1).map(|&(h, w)| {
        let shape = (ROWS, h as usize, w as usize, config.quantiser.codebooks as usize);
        let mut place = 0;
        Array4::from_shape_simple_fn(shape, || {
            place += 1;
            let u = core_layers::random::uniform_at(args.seed, "audit above", 0, place);
            (u * config.quantiser.codes as f64) as u16
        })
    });
    let context = level_context(trained, level, labels.as_deref(), above.as_ref(), ROWS);
    let positions = if args.positions == 0 { usize::MAX } else { args.positions };
    laws(model, &context, device, positions, args.seed)
}

/// Runs `info`.
pub(super) fn info(args: &InfoArgs) -> Result<()> {
    let pipeline = match (&args.model, &args.preset) {
        (Some(path), _) => read_config(path)?,
        (None, Some(name)) => {
            preset(name).ok_or_else(|| ConfigError::one_of("--preset", name, &PRESETS))?
        }
        (None, None) => bail!("give a run or --preset"),
    };
    pipeline.validate()?;
    let counts = count(&pipeline)?;
    let model = &pipeline.model;
    let bits = (model.codes() as f64) * (model.quantiser.codes as f64).log2();
    let ratio = model.dims() as f64 * (model.levels as f64).log2() / bits;
    if args.json {
        print_json(&json!({
            "model": "vqvae",
            "parameters": counts.iter().map(|(_, count)| count).sum::<i64>(),
            "parts": counts.iter().map(|(name, count)| json!({"name": name, "parameters": count})).collect::<Vec<_>>(),
            "codes": model.sizes(),
            "bits_per_image": bits,
            "config": pipeline,
        }));
        return Ok(());
    }
    println!(
        "vqvae: {} x {} x {} images of {} levels",
        model.height, model.width, model.colours, model.levels
    );
    for (h, w) in model.sizes().iter().rev() {
        println!("  {h} x {w} codes of {}", model.quantiser.codes);
    }
    println!("  {bits:.0} bits an image under even codes, {ratio:.1} times fewer than its pixels");
    for (name, count) in counts {
        println!("  {name:<24} {count:>10} parameters");
    }
    println!("{}", serde_json::to_string_pretty(&pipeline)?);
    Ok(())
}

/// Parameters of each part.
fn count(pipeline: &Pipeline) -> Result<Vec<(String, i64)>> {
    let vs = nn::VarStore::new(Device::Cpu);
    Autoencoder::new(&vs.root(), &pipeline.model)?;
    let mut counts = vec![("autoencoder".to_owned(), parameters(&vs))];
    let levels = pipeline.priors.len();
    for (prior, level) in pipeline.priors.iter().zip((0..levels).rev()) {
        let vs = nn::VarStore::new(Device::Cpu);
        // without classes: how many there are, the images say
        pixelcnn::model::Model::new(&vs.root(), &prior.model(&pipeline.model, level, 0))?;
        let (h, w) = pipeline.model.sizes()[level];
        counts.push((format!("prior over {h} x {w} codes"), parameters(&vs)));
    }
    Ok(counts)
}
