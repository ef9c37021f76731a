//! `train`: a preset, a configuration file or a run to be resumed, with flags laid over it; all stages or one.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use core_layers::{
    ConfigError,
    checkpoint::{Weights, write_atomic},
    overrides::{Overrides, StartArgs},
    run::{CONFIG, MODEL, Ticker},
    training::{self, Ending, TrainConfig},
};
use pixelcnn::data::{self, DataConfig, Dataset};
use tch::Device;

use super::{
    demo,
    fidelity::{JUDGE, REJECTOR},
};
use crate::{
    config::{PRESETS, Pipeline, preset},
    data::Codes,
    train::{PriorStage, extract_codes, stage_folder, train_autoencoder, train_classifier},
    trained::{AUTOENCODER, CODES, TrainedAutoencoder, TrainedPipeline, ensure_own, prior_folder},
};

/// A part of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stage {
    /// One after the other; what is done already is left as it is.
    All,
    /// Encoder, codebooks and decoder.
    Autoencoder,
    /// The codes of all images.
    Codes,
    /// The prior of each level of codes.
    Prior,
    /// Two classifiers of the images, 1000 steps each, for `sample --keep` and `fidelity`; not a part of `all`.
    Classifier,
}

/// Flags of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vqvae train --preset demo --out runs/vq\n  vqvae train --resume runs/vq --stage prior"
)]
pub struct TrainArgs {
    /// A named run to start from; see `info --preset`.
    #[arg(long, default_value = "demo", conflicts_with_all = ["config", "resume"])]
    preset: String,
    #[command(flatten)]
    start: StartArgs,
    /// Which part of the pipeline.
    #[arg(long, value_enum, default_value_t = Stage::All)]
    stage: Stage,
    /// Optimiser steps of each prior.
    #[arg(long)]
    prior_steps: Option<u64>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    data: Overrides<DataConfig>,
    #[command(flatten)]
    train: Overrides<TrainConfig>,
}

/// Runs `train`.
pub(super) fn run(args: &TrainArgs) -> Result<()> {
    let begins = matches!(args.stage, Stage::All | Stage::Autoencoder | Stage::Classifier);
    ConfigError::ensure(
        args.start.resume.is_some() || begins,
        "--stage",
        args.stage.to_possible_value().map_or_else(String::new, |it| it.get_name().to_owned()),
        "all, autoencoder or classifier without --resume",
    )?;
    args.start.validate()?;
    args.start.resume.iter().try_for_each(|run| ensure_own(run))?;
    let mut pipeline = args.pipeline()?;
    pipeline.data.validate()?;
    let dataset = data::load(&pipeline.data)?;
    if args.start.resume.is_none() {
        fit_to_data(&mut pipeline, &dataset);
    }
    pipeline.validate()?;
    let told = pipeline.priors.iter().any(|prior| prior.class_conditional);
    if pipeline.data.limit == 0 && (told || args.stage == Stage::Classifier) {
        dataset.ensure_every_class()?;
    }
    let folder = args.start.folder()?;
    let path = folder.path();
    write_atomic(&path.join(CONFIG), serde_json::to_string_pretty(&pipeline)?.as_bytes())?;
    walk(&pipeline, &dataset, path, args.stage, args.quiet)?.finished("vqvae", path)?;
    println!("{}", path.display());
    Ok(())
}

impl TrainArgs {
    /// The run that the flags describe.
    fn pipeline(&self) -> Result<Pipeline> {
        let named = || {
            preset(&self.preset)
                .ok_or_else(|| ConfigError::one_of("--preset", &self.preset, &PRESETS))
        };
        let base: Pipeline = self.start.base(named)?;
        let mut pipeline = self.start.assign(Pipeline {
            data: self.data.apply(base.data.clone())?,
            train: self.train.apply(base.train.clone())?,
            ..base.clone()
        })?;
        if let Some(steps) = self.prior_steps {
            pipeline.prior_train.num_steps = steps;
        }
        // what a machine has is said once, for both
        let TrainConfig { seed, device, threads, .. } = pipeline.train.clone();
        pipeline.prior_train = TrainConfig { seed, device, threads, ..pipeline.prior_train };
        if self.start.resume.is_some() {
            self.start.ensure_kept(&base, &pipeline, &["model", "data"])?;
            let has_codes = self.start.resume.iter().any(|path| path.join(CODES).exists());
            ensure!(
                !has_codes || pipeline.train == base.train,
                "a run that has its codes keeps the training of its autoencoder: other weights would make other codes"
            );
        }
        Ok(pipeline)
    }
}

/// Takes shape and levels from the images: a preset fits any set.
pub(super) fn fit_to_data(pipeline: &mut Pipeline, dataset: &Dataset) {
    let shape = dataset.train.levels.shape();
    let model = &mut pipeline.model;
    [model.height, model.width, model.colours] = [1, 2, 3].map(|axis| shape[axis] as i64);
    model.levels = i64::from(dataset.num_levels);
    if dataset.label_names.is_empty() {
        for prior in &mut pipeline.priors {
            prior.class_conditional = false;
        }
    }
}

/// Walks the stages in the folder of a run.
pub(super) fn walk(
    pipeline: &Pipeline,
    dataset: &Dataset,
    path: &Path,
    stage: Stage,
    quiet: bool,
) -> Result<Ending> {
    let wanted = |part: Stage| stage == Stage::All || stage == part;
    if stage == Stage::Classifier {
        return classifiers(pipeline, dataset, path, quiet);
    }
    if wanted(Stage::Autoencoder) {
        let ending = autoencoder(pipeline, dataset, path, quiet)?;
        if ending != Ending::Finished {
            return Ok(ending);
        }
    }
    if stage == Stage::Autoencoder {
        return Ok(Ending::Finished);
    }
    let place = path.join(AUTOENCODER);
    ensure!(
        place.join(MODEL).is_file(),
        "{}: has no autoencoder yet; go on with --stage autoencoder",
        path.display()
    );
    let device = pipeline.train.device.open()?;
    let trained = TrainedAutoencoder::load(&place, Weights::Ema, device)?;
    let file = path.join(CODES);
    if wanted(Stage::Codes) {
        let images = dataset.train.len() + dataset.valid.len() + dataset.test.len();
        let ticker = Ticker::new("codes", images, quiet);
        extract_codes(&trained, dataset, &file, device, &mut |count| ticker.tick(count))?;
    }
    if !wanted(Stage::Prior) {
        return Ok(Ending::Finished);
    }
    ensure!(file.is_file(), "{}: has no codes yet; go on with --stage codes", path.display());
    let codes = Codes::load(&file, trained.model.config())?;
    for level in (0..pipeline.priors.len()).rev() {
        let ending = prior(pipeline, &trained, &codes, level, path, quiet)?;
        if ending != Ending::Finished {
            return Ok(ending);
        }
    }
    pictures(path)?;
    Ok(Ending::Finished)
}

fn autoencoder(pipeline: &Pipeline, dataset: &Dataset, path: &Path, quiet: bool) -> Result<Ending> {
    let run = pipeline.autoencoder();
    let folder = stage_folder(&path.join(AUTOENCODER))?;
    training::watch("autoencoder", run.train.num_steps, quiet, |stop, report| {
        train_autoencoder(&run, dataset, &folder, stop, report)
    })
}

fn prior(
    pipeline: &Pipeline,
    trained: &TrainedAutoencoder,
    codes: &Codes,
    level: usize,
    path: &Path,
    quiet: bool,
) -> Result<Ending> {
    let name = prior_folder(&pipeline.model, level);
    let stage = PriorStage::new(pipeline, trained, codes, level)?;
    let folder = stage_folder(&path.join(&name))?;
    training::watch(&name, pipeline.prior_train.num_steps, quiet, |stop, report| {
        stage.train(&folder, stop, report)
    })
    .with_context(|| format!("the prior in {}", path.join(&name).display()))
}

/// Two classifiers of different weights and batches: one to reject samples by, one to judge them.
fn classifiers(pipeline: &Pipeline, dataset: &Dataset, path: &Path, quiet: bool) -> Result<Ending> {
    for (name, offset) in [(REJECTOR, 1), (JUDGE, 2)] {
        let TrainConfig { seed, device, threads, .. } = pipeline.train.clone();
        let train = TrainConfig {
            num_steps: 1000,
            learning_rate: 2e-3,
            ema_decay: 0.99,
            seed: seed.wrapping_add(offset),
            device,
            threads,
            ..TrainConfig::default()
        };
        let folder = stage_folder(&path.join(name))?;
        let ending = training::watch(name, train.num_steps, quiet, |stop, report| {
            train_classifier(&pipeline.data, &train, dataset, &folder, stop, report)
        })?;
        if ending != Ending::Finished {
            return Ok(ending);
        }
    }
    Ok(Ending::Finished)
}

/// Leaves what a person wants to see of a finished run: `samples.png` and `codebook.png`.
fn pictures(path: &Path) -> Result<()> {
    let trained = TrainedPipeline::load(path, Weights::Ema, Device::Cpu)?;
    if trained.priors.is_empty() {
        bail!("{}: a prior was not saved", path.display());
    }
    demo::samples(&trained, &path.join("samples.png"))?;
    super::codebook::picture(&trained, path, &path.join("codebook.png"))
}
