//! `import`: any model as a run of this crate, from which training can go on.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use core_layers::{checkpoint::Weights, cli, run::RunFolder};

use crate::formats;

/// Flags of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt import model.gguf --out runs/imported\n  gpt train --from runs/imported --data letters.txt --out runs/letters"
)]
pub struct ImportArgs {
    /// A Hugging Face folder, a .gguf, a file that quantize wrote, or a run.
    model: PathBuf,
    /// Which of a run's weights.
    #[arg(long, value_enum, default_value_t = Weights::Ema)]
    weights: Weights,
    /// The run folder to write; its weights are f32.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Delete the run that the folder holds.
    #[arg(long)]
    overwrite: bool,
}

/// Runs `import`.
pub(super) fn run(args: &ImportArgs) -> Result<()> {
    cli::ensure_folder("--out", &args.out)?;
    let model = formats::open(&args.model, args.weights)?;
    let folder = RunFolder::create(&args.out, args.overwrite)?;
    formats::save_run(&folder, &model)?;
    println!("{}", args.out.display());
    Ok(())
}
