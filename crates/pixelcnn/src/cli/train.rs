//! `train`: a preset, a configuration file or a run to be resumed, with flags laid over it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use core_layers::{
    ConfigError,
    overrides::Overrides,
    run::{CONFIG, Interrupt, Interrupted, Progress, RunFolder},
    training::TrainConfig,
};
use serde_json::Value;

use crate::{
    config::{ModelConfig, PRESETS, Run, preset},
    data::{self, DataConfig},
    train::{Ending, Report, train},
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
    /// A config.json to start from.
    #[arg(long, conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// A run folder to continue, to the bits of an unbroken run.
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Folder of the new run.
    #[arg(long, value_name = "RUN", required_unless_present = "resume", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Delete the run that `--out` holds.
    #[arg(long)]
    overwrite: bool,
    /// Any other field: model.dilations=[1,2,4], train.schedule.decay.floor=0.1.
    #[arg(long, value_name = "FIELD=JSON")]
    set: Vec<String>,
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
    let mut run = args.start()?;
    if args.resume.is_none() {
        let wanted = run.model.image().clone();
        fit_to_data(&mut run)?;
        let is_shape = |line: &String| line.starts_with("model.image.");
        let shaped = args.set.iter().find(|line| is_shape(line));
        ensure!(
            shaped.is_none() || wanted == *run.model.image(),
            ConfigError::new("--set", shaped.map_or("", String::as_str), "what the images are")
        );
    }
    run.validate()?;
    let (folder, path) = match (&args.resume, &args.out) {
        (Some(path), _) => (RunFolder::resume(path)?, path.clone()),
        (None, Some(path)) => (RunFolder::create(path, args.overwrite)?, path.clone()),
        (None, None) => bail!("give --out or --resume"),
    };
    let ending = watch(&run, &folder, args.quiet)?;
    match ending {
        Ending::Finished => {
            println!("{}", path.display());
            Ok(())
        }
        Ending::Stopped { step } => {
            let resume = format!("`pixelcnn train --resume {}`", path.display());
            Err(Interrupted { step, resume }.into())
        }
    }
}

/// Trains under a progress bar.
pub(super) fn watch(run: &Run, folder: &RunFolder, quiet: bool) -> Result<Ending> {
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let mut progress = Progress::new(run.model.kind(), 0, run.train.num_steps, quiet);
    let mut best = String::new();
    let ending = train(run, folder, &|| interrupt.requested(), &mut |report| match report {
        Report::Step { step, bits_per_dim } => {
            progress.update(step, &format!("train {bits_per_dim:.4} bits/dim{best}"));
        }
        Report::Saved { step, valid, is_best } => {
            if is_best {
                best = format!(", valid {:.4}", valid.bits_per_dim);
            }
            progress.update(step, &format!("valid {:.4} bits/dim", valid.bits_per_dim));
        }
        Report::Warning(line) => progress.note(&format!("warning: {line}")),
    })?;
    progress.finish();
    Ok(ending)
}

impl TrainArgs {
    /// The run that the flags describe.
    fn start(&self) -> Result<Run> {
        let base = if let Some(path) = &self.resume {
            read(&path.join(CONFIG))
                .with_context(|| format!("{}: cannot be resumed", path.display()))?
        } else if let Some(path) = &self.config {
            read(path)?
        } else {
            let unknown = || {
                ConfigError::new("--preset", &self.preset, format!("one of {}", PRESETS.join(", ")))
            };
            preset(&self.preset).ok_or_else(unknown)?
        };
        let mut run = Run {
            model: base.model.clone(),
            data: self.data.apply(base.data.clone())?,
            train: self.train.apply(base.train.clone())?,
        };
        for assignment in &self.set {
            run = set(&run, assignment)?;
        }
        if self.resume.is_some() {
            ensure!(
                run.model == base.model && run.data == base.data,
                "a resumed run keeps its model and data"
            );
        }
        Ok(run)
    }
}

fn read(path: &Path) -> Result<Run> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).map_err(|error| {
        ConfigError::new(&path.display().to_string(), error, "a configuration as train writes it")
            .into()
    })
}

/// `run` with one field replaced: `a.b.c=JSON`, where a bare word is a string.
fn set(run: &Run, assignment: &str) -> Result<Run> {
    let (name, text) = split(assignment)?;
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
    let mut json = serde_json::to_value(run)?;
    let pointer = format!("/{}", name.replace('.', "/"));
    let Some(place) = json.pointer_mut(&pointer) else {
        return Err(ConfigError::new(
            "--set",
            name,
            "a field of config.json, such as model.channels",
        )
        .into());
    };
    *place = value;
    serde_json::from_value(json)
        .map_err(|error| ConfigError::new(name, text, error.to_string()).into())
}

fn split(assignment: &str) -> Result<(&str, &str), ConfigError> {
    assignment.split_once('=').ok_or_else(|| ConfigError::new("--set", assignment, "FIELD=JSON"))
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
    }
    Ok(())
}
