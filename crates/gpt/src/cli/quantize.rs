//! `quantize`: any model in fewer bits, as one file.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use core_layers::{ConfigError, checkpoint::Weights, cli, encoded::Encoding};

use super::print_json;
use crate::{formats, weights::quantise};

/// Flags of `quantize`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt quantize runs/book --to int8 --out book-int8.safetensors\n  gpt generate book-int8.safetensors \"In the beginning\""
)]
pub struct QuantizeArgs {
    /// A run, a Hugging Face folder, a .gguf, or a file that quantize wrote.
    model: PathBuf,
    /// Which of a run's weights.
    #[arg(long, value_enum, default_value_t = Weights::Ema)]
    weights: Weights,
    /// Blocks of the matrices in layers; tables of tokens have 8 bits, norms and biases stay f32.
    #[arg(long, value_enum)]
    to: Blocks,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Encodings of blocks that are written here.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Blocks {
    /// 64 values of 8 bits and a bf16 scale: 8.25 bits a value.
    Int8,
    /// 64 values of 4 bits and a bf16 scale: 4.25 bits a value.
    Int4,
    /// GGML's 32 values of 8 bits and an f16 scale: 8.5 bits a value.
    #[value(name = "q8_0")]
    Q8_0,
    /// GGML's 32 values of 4 bits and an f16 scale: 4.5 bits a value.
    #[value(name = "q4_0")]
    Q4_0,
    /// GGML's 32 values of 4 bits, f16 scale and least value: 5 bits a value.
    #[value(name = "q4_1")]
    Q4_1,
}

impl From<Blocks> for Encoding {
    fn from(blocks: Blocks) -> Self {
        match blocks {
            Blocks::Int8 => Self::Int8,
            Blocks::Int4 => Self::Int4,
            Blocks::Q8_0 => Self::Q8_0,
            Blocks::Q4_0 => Self::Q4_0,
            Blocks::Q4_1 => Self::Q4_1,
        }
    }
}

/// Runs `quantize`.
pub(super) fn run(args: &QuantizeArgs) -> Result<()> {
    let out = &args.out;
    cli::ensure_file("--out", out)?;
    let may_write = args.overwrite || !out.exists();
    ConfigError::ensure(may_write, "--out", out.display(), "a new file, or --overwrite given")?;
    let mut model = formats::open(&args.model, args.weights)?;
    let before = model.weights.bytes();
    model.weights = quantise(&model.weights, args.to.into())?;
    formats::save(out, &model)?;
    let (after, values) = (model.weights.bytes(), model.config.parameters());
    let bits = 8. * after as f64 / values as f64;
    let mut encodings: BTreeMap<&str, usize> = BTreeMap::new();
    for matrix in model.weights.0.values() {
        *encodings.entry(matrix.encoding().name()).or_default() += 1;
    }
    if args.json {
        print_json(&serde_json::json!({
            "file": out,
            "parameters": values,
            "bytes_before": before,
            "bytes": after,
            "bits_per_parameter": bits,
            "tensors": encodings,
        }));
    } else {
        let tensors: Vec<String> =
            encodings.iter().map(|(name, count)| format!("{count} {name}")).collect();
        println!(
            "{}: {before} bytes of weights, now {after}, {bits:.2} bits per parameter; tensors: {}",
            out.display(),
            tensors.join(", ")
        );
    }
    Ok(())
}
