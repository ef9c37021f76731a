//! A trained decoder: weights, tokenizer, and everything that they say about themselves.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
pub use core_layers::checkpoint::Weights;
use core_layers::{
    checkpoint::Checkpoint,
    optim, run,
    training::{self, Architecture as _},
};
use tch::{Device, nn};

use crate::{
    config::{DecoderConfig, Run},
    data::{DataConfig, Dataset},
    formats,
    model::Decoder,
    text::Tokenizer,
};

/// What a checkpoint says of itself. Its validation loss is in nats per token.
pub type About = training::About<DecoderConfig, DataConfig>;

/// Where a checkpoint's metadata holds [`Tokenizer::to_json`].
pub const TOKENIZER: &str = "tokenizer";
/// Where it holds how it is prompted, if it learnt that before: stops and chat template, see [`crate::formats`].
pub const PROMPT: &str = "prompt";
/// Where it holds the configuration of the adapters that were trained, if any were.
pub const LORA: &str = "lora";

/// Before the first step of `run` on `dataset`.
pub(crate) fn about(run: &Run, dataset: &Dataset) -> About {
    About {
        run: run.clone(),
        dataset: dataset.name.clone(),
        protocol: dataset.protocol.clone(),
        label_names: Vec::new(),
        data_hash: dataset.hash.clone(),
        step: 0,
        valid_nats: None,
    }
}

/// A decoder with its weights and its tokenizer, ready to use.
///
/// ```no_run
/// use gpt::{evaluate, trained::{Trained, Weights}};
/// let trained = Trained::open("runs/book".as_ref(), Weights::Ema, tch::Device::Cpu)?;
/// let texts = vec![trained.tokenizer.encode("In the beginning")];
/// let windows = evaluate::windows(&[texts[0].len()], 64, 64);
/// let score = evaluate::score(&trained.decoder, &trained.tokenizer, &texts, &windows, &mut |_| {});
/// println!("{} bits per byte", score.bits_per_byte());
/// # anyhow::Ok(())
/// ```
#[derive(Debug)]
pub struct Trained {
    /// What to call it.
    pub name: String,
    /// The decoder, on the device.
    pub decoder: Decoder,
    /// How its text is cut.
    pub tokenizer: Tokenizer,
    /// What its checkpoint says of itself, where a run of this crate made it.
    pub about: Option<About>,
    /// Which weights were taken: `ema`, `raw`, or `delivered` where nobody says.
    pub weights: &'static str,
}

impl Trained {
    /// Opens any MODEL: a checkpoint or run folder of this crate, a Hugging Face folder, a `.gguf`.
    ///
    /// # Errors
    /// One line on a file that is missing, foreign, corrupt, or does not fit its own configuration.
    pub fn open(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        let file = run::model_file(path);
        match of_training(&file) {
            Some(checkpoint) => Self::of_run(path, &file, &checkpoint, weights, device),
            None => Self::delivered(path, weights, device),
        }
    }

    fn of_run(
        path: &Path,
        file: &Path,
        checkpoint: &Checkpoint,
        weights: Weights,
        device: Device,
    ) -> Result<Self> {
        let about = About::read(checkpoint, file)?;
        let config = &about.run.model;
        checkpoint.ensure_holds(file, config.parameters())?;
        let tokenizer = tokenizer(checkpoint, file)?;
        let mut vs = nn::VarStore::new(device);
        let decoder =
            Decoder::new(&vs.root(), config).with_context(|| file.display().to_string())?;
        let (weights, _) = checkpoint.copy_weights_into(file, weights, &optim::parameters(&vs))?;
        vs.freeze();
        let name = path.file_stem().map_or_else(|| "gpt".into(), |it| it.to_string_lossy().into());
        Ok(Self { name, decoder, tokenizer, about: Some(about), weights: weights.name() })
    }

    fn delivered(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        let delivered = formats::open(path, weights)?;
        delivered.ensure_text()?;
        let decoder = Decoder::load(&delivered.config, &delivered.weights, device)
            .with_context(|| path.display().to_string())?;
        let (name, tokenizer) = (delivered.name, delivered.tokenizer);
        Ok(Self { name, decoder, tokenizer, about: None, weights: "delivered" })
    }
}

/// The checkpoint in a file, if training of this crate wrote it.
fn of_training(file: &Path) -> Option<Checkpoint> {
    let checkpoint = Checkpoint::load(file).ok()?;
    let metadata = &checkpoint.metadata;
    let is_ours = metadata.get("architecture").is_some_and(|it| it == DecoderConfig::NAME);
    (is_ours && metadata.contains_key("about")).then_some(checkpoint)
}

/// What the checkpoint of a run at `path` says of itself, and which weights it has of those that are `wanted`; none of a model
/// from elsewhere.
///
/// # Errors
/// One line on a checkpoint that contradicts itself.
pub(crate) fn about_at(path: &Path, wanted: Weights) -> Result<Option<(About, &'static str)>> {
    let file = run::model_file(path);
    let Some(checkpoint) = of_training(&file) else { return Ok(None) };
    let ema = format!("{}.", Weights::Ema.name());
    let has_ema = checkpoint.tensors.keys().any(|it| it.starts_with(&ema));
    let weights = if has_ema { wanted } else { Weights::Raw };
    Ok(Some((About::read(&checkpoint, &file)?, weights.name())))
}

/// The tokenizer that a checkpoint carries.
fn tokenizer(checkpoint: &Checkpoint, file: &Path) -> Result<Tokenizer> {
    let file = file.display();
    let json = checkpoint.metadata.get(TOKENIZER);
    let json = json.with_context(|| format!("{file}: has no metadata {TOKENIZER:?}"))?;
    Tokenizer::from_json(json).map_err(|error| anyhow!("{file}: its tokenizer {error:#}"))
}
