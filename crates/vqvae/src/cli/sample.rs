//! `sample` and `complete`: pictures from the priors and the decoder.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use core_layers::{
    ConfigError,
    cli::{ModelArgs, ensure_file, label},
    run::Ticker,
    sampling::{Draws, SamplingConfig},
};
use ndarray::{Array4, Axis, concatenate, s};
use pixelcnn::{
    data::{Images, write_npy, write_sheet},
    sample::{Drawing, Sampler},
};
use tch::Device;

use super::{fidelity::reject, load_with_priors, reconstruct::read};
use crate::{
    evaluate,
    sample::{Given, Request, decode, draw_codes},
    trained::TrainedPipeline,
};

/// What drawing commands share.
#[derive(Debug, Args)]
pub(super) struct DrawArgs {
    /// Images to draw.
    #[arg(long, default_value_t = 16)]
    count: usize,
    /// A class, by number or name; without it all are drawn in turn.
    #[arg(long)]
    class: Option<String>,
    /// A PNG of all the images.
    #[arg(long, value_name = "PNG", required_unless_present = "npy")]
    out: Option<PathBuf>,
    /// The levels as an array `[count, height, width, colours]`.
    #[arg(long, value_name = "NPY")]
    npy: Option<PathBuf>,
    #[command(flatten)]
    config: SamplingConfig,
    /// Seed; one gives the same codes for any batch, threads and sampler, up to rounding between samplers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How codes are drawn [default: exact on the CPU, cached elsewhere].
    #[arg(long, value_enum)]
    sampler: Option<Sampler>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

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
    let (labels, columns) = draw.labels(&trained)?;
    let threads = args.model.threads();
    let images = match labels {
        Some(labels) if args.keep < 1. => {
            // an image in every 1 / keep is shown
            let each = (1. / args.keep).round() as usize;
            let tried: Vec<u32> =
                labels.iter().flat_map(|&label| std::iter::repeat_n(label, each)).collect();
            let request = Request { count: tried.len(), labels: Some(tried.clone()), given: None };
            let images = draw.run(&trained, &request, device, threads)?;
            reject(&args.model.model, images, &tried, &labels, device)?
        }
        labels => {
            ConfigError::ensure(
                args.keep >= 1.,
                "--keep",
                args.keep,
                "1 for priors without classes",
            )?;
            draw.run(
                &trained,
                &Request { count: draw.count, labels, given: None },
                device,
                threads,
            )?
        }
    };
    draw.write(&trained, &images, &images, columns)
}

impl DrawArgs {
    fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        self.out.iter().try_for_each(|path| ensure_file("--out", path))?;
        self.npy.iter().try_for_each(|path| ensure_file("--npy", path))?;
        let fits = (1..=1 << 16).contains(&self.count);
        ConfigError::ensure(fits, "--count", self.count, "1 to 65536")
    }

    /// The class of each image, and how many images fill a row of the sheet.
    fn labels(&self, trained: &TrainedPipeline) -> Result<(Option<Vec<u32>>, usize)> {
        let names = trained.classes();
        let square = (self.count as f64).sqrt().ceil() as usize;
        if let Some(text) = &self.class {
            let class = label("--class", "classes", text, names, names.len() as u32)?;
            return Ok((Some(vec![class; self.count]), square));
        }
        if names.is_empty() {
            return Ok((None, square));
        }
        let each = self.count.div_ceil(names.len());
        Ok((Some((0..self.count).map(|i| (i / each) as u32).collect()), each))
    }

    /// Draws codes and decodes them: levels `[B, H, W, C]`.
    fn run(
        &self,
        trained: &TrainedPipeline,
        request: &Request<'_>,
        device: Device,
        threads: usize,
    ) -> Result<Array4<u16>> {
        let draws = Draws { config: self.config, seed: self.seed, known: 0 };
        let total = request.count * trained.autoencoder.model.config().codes() as usize;
        let ticker = Ticker::new("draw", total, self.quiet);
        let drawing = Drawing {
            sampler: self.sampler,
            device,
            threads,
            precision: core_layers::autocast::Precision::F32,
        };
        let codes = draw_codes(trained, request, &drawing, draws, &|count| ticker.tick(count))?;
        Ok(decode(trained, &codes))
    }

    fn write(
        &self,
        trained: &TrainedPipeline,
        drawn: &Array4<u16>,
        shown: &Array4<u16>,
        columns: usize,
    ) -> Result<()> {
        let levels = trained.autoencoder.model.config().levels as u32;
        if let Some(path) = &self.out {
            write_sheet(path, shown.view(), levels, columns)?;
            println!("{}", path.display());
        }
        if let Some(path) = &self.npy {
            write_npy(path, drawn.view())?;
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// Flags of `complete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae complete runs/vq --image three.png --rows 4 --count 8 --out completions.png"
)]
pub struct CompleteArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The image whose top is given.
    #[arg(long, value_name = "PNG")]
    image: PathBuf,
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
    let image = read(&config, std::slice::from_ref(&args.image))?;
    let completed = endings(&trained, &image, args.rows, &args.draw, device, args.model.threads())?;
    let mut known = image.levels.clone();
    known.slice_mut(s![.., args.rows.., .., ..]).fill((config.levels / 2) as u16);
    let shown = concatenate(Axis(0), &[known.view(), completed.view()])?;
    args.draw.write(&trained, &completed, &shown, shown.len_of(Axis(0)))
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
    threads: usize,
) -> Result<Array4<u16>> {
    let mut visible = image.clone();
    let height = image.levels.len_of(Axis(1));
    for row in rows..height {
        let from = image.levels.index_axis(Axis(1), rows.saturating_sub(1)).to_owned();
        visible.levels.index_axis_mut(Axis(1), row).assign(&from);
    }
    let codes = evaluate::encode(&trained.autoencoder.model, &visible, device, &mut |_| {});
    let (labels, _) = draw.labels(trained)?;
    let given = Some(Given { codes: &codes, rows });
    let mut completed =
        draw.run(trained, &Request { count: draw.count, labels, given }, device, threads)?;
    for mut one in completed.outer_iter_mut() {
        one.slice_mut(s![..rows, .., ..]).assign(&image.levels.slice(s![0, ..rows, .., ..]));
    }
    Ok(completed)
}
