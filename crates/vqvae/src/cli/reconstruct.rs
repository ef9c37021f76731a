//! `reconstruct`: images beside what their codes keep of them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use core_layers::{
    ConfigError,
    cli::{ModelArgs, ensure_file, ensure_png},
    dataset::Split,
};
use ndarray::Array4;
use pixelcnn::data::{self, Images, write_npy, write_sheet};
use serde_json::json;

use super::print_json;
use crate::{
    config::VqVaeConfig,
    evaluate::{self, mean},
    train::pairs,
    trained::TrainedPipeline,
};

/// Flags of `reconstruct`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae reconstruct runs/vq --split test --count 16 --out back.png"
)]
pub struct ReconstructArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Pictures of the model's size, instead of a split of the run's data.
    #[arg(value_name = "PNG")]
    images: Vec<PathBuf>,
    /// Which images of the run's data.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// How many of them.
    #[arg(long, default_value_t = 16)]
    count: usize,
    /// A PNG: a row of images, and under it what came back.
    #[arg(long, value_name = "PNG")]
    out: PathBuf,
    /// What came back as an array `[count, height, width, colours]`.
    #[arg(long, value_name = "NPY")]
    npy: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `reconstruct`.
pub(super) fn run(args: &ReconstructArgs) -> Result<()> {
    ConfigError::ensure((1..=4096).contains(&args.count), "--count", args.count, "1 to 4096")?;
    ensure_png("--out", &args.out)?;
    args.npy.iter().try_for_each(|path| ensure_file("--npy", path))?;
    let device = args.model.open()?;
    let path = &args.model.model;
    let trained = TrainedPipeline::load_autoencoder(path, args.model.weights, device)?;
    let model = &trained.autoencoder.model;
    let images = if args.images.is_empty() {
        let dataset = data::load(&trained.pipeline.data)?;
        let all = dataset.split(args.split);
        all.select(&(0..args.count.min(all.len())).collect::<Vec<_>>())
    } else {
        read(model.config(), &args.images)?
    };
    let done = evaluate::reconstruct(model, &images, device, &mut |_| {});
    let levels = model.config().levels as u32;
    let sheet = pairs(&images.levels, &done.levels, images.len());
    write_sheet(&args.out, sheet.view(), levels, images.len())?;
    if let Some(path) = &args.npy {
        write_npy(path, done.levels.view())?;
    }
    if args.json {
        print_json(&json!({
            "file": args.out,
            "examples": images.len(),
            "reconstruction": mean(&done.losses),
            "psnr_db": done.psnr(),
        }));
    } else {
        println!("{}: {} images, {:.2} dB", args.out.display(), images.len(), done.psnr());
    }
    Ok(())
}

/// Pictures of a model's size and levels.
pub(super) fn read(config: &VqVaeConfig, paths: &[PathBuf]) -> Result<Images> {
    let shape = [config.height, config.width, config.colours].map(|size| size as usize);
    let mut all = Vec::new();
    let mut names = Vec::new();
    for path in paths {
        let levels = data::read_image_of(path, config.levels as u32, shape, "")?;
        all.extend(levels);
        names.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    let levels = Array4::from_shape_vec((paths.len(), shape[0], shape[1], shape[2]), all)?;
    Ok(Images { names, ..Images::new(levels, None) })
}
