//! `compress` and `decompress`: any file to a `.chr` file and back, without loss.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use core_layers::{
    ConfigError,
    checkpoint::write_atomic,
    cli::{self, DecompressArgs, ModelArgs},
    device::DeviceChoice,
    run::Ticker,
};

use super::rivals;
use crate::{
    formats::{self, Delivered},
    sample::{
        ExactEngine,
        codec::{self, TextCodec},
    },
};

/// Flags of `compress`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt compress runs/book README.md --out readme.chr --rivals\n  gpt decompress runs/book readme.chr --out restored"
)]
pub struct CompressArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Any file; a model of bytes takes every one, others what their tokens can spell.
    file: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "CHR")]
    out: PathBuf,
    /// Compress with xz -9 and zstd -19 too.
    #[arg(long)]
    rivals: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// A model as the exact engine runs it.
pub(super) struct Exact {
    pub(super) delivered: Delivered,
    pub(super) engine: ExactEngine,
    hash: String,
    threads: usize,
}

impl Exact {
    /// Opens a model for the exact engine.
    pub(super) fn open(args: &ModelArgs) -> Result<Self> {
        ConfigError::ensure(
            args.device == DeviceChoice::Cpu,
            "--device",
            args.device,
            "cpu, on which alone every bit is defined",
        )?;
        args.open()?;
        let delivered = formats::open(&args.model, args.weights)?;
        delivered.ensure_text()?;
        let Delivered { config, weights, tokenizer, .. } = &delivered;
        let engine = ExactEngine::new(config, weights)?;
        let hash = codec::hash(config, weights, tokenizer);
        Ok(Self { engine, hash, delivered, threads: args.threads() })
    }

    fn codec(&self) -> TextCodec<'_> {
        let tokenizer = &self.delivered.tokenizer;
        TextCodec { engine: &self.engine, tokenizer, hash: &self.hash, threads: self.threads }
    }
}

/// Runs `compress`.
pub(super) fn run(args: &CompressArgs) -> Result<()> {
    cli::ensure_file("--out", &args.out)?;
    cli::ensure_apart("--out", &args.out, &[&args.file])?;
    let name = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| name.to_string())?;
    let exact = Exact::open(&args.model)?;
    let spelled = exact.codec().spell(&args.file, &bytes)?;
    let ticker = Ticker::new("compress", spelled.tokens.len(), args.quiet || args.json);
    let started = std::time::Instant::now();
    let file = exact.codec().compress(&spelled, &|count| ticker.tick(count))?;
    let seconds = started.elapsed().as_secs_f64();
    drop(ticker);
    write_atomic(&args.out, &file)?;
    let mut rivals = Vec::new();
    if args.rivals {
        rivals = vec![("xz -9", rivals::xz(&bytes)?), ("zstd -19", rivals::zstd(&bytes)?)];
    }
    let bits = |size: usize| 8. * size as f64 / bytes.len().max(1) as f64;
    if args.json {
        let rivals = rivals.iter().map(|(name, size)| {
            serde_json::json!({"name": name, "bytes": size, "bits_per_byte": bits(*size)})
        });
        println!(
            "{}",
            serde_json::json!({
                "file": args.out,
                "bytes": file.len(),
                "original_bytes": bytes.len(),
                "tokens": spelled.tokens.len(),
                "bits_per_byte": bits(file.len()),
                "tokens_per_second": spelled.tokens.len() as f64 / seconds,
                "rivals": rivals.collect::<Vec<_>>(),
            })
        );
        return Ok(());
    }
    let line = |name: &dyn std::fmt::Display, size: usize| {
        println!("{name:<24} {size:>10} bytes  {:.4} bits per byte", bits(size));
    };
    line(&args.out.display(), file.len());
    for (name, size) in &rivals {
        line(name, *size);
    }
    println!(
        "{:<24} {:>10} bytes  {}",
        name,
        bytes.len(),
        cli::counted(spelled.tokens.len(), "token")
    );
    Ok(())
}

/// Runs `decompress`.
pub(super) fn decompress(args: &DecompressArgs) -> Result<()> {
    cli::ensure_folder("--out", &args.out)?;
    let exact = Exact::open(&args.model)?;
    let (name, bytes) = args.restore(|bytes| {
        let codec = exact.codec();
        let ticker = Ticker::new("decompress", codec.tokens(bytes)?, args.quiet);
        codec.decompress(bytes, &|count| ticker.tick(count))
    })?;
    let path = args.out.join(Path::new(&name));
    write_atomic(&path, &bytes)?;
    println!("{}", path.display());
    Ok(())
}
