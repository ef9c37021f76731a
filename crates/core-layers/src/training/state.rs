//! What a run carries from step to step, and saves.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use tch::{Tensor, nn};

use super::{About, Architecture, Part, Report, TrainConfig};
use crate::{
    checkpoint::{Checkpoint, Weights, write_atomic},
    optim::{self, AdamW, Ema},
    run::{CONFIG, LAST, MODEL, RunFolder},
};

/// The section of a checkpoint that holds `AdamW`'s moments.
const ADAM: &str = "adam.";
/// Sections of the last state where adapters are trained: these, and the weights that they leave as they are.
const ADAPTER: &str = "adapter.";
const BASE: &str = "base.";

/// A run between two steps: weights, `AdamW`'s moments, the moving average, and what the next checkpoint will say.
#[derive(Debug)]
pub struct TrainState<'r, M, D> {
    folder: &'r RunFolder,
    about: About<M, D>,
    weights: BTreeMap<String, Tensor>,
    optimiser: AdamW,
    ema: Option<Ema>,
    base: Option<BTreeMap<String, Tensor>>, // where `weights` are adapters
    metadata: BTreeMap<String, String>,
}

impl<'r, M: Architecture, D: Part> TrainState<'r, M, D> {
    /// Before the first step of `about.run` on the weights in `vs`.
    pub fn new(folder: &'r RunFolder, vs: &nn::VarStore, about: About<M, D>) -> Self {
        Self::of(folder, optim::parameters(vs), about)
    }

    /// The same where only `adapters` are trained, beside the weights `base`, which are saved to resume from and
    /// otherwise left alone. The weights to use are given to [`TrainState::save_merged`].
    pub fn adapting(
        folder: &'r RunFolder,
        adapters: BTreeMap<String, Tensor>,
        base: BTreeMap<String, Tensor>,
        about: About<M, D>,
    ) -> Self {
        Self { base: Some(base), ..Self::of(folder, adapters, about) }
    }

    fn of(folder: &'r RunFolder, weights: BTreeMap<String, Tensor>, about: About<M, D>) -> Self {
        let config = &about.run.train;
        Self {
            optimiser: AdamW::new(&weights, config.adam()),
            ema: (config.ema_decay > 0.).then(|| Ema::new(&weights, config.ema_decay)),
            base: None,
            metadata: BTreeMap::new(),
            folder,
            about,
            weights,
        }
    }

    /// Every checkpoint will say `text` under `key` of its metadata.
    #[must_use]
    pub fn saying(mut self, key: &str, text: String) -> Self {
        self.metadata.insert(key.into(), text);
        self
    }

    /// What the last save said, or would have said before the first step.
    pub fn about(&self) -> &About<M, D> {
        &self.about
    }

    /// Takes up the last save in the folder, and writes the configuration where there is none. What will keep the bits
    /// from being those of an unbroken run is reported as a warning.
    ///
    /// # Errors
    /// A save that cannot be read, belongs to another model or to other data; a configuration that cannot be written.
    pub fn begin(&mut self, report: &mut dyn FnMut(Report)) -> Result<()> {
        let path = self.folder.file(LAST);
        if path.exists() {
            self.restore(&path, report)?;
        }
        let file = self.folder.file(CONFIG);
        if !file.exists() {
            let config = serde_json::to_string_pretty(&self.about.run)?;
            write_atomic(&file, config.as_bytes())?;
        }
        Ok(())
    }

    fn restore(&mut self, path: &Path, report: &mut dyn FnMut(Report)) -> Result<()> {
        let checkpoint = Checkpoint::load(path)?;
        let about = About::<M, D>::read(&checkpoint, path)?;
        ensure!(
            about.data_hash == self.about.data_hash,
            "{}: was trained on other data: {}, now {}",
            path.display(),
            about.protocol,
            self.about.protocol
        );
        for line in changes(&about.run.train, &self.about.run.train) {
            report(Report::Warning(line));
        }
        match &self.base {
            None => checkpoint.copy_into(path, Weights::Raw.prefix(), &self.weights)?,
            Some(base) => {
                checkpoint.copy_into(path, ADAPTER, &self.weights)?;
                checkpoint.copy_into(path, BASE, base)?;
            }
        }
        checkpoint.copy_into(path, ADAM, &self.optimiser.state())?;
        if let Some(ema) = &self.ema {
            checkpoint.copy_into(path, Weights::Ema.prefix(), ema.tensors())?;
        }
        self.about = About { run: self.about.run.clone(), ..about };
        if self.about.step > 0 {
            report(Report::Resumed { step: self.about.step });
        }
        Ok(())
    }

    /// Forgets the gradients; to be called before the first micro-batch of a step.
    pub fn zero_grad(&mut self) {
        self.optimiser.zero_grad();
    }

    /// Moves weights and average after the gradients of `step`, clipped, at learning rate `rate`. Returns the norm of the
    /// gradient before it was clipped.
    ///
    /// # Errors
    /// A loss that is not finite; nothing was moved then, and the line says where the last good state is.
    pub fn step(&mut self, step: u64, rate: f64, loss: f64) -> Result<f64> {
        ensure!(
            loss.is_finite(),
            "the loss is {loss} at step {step}; the last good state is {}; try a lower learning rate (now {rate})",
            self.last_good()
        );
        let limit = self.about.run.train.clip_norm;
        let norm = self.optimiser.clip(if limit > 0. { limit } else { f64::INFINITY });
        self.optimiser.step(rate);
        if let Some(ema) = &mut self.ema {
            ema.update(step);
        }
        Ok(norm)
    }

    fn last_good(&self) -> String {
        let path = self.folder.file(LAST);
        if path.exists() {
            format!("{} (step {})", path.display(), self.about.step)
        } else {
            "none yet".into()
        }
    }

    /// Exchanges weights and average, where one is kept: before an evaluation, and again after it.
    pub fn swap(&mut self) {
        if let Some(ema) = &mut self.ema {
            ema.swap();
        }
    }

    /// Writes the state after `step` as `last.safetensors`, and its weights as `model.safetensors` where `valid_nats` per
    /// example is the least so far. Returns whether it is.
    ///
    /// # Errors
    /// A file that cannot be written, such as on a full disk; what stood there before still does.
    pub fn save(&mut self, step: u64, valid_nats: f64) -> Result<bool> {
        let weights = self.weights.iter().map(|(name, x)| (name.clone(), x.shallow_clone()));
        self.save_merged(step, valid_nats, &weights.collect())
    }

    /// The same where adapters are trained: `merged` are the weights to use.
    ///
    /// # Errors
    /// As [`TrainState::save`].
    pub fn save_merged(
        &mut self,
        step: u64,
        valid_nats: f64,
        merged: &BTreeMap<String, Tensor>,
    ) -> Result<bool> {
        let is_best = self.about.valid_nats.is_none_or(|best| valid_nats < best);
        self.about.step = step;
        if is_best {
            self.about.valid_nats = Some(valid_nats);
        }
        let checkpoint = self.checkpoint(merged)?;
        if is_best {
            checkpoint.save(&self.folder.file(MODEL)).context("saving the best model")?;
        }
        self.save_last(checkpoint)?;
        Ok(is_best)
    }

    /// Writes the state before the first step, for weights that were not made from the seed: a run that is killed before
    /// its first save is resumed from these. To be called before [`TrainState::begin`].
    ///
    /// # Errors
    /// As [`TrainState::save`].
    pub fn save_start(&self, merged: &BTreeMap<String, Tensor>) -> Result<()> {
        self.save_last(self.checkpoint(merged)?)
    }

    /// Everything that using the weights needs.
    fn checkpoint(&self, merged: &BTreeMap<String, Tensor>) -> Result<Checkpoint> {
        let metadata = self.metadata.clone();
        let mut checkpoint = Checkpoint { metadata, ..Checkpoint::default() };
        self.about.write(&mut checkpoint)?;
        checkpoint.insert_weights(merged, self.ema.as_ref().map(Ema::tensors));
        Ok(checkpoint)
    }

    /// Adds everything that resuming needs.
    fn save_last(&self, mut checkpoint: Checkpoint) -> Result<()> {
        if let Some(base) = &self.base {
            checkpoint.insert(ADAPTER, &self.weights);
            checkpoint.insert(BASE, base);
        }
        checkpoint.insert(ADAM, &self.optimiser.state());
        checkpoint.save(&self.folder.file(LAST)).context("saving the state")
    }
}

/// What changed between a save and its resumption, and shows in the bits.
fn changes(then: &TrainConfig, now: &TrainConfig) -> Vec<String> {
    [
        ("threads", then.threads.to_string(), now.threads.to_string()),
        ("precision", then.precision.to_string(), now.precision.to_string()),
        ("device", then.device.to_string(), now.device.to_string()),
    ]
    .into_iter()
    .filter(|(_, then, now)| then != now)
    .map(|(what, then, now)| {
        format!("{what} was {then}, is {now}: the bits will differ from an unbroken run")
    })
    .collect()
}

#[cfg(test)]
mod tests;
