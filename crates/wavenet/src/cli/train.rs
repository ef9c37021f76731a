//! `train`: a preset, a configuration file or a run to be resumed, with flags laid over it.

use anyhow::Result;
use clap::Args;
use core_layers::{
    ConfigError,
    dataset::Split,
    overrides::{Overrides, StartArgs},
    run::RunFolder,
    training::{self, Architecture as _, Ending, TrainConfig},
};

use crate::{
    config::{PRESETS, Run, WaveNetConfig, preset},
    data::{self, DataConfig},
    train::train,
};

/// Flags of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  wavenet train --preset demo --out runs/voice\n  wavenet train --resume runs/voice"
)]
pub struct TrainArgs {
    /// A named run to start from; see `info --preset`.
    #[arg(long, default_value = "demo", conflicts_with_all = ["config", "resume"])]
    preset: String,
    #[command(flatten)]
    start: StartArgs,
    /// Show neither progress nor what was made of the recordings.
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
    args.start
        .resume
        .iter()
        .try_for_each(|run| training::ensure_opens(run, WaveNetConfig::NAME))?;
    let mut run = args.start()?;
    if args.start.resume.is_none() {
        for line in fit_to_data(&mut run)? {
            if !args.quiet {
                println!("{line}");
            }
        }
    }
    run.validate()?;
    let folder = args.start.folder()?;
    let path = folder.path();
    watch(&run, &folder, args.quiet)?.finished("wavenet", path)?;
    println!("{}", path.display());
    Ok(())
}

/// Trains under a progress bar.
pub(super) fn watch(run: &Run, folder: &RunFolder, quiet: bool) -> Result<Ending> {
    training::watch("wavenet", run.train.num_steps, quiet, |stop, report| {
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
        let mut data = self.data.apply(base.data.clone())?;
        if data.data != base.data.data && data.speakers == base.data.speakers {
            data.speakers.clear(); // those of a preset's own set
        }
        let train = self.train.apply(base.train.clone())?;
        self.start.run(&base, data, train)
    }
}

/// Takes rate, levels, speakers and features from the sound: a preset fits any set. Returns the data's report.
pub(super) fn fit_to_data(run: &mut Run) -> Result<Vec<String>> {
    run.data.validate()?;
    let dataset = data::load(&run.data)?;
    Split::ALL.into_iter().try_for_each(|split| dataset.ensure_split(split))?;
    let model = &mut run.model;
    model.sample_rate = dataset.sample_rate;
    model.levels = i64::from(dataset.num_levels);
    if model.speakers > 0 {
        model.speakers = dataset.speakers.len() as i64;
    }
    (model.features, model.hop) = (dataset.num_features as i64, dataset.hop as i64);
    if model.features > 0 && model.condition_channels == 0 {
        model.condition_channels = 32;
    }
    Ok(dataset.report)
}
