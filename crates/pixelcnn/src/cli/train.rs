//! `train`: a preset, a configuration file or a run to be resumed, with flags laid over it.

use anyhow::{Result, ensure};
use clap::Args;
use core_layers::{
    ConfigError,
    overrides::{Overrides, StartArgs},
    run::RunFolder,
    training::{self, Architecture as _, Ending, TrainConfig},
};

use crate::{
    config::{ModelConfig, PRESETS, Run, preset},
    data::{self, DataConfig},
    train::train,
};

/// Flags of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  pixelcnn train --preset digits --num-steps 300 --out runs/digits\n  pixelcnn train --resume runs/digits"
)]
pub struct TrainArgs {
    /// A named run to start from; see `info --preset`.
    #[arg(long, default_value = "digits", conflicts_with_all = ["config", "resume"])]
    preset: String,
    #[command(flatten)]
    start: StartArgs,
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
    args.start.validate()?;
    args.start.resume.iter().try_for_each(|run| training::ensure_opens(run, ModelConfig::NAME))?;
    let mut run = args.start()?;
    if args.start.resume.is_none() {
        let wanted = run.model.image().clone();
        fit_to_data(&mut run)?;
        let shaped = args.start.assigned("model.image.");
        ensure!(
            shaped.is_none() || wanted == *run.model.image(),
            ConfigError::new("--set", shaped.unwrap_or_default(), "what the images are")
        );
    }
    run.validate()?;
    let map = run.model.context_channels();
    let rule = "0: these images come without context maps";
    ConfigError::ensure(map == 0, "model.context_channels", map, rule)?;
    let folder = args.start.folder()?;
    let path = folder.path();
    watch(&run, &folder, args.quiet)?.finished("pixelcnn", path)?;
    println!("{}", path.display());
    Ok(())
}

/// Trains under a progress bar.
pub(super) fn watch(run: &Run, folder: &RunFolder, quiet: bool) -> Result<Ending> {
    training::watch(run.model.kind(), run.train.num_steps, quiet, |stop, report| {
        train(run, folder, stop, report)
    })
}

impl TrainArgs {
    /// The run that the flags describe.
    fn start(&self) -> Result<Run> {
        let named = || {
            preset(&self.preset)
                .ok_or_else(|| ConfigError::one_of("--preset", &self.preset, &PRESETS))
        };
        let base = self.start.base(named)?;
        let data = self.data.apply(base.data.clone())?;
        let train = self.train.apply(base.train.clone())?;
        self.start.run(&base, data, train)
    }
}

/// Takes shape, levels and classes from the images: a preset fits any set.
pub(super) fn fit_to_data(run: &mut Run) -> Result<()> {
    run.data.validate()?;
    let dataset = data::load(&run.data)?;
    let shape = dataset.train.levels.shape().to_vec();
    let image = run.model.image_mut();
    image.height = shape[1] as i64;
    image.width = shape[2] as i64;
    image.colours = shape[3] as i64;
    image.levels = i64::from(dataset.num_levels);
    if let ModelConfig::Gated(config) = &mut run.model
        && config.classes > 0
    {
        config.classes = dataset.label_names.len() as i64;
        if run.data.limit == 0 {
            dataset.ensure_every_class()?;
        }
    }
    Ok(())
}
