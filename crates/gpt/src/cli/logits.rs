//! `logits`: what a model says of given tokens, for anyone to compare with.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use core_layers::{
    checkpoint::replace,
    cli::{self, ModelArgs},
    npy::{Npy, write_f32_header},
};
use tch::{Device, Kind, Tensor, no_grad};

use crate::{config::DecoderConfig, formats, model::Decoder};

/// Flags of `logits`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpt logits runs/book --tokens ids.npy --out logits.npy")]
pub struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens, whole numbers [B, T], as the model reads them: nothing is put before them.
    #[arg(long, value_name = "NPY")]
    tokens: PathBuf,
    /// Where the logits after each go, f32 [B, T, V].
    #[arg(long, value_name = "NPY")]
    out: PathBuf,
}

/// Runs `logits`.
pub(super) fn run(args: &LogitsArgs) -> Result<()> {
    cli::ensure_file("--out", &args.out)?;
    let device = args.model.open()?;
    let delivered = formats::open(&args.model.model, args.model.weights)?;
    let config = &delivered.config;
    let (tokens, [rows, time]) = tokens(&Npy::open(&args.tokens)?, config)?;
    let model = Decoder::load(config, &delivered.weights, device)
        .with_context(|| args.model.model.display().to_string())?;
    let _guard = args.model.precision.autocast(device);
    replace(&args.out, |file| {
        write_f32_header(file, &[rows, time, config.vocabulary as usize])?;
        for row in tokens.split(1, 0) {
            let logits = no_grad(|| model.forward(&row, false));
            for place in logits.to_kind(Kind::Float).to_device(Device::Cpu).get(0).split(1, 0) {
                let values: Vec<f32> =
                    Vec::try_from(place.contiguous().view(-1)).expect("a flat vector of floats");
                let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
                file.write_all(&bytes)?;
            }
        }
        Ok(())
    })?;
    println!("{}", args.out.display());
    Ok(())
}

/// The tokens of an array file, `[B, T]`, each one of the model's.
fn tokens(npy: &Npy, config: &DecoderConfig) -> Result<(Tensor, [usize; 2])> {
    let [rows, time] = npy.shape()[..] else {
        anyhow::bail!("{}: its shape is {:?}, but must be [B, T]", npy.name(), npy.shape());
    };
    let fits = rows >= 1 && (1..=config.context).contains(&(time as i64));
    ensure!(
        fits,
        "{}: its shape is [{rows}, {time}], but must be [at least 1, 1 to {}], the model's context",
        npy.name(),
        config.context
    );
    let tokens: Vec<i64> = npy.whole_numbers("token", i128::from(config.vocabulary) - 1)?;
    Ok((Tensor::from_slice(&tokens).view([rows as i64, time as i64]), [rows, time]))
}
