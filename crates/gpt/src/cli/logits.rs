//! `logits`: what a model says of given tokens, for anyone to compare with.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use core_layers::{
    checkpoint::replace,
    cli::{self, ModelArgs},
    npy::{Npy, write_f32_header},
};
use tch::{Device, Kind, Tensor, no_grad};

use super::engine::{self, EngineArgs};
use crate::{
    config::DecoderConfig,
    formats::{self, Delivered},
    model::Decoder,
};

/// Flags of `logits`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  gpt logits runs/book --tokens ids.npy --out logits.npy\n  gpt logits model.gguf --tokens ids.npy --out fused.npy --engine fused"
)]
pub struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    engine: EngineArgs,
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
    let mut logits = args.of(&delivered, time, device)?;
    let _guard = args.model.precision.autocast(device);
    replace(&args.out, |file| {
        write_f32_header(file, &[rows, time, config.vocabulary as usize])?;
        for row in tokens.chunks(time) {
            logits(row, &mut |values| {
                let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
                file.write_all(&bytes)
            })?;
        }
        Ok(())
    })?;
    println!("{}", args.out.display());
    Ok(())
}

/// Hands on the logits after each of some tokens, a part of them after the other.
type Logits<'m> = Box<dyn FnMut(&[u32], Listener<'_>) -> io::Result<()> + 'm>;
type Listener<'l> = &'l mut dyn FnMut(&[f32]) -> io::Result<()>;

/// Tokens that an engine is given at once.
const CHUNK: usize = 64;

impl LogitsArgs {
    /// What computes the logits of texts of `time` tokens.
    fn of<'m>(&self, delivered: &'m Delivered, time: usize, device: Device) -> Result<Logits<'m>> {
        if let Some(choice) = self.engine.other(&self.model)? {
            let (engine, _) = engine::open(choice, delivered, self.model.threads(), time)?;
            return Ok(Box::new(move |tokens, listener| {
                let (mut session, mut logits) = (engine.session(1), Vec::new());
                tokens.chunks(CHUNK).try_for_each(|part| {
                    session.feed(0, part, part.len(), &mut logits);
                    listener(&logits)
                })
            }));
        }
        let model = Decoder::load(&delivered.config, &delivered.weights, device)
            .with_context(|| self.model.model.display().to_string())?;
        Ok(Box::new(move |tokens, listener| {
            let tokens: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
            let logits =
                no_grad(|| model.forward(&Tensor::from_slice(&tokens).unsqueeze(0), false));
            for place in logits.to_kind(Kind::Float).to_device(Device::Cpu).get(0).split(1, 0) {
                let values: Vec<f32> =
                    Vec::try_from(place.contiguous().view(-1)).expect("a flat vector of floats");
                listener(&values)?;
            }
            Ok(())
        }))
    }
}

/// The tokens of an array file, `[B, T]` in order, each one of the model's; and its axes.
fn tokens(npy: &Npy, config: &DecoderConfig) -> Result<(Vec<u32>, [usize; 2])> {
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
    let tokens = npy.whole_numbers("token", i128::from(config.vocabulary) - 1)?;
    Ok((tokens, [rows, time]))
}
