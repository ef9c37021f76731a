//! `sample` and `complete`: pictures from the priors and the decoder.

use anyhow::Result;
use clap::Args;
use core_layers::{
    ConfigError,
    cli::{ModelArgs, label},
    run::Ticker,
    sampling::Draws,
};
use ndarray::{Array4, Axis, concatenate, s};
use pixelcnn::{
    cli::{DrawArgs, GivenArgs},
    data::Images,
    evaluate::{draw_classes, posterior_of_prefix},
    sample::Drawing,
};
use tch::Device;

use super::{
    fidelity::{REJECTOR, classifier, reject},
    load_with_priors,
};
use crate::{
    evaluate,
    sample::{Given, Request, decode, draw_codes, known_codes},
    trained::TrainedPipeline,
};

/// Flags of `sample`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae sample runs/vq --count 20 --class 3 --temperature 0.9 --out threes.png"
)]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    draw: DrawArgs,
    /// Share of the samples of each class that is kept, the likeliest by the run's classifier; needs
    /// `train --stage classifier`.
    #[arg(long, default_value_t = 1.)]
    keep: f64,
}

/// Runs `sample`.
pub(super) fn run(args: &SampleArgs) -> Result<()> {
    let draw = &args.draw;
    draw.validate()?;
    let share = args.keep > 0. && args.keep <= 1.;
    ConfigError::ensure(share, "--keep", args.keep, "above 0 and at most 1")?;
    let (trained, device) = load_with_priors(&args.model)?;
    let (labels, columns) = labels(draw, &trained)?;
    let images = match labels {
        Some(labels) if args.keep < 1. => {
            // an image in every 1 / keep is shown
            let rejector = classifier(&args.model.model, REJECTOR, device)?;
            let each = (1. / args.keep).round() as usize;
            let tried: Vec<u32> =
                labels.iter().flat_map(|&label| std::iter::repeat_n(label, each)).collect();
            let request = Request { count: tried.len(), labels: Some(tried.clone()), given: None };
            let images = pictures(draw, &trained, &request, device, &args.model)?;
            reject(&rejector, images, &tried, &labels, device)
        }
        labels => {
            ConfigError::ensure(
                args.keep >= 1.,
                "--keep",
                args.keep,
                "1 for priors without classes",
            )?;
            pictures(
                draw,
                &trained,
                &Request { count: draw.count, labels, given: None },
                device,
                &args.model,
            )?
        }
    };
    draw.write(&images, &images, num_levels(&trained), columns)
}

/// Classes drawn from `p(class | given rows)` by the prior of the top level.
fn likely_classes(
    trained: &TrainedPipeline,
    codes: &[Array4<u16>],
    rows: usize,
    draw: &DrawArgs,
    device: Device,
) -> Vec<u32> {
    let top = codes.len() - 1;
    let known = known_codes(trained, top, rows);
    let posterior =
        posterior_of_prefix(&trained.priors[top].model, codes[top].view(), known, device);
    draw_classes(&posterior, draw.count, draw.seed)
}

/// The class of each image, and how many images fill a row of the sheet.
fn labels(draw: &DrawArgs, trained: &TrainedPipeline) -> Result<(Option<Vec<u32>>, usize)> {
    let names = trained.classes();
    let square = (draw.count as f64).sqrt().ceil() as usize;
    if let Some(text) = &draw.class {
        let class = label("--class", "classes", text, names, names.len() as u32)?;
        return Ok((Some(vec![class; draw.count]), square));
    }
    if names.is_empty() {
        return Ok((None, square));
    }
    let each = draw.count.div_ceil(names.len());
    Ok((Some((0..draw.count).map(|i| (i / each) as u32).collect()), each))
}

/// Levels of a value.
fn num_levels(trained: &TrainedPipeline) -> u32 {
    trained.autoencoder.model.config().levels as u32
}

/// Draws codes and decodes them: levels `[B, H, W, C]`.
fn pictures(
    draw: &DrawArgs,
    trained: &TrainedPipeline,
    request: &Request<'_>,
    device: Device,
    model: &ModelArgs,
) -> Result<Array4<u16>> {
    let draws = Draws { config: draw.config, seed: draw.seed, known: 0 };
    let total = request.count * trained.autoencoder.model.config().codes() as usize;
    let ticker = Ticker::new("draw", total, draw.quiet);
    let (threads, precision) = (model.threads(), model.precision);
    let drawing = Drawing { sampler: draw.sampler, device, threads, precision };
    let codes = draw_codes(trained, request, &drawing, draws, &|count| ticker.tick(count))?;
    Ok(decode(trained, &codes))
}

/// Flags of `complete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae complete runs/vq --image three.png --rows 4 --count 8 --out completions.png\n  vqvae complete runs/vq --image samples.npy --index 2 --rows 4 --out completions.png"
)]
pub struct CompleteArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    given: GivenArgs,
    /// Rows of pixels that are given; codes that cover them wholly are kept, and the pixels pasted back.
    #[arg(long)]
    rows: usize,
    #[command(flatten)]
    draw: DrawArgs,
}

/// Runs `complete`.
pub(super) fn complete(args: &CompleteArgs) -> Result<()> {
    args.draw.validate()?;
    let (trained, device) = load_with_priors(&args.model)?;
    let config = trained.autoencoder.model.config().clone();
    let rule = format!("0 to {}", config.height);
    ConfigError::ensure(args.rows <= config.height as usize, "--rows", args.rows, &rule)?;
    let shape = [config.height, config.width, config.colours].map(|size| size as usize);
    let given = args.given.read(shape, config.levels as u32)?;
    let image = Images::new(given, None);
    let completed = endings(&trained, &image, args.rows, &args.draw, device, &args.model)?;
    let mut known = image.levels.clone();
    known.slice_mut(s![.., args.rows.., .., ..]).fill((config.levels / 2) as u16);
    let shown = concatenate(Axis(0), &[known.view(), completed.view()])?;
    args.draw.write(&completed, &shown, num_levels(&trained), shown.len_of(Axis(0)))
}

/// Endings of the one picture `image` of which `rows` rows are given.
///
/// What is not given is hidden from the encoder: it sees the last given row down to the bottom.
fn endings(
    trained: &TrainedPipeline,
    image: &Images,
    rows: usize,
    draw: &DrawArgs,
    device: Device,
    model: &ModelArgs,
) -> Result<Array4<u16>> {
    let mut visible = image.clone();
    let height = image.levels.len_of(Axis(1));
    for row in rows..height {
        let from = image.levels.index_axis(Axis(1), rows.saturating_sub(1)).to_owned();
        visible.levels.index_axis_mut(Axis(1), row).assign(&from);
    }
    let codes = evaluate::encode(&trained.autoencoder.model, &visible, device, &mut |_| {});
    let labels = match (&draw.class, trained.classes().len()) {
        (None, classes) if classes > 0 => Some(likely_classes(trained, &codes, rows, draw, device)),
        _ => labels(draw, trained)?.0,
    };
    let given = Some(Given { codes: &codes, rows });
    let mut completed =
        pictures(draw, trained, &Request { count: draw.count, labels, given }, device, model)?;
    for mut one in completed.outer_iter_mut() {
        one.slice_mut(s![..rows, .., ..]).assign(&image.levels.slice(s![0, ..rows, .., ..]));
    }
    Ok(completed)
}
