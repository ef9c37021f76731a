//! `audit` and `info`: what a checkpoint is, and whether it keeps the laws.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use core_layers::{
    ConfigError,
    audit::{self, Law},
    autocast::Precision,
    cli::{self, InfoArgs, ModelArgs},
    plot::{Chart, Scale, Series},
};
use ndarray::Array3;
use serde_json::json;
use tch::{Device, nn};

use super::{load, print_json};
use crate::{
    config::{PRESETS, preset},
    model::{Clips, SoundContext, WaveNet, parameters},
    sample::{CachedEngine, ExactEngine},
    trained::{Trained, Weights},
};

/// Flags of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wavenet audit runs/voice --out receptive-field.png")]
pub struct AuditArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Positions whose causality is proved, spread over a clip longer than the receptive field; 0 takes all.
    #[arg(long, default_value_t = 16)]
    positions: usize,
    /// Seed of the clips that the laws are tried on.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A PNG of how strongly a prediction depends on each sample before it.
    #[arg(long, value_name = "PNG")]
    out: Option<PathBuf>,
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
    args.out.iter().try_for_each(|path| cli::ensure_png("--out", path))?;
    let (trained, device) = load(&args.model)?;
    let model = &trained.model;
    let (laws, seen) = laws(model, device, args)?;
    if let Some(path) = &args.out {
        draw_field(path, &seen, trained.model.sample_rate())?;
    }
    if args.json {
        print_json(&json!({
            "model": "wavenet",
            "laws": audit::to_json(&laws),
            "receptive_field": seen.iter().filter(|&&it| it > 0.).count(),
        }));
    } else {
        for law in &laws {
            println!("{law}");
        }
        if let Some(path) = &args.out {
            println!("{}", path.display());
        }
    }
    audit::ensure_all_hold(&laws, &args.model.model)
}

/// The laws, and how strongly the last sample depends on each one before it, the newest first.
fn laws(model: &WaveNet, device: Device, args: &AuditArgs) -> Result<(Vec<Law>, Vec<f64>)> {
    const ROWS: usize = 3;
    let config = model.config();
    let field = config.receptive_field() as usize;
    let samples = field + 8;
    let clips = Clips { model, samples };
    // every level of every sample is written down to compare distributions
    let short = Clips { model, samples: if config.levels > 4096 { 48 } else { samples } };
    let mut context = SoundContext::none(ROWS);
    if config.speakers > 0 {
        context = context
            .with_speakers((0..ROWS as u32).map(|row| row % config.speakers as u32).collect());
    }
    if config.features > 0 {
        let frames = samples.div_ceil(config.hop as usize);
        let random = |(row, frame, feature): (usize, usize, usize)| {
            core_layers::random::uniform_at(
                args.seed,
                "audit features",
                (row * frames + frame) as u64,
                feature as u64,
            ) as f32
        };
        let all = Array3::from_shape_fn((ROWS, frames, config.features as usize), random);
        context = context.with_features(&all.outer_iter().collect::<Vec<_>>());
    }
    let positions = if args.positions == 0 { usize::MAX } else { args.positions };
    let exact = ExactEngine::new(model, short.samples)?;
    let cached = CachedEngine::new(model, short.samples, device);
    let seen = seen(&clips, &context, args.seed);
    let mut laws = vec![
        audit::causality(&clips, &context, positions, args.seed),
        field_law(&seen, field),
        audit::sums_to_one(&short, &context, args.seed),
        audit::steppers_agree(&short, &exact, &context, args.seed),
        audit::steppers_agree(&short, &cached, &context, args.seed),
        audit::batch_invariance(&exact, &context, args.seed),
        audit::codec_round_trip(&exact, &context, args.seed)?,
    ];
    laws[4].name = "cached steppers give the full pass";
    Ok((laws, seen))
}

/// Influence on the last sample of a clip of those before it, the newest first.
fn seen(clips: &Clips<'_>, context: &SoundContext, seed: u64) -> Vec<f64> {
    let layout = core_layers::Autoregressive::layout(clips);
    let symbols = audit::symbol_tensor(&audit::random_symbols(&layout, 1, seed));
    let one = core_layers::Context::select(context, &[0]);
    let mut strength = audit::influence(clips, &symbols, &one, clips.samples - 1);
    strength.pop(); // itself
    strength.reverse();
    strength
}

fn field_law(seen: &[f64], field: usize) -> Law {
    let furthest = seen.iter().rposition(|&strength| strength > 0.).map_or(0, |delay| delay + 1);
    Law {
        name: "no further than reported",
        figure: furthest.saturating_sub(field) as f64,
        limit: 0.,
        detail: format!(
            "the furthest sample that counts lies {furthest} back, {field} are reported"
        ),
    }
}

fn draw_field(path: &Path, seen: &[f64], rate: u32) -> Result<()> {
    let points = seen.iter().enumerate().filter(|(_, strength)| **strength > 0.);
    let milliseconds = |delay: usize| 1e3 * (delay + 1) as f64 / f64::from(rate);
    let points: Vec<(f64, f64)> = points.map(|(delay, &it)| (milliseconds(delay), it)).collect();
    let chart = Chart {
        title: "what a prediction depends on",
        x_label: "milliseconds back",
        y_label: "sum of |gradient|",
        y_scale: Scale::Log,
    };
    chart.draw(path, &[Series { name: "influence".into(), points }])
}

/// Runs `info`.
pub(super) fn info(args: &InfoArgs) -> Result<()> {
    let mut json = match (&args.model, &args.preset) {
        (_, Some(name)) => {
            let unknown = || ConfigError::one_of("--preset", name, &PRESETS);
            let run = preset(name).ok_or_else(unknown)?;
            let vs = nn::VarStore::new(Device::Cpu);
            let model = WaveNet::new(&vs.root(), &run.model)?;
            let mut json = describe(&model, parameters(&vs));
            json["config"] = serde_json::to_value(run)?;
            json
        }
        (Some(path), None) => {
            let trained = Trained::load(path, Weights::Ema, Device::Cpu)?;
            let about = &trained.about;
            let mut json = describe(&trained.model, parameters(&trained.vs));
            for (name, value) in [
                ("config", serde_json::to_value(&about.run)?),
                ("dataset", json!(about.dataset)),
                ("protocol", json!(about.protocol)),
                ("label_names", json!(about.label_names)),
                ("data_hash", json!(about.data_hash)),
                ("step", json!(about.step)),
                ("valid_nats", json!(about.valid_nats)),
                ("hash", json!(trained.hash)),
            ] {
                json[name] = value;
            }
            json
        }
        (None, None) => bail!("give a model or --preset"),
    };
    if args.json {
        print_json(&json);
        return Ok(());
    }
    let config = json.as_object_mut().and_then(|json| json.remove("config"));
    for (name, value) in json.as_object().into_iter().flatten() {
        println!(
            "{name:<28} {}",
            value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
        );
    }
    println!("{}", serde_json::to_string_pretty(&config)?);
    Ok(())
}

fn describe(model: &WaveNet, parameters: i64) -> serde_json::Value {
    let config = model.config();
    let field = config.receptive_field();
    json!({
        "model": "wavenet",
        "parameters": parameters,
        "live_parameters": parameters,
        "receptive_field": field,
        "receptive_field_milliseconds": 1e3 * field as f64 / f64::from(config.sample_rate),
    })
}
