//! `train`: a preset, a configuration file, a model or a run to be resumed, with flags laid over it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    ConfigError,
    checkpoint::Weights,
    dataset::Split,
    overrides::{Overrides, StartArgs},
    run::RunFolder,
    training::{self, Architecture as _, Ending, TrainConfig},
};

use crate::{
    config::{DecoderConfig, LoraConfig, RUNS, Run, Target, run as preset},
    data::{self, DataConfig},
    formats,
    train::{Origin, train},
};

/// Flags of `train`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt train --preset demo --out runs/book\n  gpt train --resume runs/book\n  gpt train --from runs/book --data letters.txt --lora-rank 8 --out runs/letters"
)]
pub struct TrainArgs {
    /// A named run to start from; see `info --preset`.
    #[arg(long, default_value = "demo", conflicts_with_all = ["config", "resume"])]
    preset: String,
    /// A model whose training goes on, on other text: a run, a Hugging Face folder, a .gguf.
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Train adapters of this rank only, and leave the model's own weights as they are.
    #[arg(long, value_name = "RANK", requires = "from")]
    lora_rank: Option<i64>,
    /// Scale of the adapters, times their rank.
    #[arg(long, requires = "lora_rank", default_value_t = LoraConfig::default().alpha)]
    lora_alpha: f64,
    /// The weights that have adapters.
    #[arg(long, requires = "lora_rank", value_enum, value_delimiter = ',', default_values_t = LoraConfig::default().targets)]
    lora_targets: Vec<Target>,
    #[command(flatten)]
    start: StartArgs,
    /// Show neither progress nor what was made of the text.
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
        .try_for_each(|run| training::ensure_opens(run, DecoderConfig::NAME))?;
    let mut run = args.start()?;
    let mut origin = None;
    if args.start.resume.is_none() {
        let mut start = args.origin(&mut run)?;
        for line in fit_to_data(&mut run, &mut start)? {
            if !args.quiet {
                println!("{line}");
            }
        }
        origin = Some(start);
    }
    run.validate()?;
    let folder = args.start.folder()?;
    let path = folder.path();
    watch(&run, origin.as_ref(), &folder, args.quiet)?.finished("gpt", path)?;
    println!("{}", path.display());
    Ok(())
}

/// Trains under a progress bar.
pub(super) fn watch(
    run: &Run,
    origin: Option<&Origin>,
    folder: &RunFolder,
    quiet: bool,
) -> Result<Ending> {
    training::watch("gpt", run.train.num_steps, quiet, |stop, report| {
        train(run, origin, folder, stop, report)
    })
}

impl TrainArgs {
    /// The run that the flags describe.
    fn start(&self) -> Result<Run> {
        let named = || {
            preset(&self.preset).ok_or_else(|| ConfigError::one_of("--preset", &self.preset, &RUNS))
        };
        let base = self.start.base(named)?;
        let data = self.data.apply(base.data.clone())?;
        let train = self.train.apply(base.train.clone())?;
        self.start.run(&base, data, train)
    }

    /// What it starts from, and its model in `run` where it is one that has learnt before.
    fn origin(&self, run: &mut Run) -> Result<Origin> {
        let Some(path) = &self.from else { return Ok(Origin::default()) };
        let from = formats::open(path, Weights::Ema)?;
        from.ensure_text()?;
        let given = self.start.assigned("model.").filter(|it| !it.starts_with("model.dropout="));
        if let Some(given) = given {
            let rule = "left out beside --from, whose model is taken; all but model.dropout";
            return Err(ConfigError::new("--set", given, rule).into());
        }
        let dropout = run.model.dropout;
        run.model = DecoderConfig { dropout, ..from.config.clone() };
        let lora = self.lora_rank.map(|rank| LoraConfig {
            rank,
            alpha: self.lora_alpha,
            targets: self.lora_targets.clone(),
        });
        lora.iter().try_for_each(LoraConfig::validate)?;
        let name = self.start.out.as_deref().and_then(Path::file_name).unwrap_or_default();
        let prompt = Some(formats::prompt(&from, &name.to_string_lossy())?);
        let (weights, tokenizer) = (Some(from.weights), Some(from.tokenizer));
        Ok(Origin { weights, tokenizer, prompt, lora })
    }
}

/// Takes vocabulary and start from the text where no model has them: a preset fits any set. Returns the data's report.
pub(super) fn fit_to_data(run: &mut Run, origin: &mut Origin) -> Result<Vec<String>> {
    let dataset = match &origin.tokenizer {
        None => data::load(&run.data)?,
        Some(tokenizer) => data::load_for(&run.data, Some(tokenizer))?,
    };
    Split::ALL.into_iter().try_for_each(|split| dataset.ensure_split(split))?;
    let tokens = dataset.tokenizer.vocabulary();
    if origin.weights.is_none() {
        run.model.vocabulary = i64::try_from(tokens).context("tokens are counted in 32 bits")?;
        run.model.start = dataset.tokenizer.end_of_text();
    }
    origin.tokenizer = Some(dataset.tokenizer);
    Ok(dataset.report)
}
