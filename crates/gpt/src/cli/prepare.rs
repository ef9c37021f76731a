//! `prepare`: text to a file of tokens that training maps into memory.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use core_layers::{cli::ensure_file, dataset::Split, run::Progress, training::Part as _};
use serde_json::json;

use super::tokenize;
use crate::data::{self, DataConfig};

/// Flags of `prepare`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt prepare text --tokenizer bpe:4096 --out text.tokens\n  gpt train --data text.tokens --out runs/text"
)]
pub struct PrepareArgs {
    /// book, text (see scripts/fetch), a file of text or JSONL, or a folder of such.
    #[arg(value_name = "NAME|PATH")]
    data: String,
    /// bytes, characters, bpe:N (learnt from what trains; auto is bpe:2048), a tokenizer.json or its folder, or a model.
    #[arg(long, value_name = "KIND|PATH", default_value = "auto")]
    tokenizer: String,
    /// Field of each line of JSONL that holds the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// Only the first documents; 0 takes all.
    #[arg(long, default_value_t = 0)]
    limit: usize,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `prepare`.
pub(super) fn run(args: &PrepareArgs) -> Result<()> {
    ensure_file("--out", &args.out)?;
    let mut config = DataConfig {
        data: args.data.clone(),
        tokenizer: args.tokenizer.clone(),
        field: args.field.clone(),
        limit: args.limit,
        ..DataConfig::default()
    };
    config.validate()?;
    // also the tokenizer of a model
    let given = config.tokenizer_path()?.map(tokenize::open).transpose()?;
    if given.is_some() {
        config.tokenizer = "auto".into();
    }
    let mut shown: Option<Progress> = None;
    let dataset = data::prepare(&config, given.as_ref(), &args.out, &mut |done, all| {
        let (done, all) = (done as u64 / 1024, all as u64 / 1024);
        let progress = shown.get_or_insert_with(|| Progress::new("KiB", 0, all, args.quiet));
        progress.update(done, "");
    })?;
    if let Some(progress) = shown {
        progress.finish();
    }
    if args.json {
        let splits = Split::ALL.map(|split| {
            let tokens = dataset.split(split);
            let bytes = tokens.bytes(&dataset.tokenizer, 0..tokens.len());
            let counts = json!({
                "documents": tokens.documents(), "tokens": tokens.targets(), "bytes": bytes,
            });
            (split.name().to_owned(), counts)
        });
        println!(
            "{}",
            json!({
                "dataset": dataset.name,
                "vocabulary": dataset.tokenizer.vocabulary(),
                "tokenizer_hash": dataset.tokenizer.hash(),
                "protocol": dataset.protocol,
                "hash": dataset.hash,
                "splits": splits.into_iter().collect::<serde_json::Map<_, _>>(),
                "file": args.out,
            })
        );
        return Ok(());
    }
    dataset.report.iter().for_each(|line| println!("{line}"));
    println!("{}", args.out.display());
    Ok(())
}
