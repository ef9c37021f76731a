//! `export`: any model as a folder that transformers opens.

use std::{fs, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use core_layers::{ConfigError, checkpoint::Weights, cli, encoded::Encoding};

use crate::formats;

/// Flags of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt export runs/book --out book-hf\n  python -c \"from transformers import AutoModelForCausalLM as M; print(M.from_pretrained('book-hf'))\""
)]
pub struct ExportArgs {
    /// A run, a Hugging Face folder, a .gguf, or a file that quantize wrote.
    model: PathBuf,
    /// Which of a run's weights.
    #[arg(long, value_enum, default_value_t = Weights::Ema)]
    weights: Weights,
    /// The folder to write: config.json, model.safetensors, and the tokenizer's files.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How numbers are written; without it as they are where all are the same, else f32.
    #[arg(long, value_enum)]
    encoding: Option<Plain>,
    /// Write into a folder that holds files; what has another name stays.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Plain {
    F32,
    F16,
    Bf16,
}

/// Runs `export`.
pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let out = &args.out;
    cli::ensure_folder("--out", out)?;
    let is_run = formats::is_run(out);
    ConfigError::ensure(!is_run, "--out", out.display(), "another folder than that of a run")?;
    let is_empty = fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    let may_write = is_empty || args.overwrite;
    ConfigError::ensure(may_write, "--out", out.display(), "new or empty, or --overwrite given")?;
    let encoding = args.encoding.map(|it| match it {
        Plain::F32 => Encoding::F32,
        Plain::F16 => Encoding::F16,
        Plain::Bf16 => Encoding::Bf16,
    });
    formats::export(&formats::open(&args.model, args.weights)?, out, encoding)?;
    println!("{}", out.display());
    Ok(())
}
