//! `audit` and `info`: what a checkpoint is, and whether it keeps the laws.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use core_layers::{
    Autoregressive, ConfigError, audit,
    autocast::Precision,
    cli::{self, InfoArgs, ModelArgs},
    plot::heat_map,
    random,
};
use ndarray::Array4;
use serde_json::json;
use tch::{Device, nn};

use super::{load, print_json};
use crate::{
    config::{PRESETS, preset},
    model::{Estimator, ImageContext, Model, parameters},
    sample::laws,
    trained::{Trained, Weights},
};

/// Flags of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pixelcnn audit runs/digits --out receptive-field.png")]
pub struct AuditArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Positions whose causality is proved, spread over the image; 0 takes all.
    #[arg(long, default_value_t = 48)]
    positions: usize,
    /// Seed of the images that the laws are tried on.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A PNG of what the middle pixel depends on.
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
    let positions = if args.positions == 0 { usize::MAX } else { args.positions };
    let laws = laws(model, &context(model, 3, args.seed), device, positions, args.seed)?;
    let field = ReceptiveField::measure(model, args.seed);
    if let Some(path) = &args.out {
        field.draw(path)?;
    }
    if args.json {
        print_json(&json!({
            "model": model.config().kind(),
            "laws": audit::to_json(&laws),
            "seen_percent": field.seen_percent,
            "blind_spot_percent": field.blind_percent,
            "attention_layers": field.attention_layers,
        }));
    } else {
        for law in &laws {
            println!("{law}");
        }
        println!("{field}");
        if let Some(path) = &args.out {
            println!("{}", path.display());
        }
    }
    audit::ensure_all_hold(&laws, &args.model.model)
}

/// Labels in turn and maps of random numbers in -1..1, for a model that is conditioned on them.
fn context(model: &Model, rows: usize, seed: u64) -> ImageContext {
    let context = match model.config().classes() as u32 {
        0 => ImageContext::none(rows),
        classes => ImageContext::labels((0..rows as u32).map(|row| row % classes).collect()),
    };
    let shape = match model.estimator() {
        Estimator::Convolutional(model) => model.context_shape(),
        _ => None,
    };
    let Some([channels, height, width]) = shape else { return context };
    let mut map = Array4::zeros((rows, channels, height, width));
    for (place, value) in map.iter_mut().enumerate() {
        *value = 2. * random::uniform_at(seed, "audit map", 0, place as u64) as f32 - 1.;
    }
    context.with_map(map)
}

/// What the middle value of an image depends on, by gradient.
pub(super) struct ReceptiveField {
    rows: usize,
    columns: usize,
    centre: (usize, usize),
    strength: Vec<f64>, // by pixel
    /// Share of earlier pixels that it depends on.
    pub(super) seen_percent: f64,
    /// Share of the pixels within its reach that it does not depend on.
    pub(super) blind_percent: f64,
    /// Layers of attention: with one, every earlier pixel is within reach.
    attention_layers: i64,
}

impl ReceptiveField {
    pub(super) fn measure(model: &Model, seed: u64) -> Self {
        let image = model.config().image();
        let (rows, columns, colours) =
            (image.height as usize, image.width as usize, image.colours as usize);
        let centre = (rows / 2, columns / 2);
        let layout = model.layout();
        let position = (centre.0 * columns + centre.1) * colours;
        let draw = layout.order.iter().position(|&it| it as usize == position).unwrap_or(0);
        let symbols = audit::symbol_tensor(&audit::random_symbols(&layout, 1, seed));
        let context = context(model, 1, seed);
        let by_value = audit::influence(model, &symbols, &context, draw);
        let strength: Vec<f64> = by_value.chunks(colours).map(|pixel| pixel.iter().sum()).collect();
        let earlier: Vec<usize> =
            layout.order[..draw].iter().map(|&it| it as usize / colours).collect();
        let seen: Vec<usize> =
            earlier.iter().copied().filter(|&pixel| strength[pixel] > 0.).collect();
        let attention_layers = model.config().attention_layers();
        let reach = Reach::of(&seen, columns, centre);
        let is_within = |pixel: &usize| attention_layers > 0 || reach.holds(*pixel, columns);
        let within: Vec<usize> = earlier.iter().copied().filter(is_within).collect();
        let blind = within.iter().filter(|&&pixel| strength[pixel] == 0.).count();
        Self {
            rows,
            columns,
            centre,
            seen_percent: 100. * seen.len() as f64 / earlier.len().max(1) as f64,
            blind_percent: 100. * blind as f64 / within.len().max(1) as f64,
            attention_layers,
            strength,
        }
    }

    pub(super) fn draw(&self, path: &Path) -> Result<()> {
        let title = format!("what the marked pixel depends on ({:.1} % blind)", self.blind_percent);
        heat_map(path, &title, (self.rows, self.columns), &self.strength, Some(self.centre))
    }
}

impl std::fmt::Display for ReceptiveField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the pixel at row {}, column {} depends on {:.1} % of earlier pixels; blind spot {:.1} % of the pixels within its reach",
            self.centre.0, self.centre.1, self.seen_percent, self.blind_percent
        )?;
        if self.attention_layers > 0 {
            f.write_str(", which by attention are all of them")?;
        }
        Ok(())
    }
}

/// The least box around what is seen.
struct Reach {
    top: usize,
    left: usize,
    right: usize,
}

impl Reach {
    fn of(seen: &[usize], columns: usize, centre: (usize, usize)) -> Self {
        let row = |pixel: &usize| pixel / columns;
        let column = |pixel: &usize| pixel % columns;
        Self {
            top: seen.iter().map(row).min().unwrap_or(centre.0),
            left: seen.iter().map(column).min().unwrap_or(centre.1),
            right: seen.iter().map(column).max().unwrap_or(centre.1),
        }
    }

    fn holds(&self, pixel: usize, columns: usize) -> bool {
        pixel / columns >= self.top && (self.left..=self.right).contains(&(pixel % columns))
    }
}

/// Runs `info`.
pub(super) fn info(args: &InfoArgs) -> Result<()> {
    let mut json = match (&args.model, &args.preset) {
        (_, Some(name)) => {
            let unknown = || ConfigError::one_of("--preset", name, &PRESETS);
            let run = preset(name).ok_or_else(unknown)?;
            let vs = nn::VarStore::new(Device::Cpu);
            let model = Model::new(&vs.root(), &run.model)?;
            json!({
                "model": run.model.kind(),
                "parameters": parameters(&vs),
                "live_parameters": model.live_parameters(&vs),
                "attention_layers": run.model.attention_layers(),
                "config": run,
            })
        }
        (Some(path), None) => {
            let trained = Trained::load(path, Weights::Ema, Device::Cpu)?;
            let about = &trained.about;
            json!({
                "model": about.run.model.kind(),
                "parameters": parameters(&trained.vs),
                "live_parameters": trained.model.live_parameters(&trained.vs),
                "attention_layers": about.run.model.attention_layers(),
                "config": about.run,
                "dataset": about.dataset,
                "protocol": about.protocol,
                "label_names": about.label_names,
                "data_hash": about.data_hash,
                "step": about.step,
                "valid_nats": about.valid_nats,
                "hash": trained.hash,
            })
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
            "{name:<16} {}",
            value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
        );
    }
    println!("{}", serde_json::to_string_pretty(&config)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GatedConfig, ImageConfig, ModelConfig};

    /// What the middle pixel of 12 x 12 sees through one block, and attention after every so many.
    fn field(attention_every: i64) -> Result<ReceptiveField> {
        tch::manual_seed(2);
        let config = GatedConfig {
            channels: 8,
            dilations: vec![1],
            attention_every,
            context_channels: 1,
            ..GatedConfig::new(ImageConfig::grey(12, 12, 4))
        };
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &ModelConfig::Gated(config))?;
        for (name, mut tensor) in core_layers::optim::parameters(&vs) {
            if name.starts_with("head") {
                tch::no_grad(|| {
                    let _ = tensor.normal_(0., 1.);
                });
            }
        }
        Ok(ReceptiveField::measure(&model, 1))
    }

    #[test]
    fn attention_sees_all_and_is_blind_to_nothing() -> Result<()> {
        let (plain, attentive) = (field(0)?, field(1)?);
        assert!(plain.seen_percent < 50., "{plain}");
        assert_eq!((attentive.seen_percent, attentive.blind_percent), (100., 0.), "{attentive}");
        assert!(attentive.to_string().ends_with("by attention are all of them"), "{attentive}");
        Ok(())
    }
}
