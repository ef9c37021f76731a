//! `collapse`: why codes. A VAE whose decoder is a `PixelCNN` forgets its latent; a VQ-VAE cannot.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use core_layers::{
    ConfigError,
    checkpoint::Weights,
    cli::ensure_folder,
    plot::{Chart, Series},
    run::{Progress, RunFolder},
    sampling::{Draws, SamplingConfig},
    training::{self, Ending, TrainConfig},
};
use ndarray::{Array2, Array4, Axis, concatenate};
use pixelcnn::{
    data::{self, DataConfig, Dataset, Images, write_sheet},
    sample::Drawing,
};
use serde_json::json;
use tch::Device;

use super::{print_json, train::fit_to_data};
use crate::{
    config::{Pipeline, Reconstruction, preset},
    data::codes_of,
    evaluate::{image_batch, mean, reconstruct},
    model::Vae,
    train::{Terms, stage_folder, terms, train_autoencoder, train_vae},
    trained::{AUTOENCODER, TrainedAutoencoder},
};

/// Flags of `collapse`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vqvae collapse --out runs/collapse --num-steps 600")]
pub struct CollapseArgs {
    /// Folder of the table's pictures.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Delete what an earlier collapse made in `--out`.
    #[arg(long)]
    overwrite: bool,
    /// digits, mnist, or anything else that `train --data` takes.
    #[arg(long, default_value = "digits")]
    data: String,
    /// Optimiser steps of each of the three.
    #[arg(long, default_value_t = 1000)]
    num_steps: u64,
    /// Threads; 0 takes the physical cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// One line of the table.
struct Row {
    name: &'static str,
    reconstruction: f64,
    kl: f64,
    path: Vec<Terms>,
    shown: Array4<u16>,
}

const SHOWN: usize = 12;

/// Runs `collapse`.
pub(super) fn run(args: &CollapseArgs) -> Result<()> {
    ConfigError::ensure(args.num_steps >= 1, "--num-steps", args.num_steps, "at least 1")?;
    ensure_folder("--out", &args.out)?;
    let mut pipeline = preset("demo").context("there is no preset demo")?;
    pipeline.data = DataConfig { data: args.data.clone(), ..pipeline.data };
    let dataset = data::load(&pipeline.data)?;
    fit_to_data(&mut pipeline, &dataset);
    pipeline.model.reconstruction = Reconstruction::Softmax;
    let save_every = args.num_steps.div_ceil(25);
    pipeline.train = TrainConfig {
        num_steps: args.num_steps,
        save_every,
        eval_examples: 500,
        num_samples: 0,
        threads: args.threads,
        ..pipeline.train
    };
    pipeline.validate()?;
    let _folder = RunFolder::create(&args.out, args.overwrite)?; // locked until the end
    let rows = [
        vae(&pipeline, &dataset, false, args.quiet)?,
        vae(&pipeline, &dataset, true, args.quiet)?,
        vq(&pipeline, &dataset, &args.out.join("vqvae"), args.quiet)?,
    ];
    pictures(&args.out, &rows, &dataset)?;
    report(args, &rows, pipeline.model.dims());
    Ok(())
}

fn report(args: &CollapseArgs, rows: &[Row], dims: i64) {
    let bits = |it: &Row| (it.reconstruction + it.kl) / (dims as f64 * std::f64::consts::LN_2);
    if args.json {
        let one = |it: &Row| json!({"name": it.name, "reconstruction_nats": it.reconstruction, "kl_nats": it.kl, "bits_per_dim": bits(it)});
        print_json(&json!({"bound": "upper", "rows": rows.iter().map(one).collect::<Vec<_>>()}));
        return;
    }
    println!("nats of a test image          -log p(x|z)       KL   bound, bits/dim");
    for row in rows {
        println!(
            "  {:<26} {:>10.2} {:>9.2}   {:.3}",
            row.name,
            row.reconstruction,
            row.kl,
            bits(row)
        );
    }
    println!("Made in {}/:", args.out.display());
    println!(
        "  collapse.png  test images; the mean given z; a sample of the PixelCNN given z; VQ-VAE's reconstruction"
    );
    println!("  kl.png        what z says, while they learnt");
}

fn vae(pipeline: &Pipeline, dataset: &Dataset, with_pixelcnn: bool, quiet: bool) -> Result<Row> {
    let name = if with_pixelcnn { "VAE, PixelCNN decoder" } else { "VAE, factorised decoder" };
    let mut bar = Progress::new(name, 0, pipeline.train.num_steps, quiet);
    let mut tick = |step: u64, last: Terms| {
        if step.is_multiple_of(pipeline.train.report_every) {
            bar.update(step, &format!("valid {:.1} + KL {:.2} nats", last.reconstruction, last.kl));
        }
    };
    let train = TrainConfig { learning_rate: 1e-3, ..pipeline.train.clone() };
    let (_vs, vae, path) = train_vae(&pipeline.model, &train, dataset, with_pixelcnn, &mut tick)?;
    bar.finish();
    let last = terms(&vae, &dataset.test, train.num_steps, Device::Cpu);
    let shown = dataset.test.select(&(0..SHOWN.min(dataset.test.len())).collect::<Vec<_>>());
    Ok(Row {
        name,
        reconstruction: last.reconstruction,
        kl: last.kl,
        path,
        shown: given_latent(&vae, &shown)?,
    })
}

/// What a VAE makes of the posterior means of images: the mean of the factorised decoder, a sample of the other.
fn given_latent(vae: &Vae, images: &Images) -> Result<Array4<u16>> {
    let rows: Vec<usize> = (0..images.len()).collect();
    let (z, _) = tch::no_grad(|| vae.posterior(&image_batch(images, &rows, Device::Cpu)));
    if let Some(means) = tch::no_grad(|| vae.means(&z)) {
        return Ok(codes_of(&means));
    }
    let Some((model, context)) = vae.pixelcnn(&z) else { bail!("a decoder of neither kind") };
    let mut symbols = Array2::zeros((images.len(), images.dims()));
    let draws = Draws { config: SamplingConfig::default(), seed: 1, known: 0 };
    Drawing::default().draw(model, &context, &mut symbols, draws, &|_| {})?;
    let levels = symbols.iter().map(|&symbol| symbol as u16).collect();
    Ok(Array4::from_shape_vec(images.levels.raw_dim(), levels)?)
}

fn vq(pipeline: &Pipeline, dataset: &Dataset, path: &Path, quiet: bool) -> Result<Row> {
    let run = pipeline.autoencoder();
    let folder = path.join(AUTOENCODER);
    let ending = training::watch("VQ-VAE", run.train.num_steps, quiet, |stop, report| {
        train_autoencoder(&run, dataset, &stage_folder(&folder)?, stop, report)
    })?;
    if let Ending::Stopped { step } = ending {
        bail!("stopped at step {step}");
    }
    let trained = TrainedAutoencoder::load(&folder, Weights::Ema, Device::Cpu)?;
    let done = reconstruct(&trained.model, &dataset.test, Device::Cpu, &mut |_| {});
    let config = trained.model.config();
    let kl = config.even_prior_nats();
    let shown = SHOWN.min(dataset.test.len());
    let constant = |step| Terms { step, reconstruction: f64::NAN, kl };
    Ok(Row {
        name: "VQ-VAE, even prior",
        reconstruction: mean(&done.losses) * config.dims() as f64,
        kl,
        path: vec![constant(0), constant(run.train.num_steps)],
        shown: done.levels.select(Axis(0), &(0..shown).collect::<Vec<_>>()),
    })
}

fn pictures(out: &Path, rows: &[Row], dataset: &Dataset) -> Result<()> {
    let count = SHOWN.min(dataset.test.len());
    let first = dataset.test.levels.select(Axis(0), &(0..count).collect::<Vec<_>>());
    let mut views = vec![first.view()];
    views.extend(rows.iter().map(|row| row.shown.view()));
    let sheet = concatenate(Axis(0), &views)?;
    write_sheet(&out.join("collapse.png"), sheet.view(), dataset.num_levels, count)?;
    let chart = Chart {
        title: "What the latent says",
        x_label: "optimiser steps",
        y_label: "KL, nats an image",
        ..Chart::default()
    };
    let series: Vec<Series> = rows
        .iter()
        .map(|row| Series {
            name: row.name.into(),
            points: row.path.iter().map(|it| (it.step as f64, it.kl)).collect(),
        })
        .collect();
    chart.draw(&out.join("kl.png"), &series)
}
