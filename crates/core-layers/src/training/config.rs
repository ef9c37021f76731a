//! How a model is trained.

use clap::Args;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::{
    ConfigError,
    autocast::Precision,
    device::{DeviceChoice, keep_memory, physical_cores, set_threads},
    optim::AdamWConfig,
    schedule::Schedule,
};

/// The training of a run. Units are in the names; a number of steps counts optimiser steps.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimiser steps.
    #[arg(long)]
    pub num_steps: u64,
    /// Examples per step.
    #[arg(long)]
    pub batch_size: usize,
    /// Parts that a batch is cut into to save memory; the gradient is that of the whole.
    #[arg(long)]
    pub micro_batches: usize,
    /// AdamW's peak learning rate.
    #[arg(long)]
    pub learning_rate: f64,
    /// How the rate rises and falls; in config.json and --set only.
    #[arg(skip)]
    pub schedule: Schedule,
    /// AdamW's decoupled weight decay.
    #[arg(long)]
    pub weight_decay: f64,
    /// Decay of AdamW's mean of gradients a step.
    #[arg(long)]
    pub beta1: f64,
    /// Decay of AdamW's mean of squared gradients a step.
    #[arg(long)]
    pub beta2: f64,
    /// What keeps AdamW's division finite.
    #[arg(long)]
    pub epsilon: f64,
    /// Greatest norm of the gradient; 0 does not clip.
    #[arg(long)]
    pub clip_norm: f64,
    /// Weight of the mean square of log Z in the loss of a text model, which keeps its logits from drifting; 0 for none.
    #[arg(long)]
    pub z_loss: f64,
    /// Decay of the weights' moving average, which evaluation and sampling use; 0 for none.
    #[arg(long)]
    pub ema_decay: f64,
    /// Steps between two reports of the training loss.
    #[arg(long)]
    pub report_every: u64,
    /// Steps between two evaluations and saves.
    #[arg(long)]
    pub save_every: u64,
    /// Validation examples per evaluation; 0 takes all.
    #[arg(long, alias = "eval-images")]
    #[serde(alias = "eval_images")] // its name while images were all there was
    pub eval_examples: usize,
    /// Samples drawn at each save; 0 for none.
    #[arg(long)]
    pub num_samples: usize,
    /// Seed of weights, batches, noise and samples.
    #[arg(long)]
    pub seed: u64,
    /// cpu, cuda, cuda:N or auto.
    #[arg(long)]
    pub device: DeviceChoice,
    /// Threads; 0 takes the physical cores.
    #[arg(long)]
    pub threads: usize,
    /// Arithmetic of convolutions and matrix products in training: f32 or bf16.
    #[arg(long)]
    pub precision: Precision,
}

impl Default for TrainConfig {
    fn default() -> Self {
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = AdamWConfig::default();
        Self {
            num_steps: 1000,
            batch_size: 64,
            micro_batches: 1,
            learning_rate: 1e-3,
            schedule: Schedule::default(),
            weight_decay,
            beta1,
            beta2,
            epsilon,
            clip_norm: 1.,
            z_loss: 0.,
            ema_decay: 0.999,
            report_every: 20,
            save_every: 200,
            eval_examples: 0,
            num_samples: 16,
            seed: 0,
            device: DeviceChoice::Cpu,
            threads: 0,
            precision: Precision::F32,
        }
    }
}

impl TrainConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::ensure(
            self.batch_size >= 1,
            "train.batch_size",
            self.batch_size,
            "at least 1",
        )?;
        let parts_fit = (1..=self.batch_size).contains(&self.micro_batches);
        ConfigError::ensure(
            parts_fit,
            "train.micro_batches",
            self.micro_batches,
            "1 to batch_size",
        )?;
        let rate = self.learning_rate;
        ConfigError::ensure(
            rate > 0. && rate.is_finite(),
            "train.learning_rate",
            rate,
            "a positive number",
        )?;
        let decay = self.weight_decay;
        ConfigError::ensure(
            decay >= 0. && decay.is_finite(),
            "train.weight_decay",
            decay,
            "0 or a positive number",
        )?;
        for (field, beta) in [("train.beta1", self.beta1), ("train.beta2", self.beta2)] {
            ConfigError::ensure((0. ..1.).contains(&beta), field, beta, "at least 0 and below 1")?;
        }
        ConfigError::ensure(
            self.epsilon > 0. && self.epsilon.is_finite(),
            "train.epsilon",
            self.epsilon,
            "a positive number",
        )?;
        ConfigError::ensure(
            self.clip_norm >= 0.,
            "train.clip_norm",
            self.clip_norm,
            "0 or a positive number",
        )?;
        ConfigError::ensure(
            self.z_loss >= 0. && self.z_loss.is_finite(),
            "train.z_loss",
            self.z_loss,
            "0 or a positive number",
        )?;
        ConfigError::ensure(
            (0. ..1.).contains(&self.ema_decay),
            "train.ema_decay",
            self.ema_decay,
            "at least 0 and below 1",
        )?;
        self.schedule.validate()?;
        ConfigError::ensure(
            self.report_every >= 1,
            "train.report_every",
            self.report_every,
            "at least 1",
        )?;
        ConfigError::ensure(self.save_every >= 1, "train.save_every", self.save_every, "at least 1")
    }
}

impl TrainConfig {
    /// Refuses what only the training of text models heeds.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn ensure_not_of_text(&self) -> Result<(), ConfigError> {
        let rule = "0 but where a text model is trained";
        ConfigError::ensure(self.z_loss == 0., "train.z_loss", self.z_loss, rule)
    }

    /// Readies the process for training: threads, memory, and the device, which is returned.
    ///
    /// # Errors
    /// Too many threads, a device that is not there, a precision that it lacks.
    pub fn open(&self) -> anyhow::Result<Device> {
        set_threads(if self.threads == 0 { physical_cores() } else { self.threads })?;
        keep_memory();
        let device = self.device.open()?;
        self.precision.validate(device)?;
        Ok(device)
    }

    /// The numbers of its optimiser.
    pub fn adam(&self) -> AdamWConfig {
        let Self { beta1, beta2, epsilon, weight_decay, .. } = *self;
        AdamWConfig { beta1, beta2, epsilon, weight_decay }
    }

    /// The learning rate of `step`, the first of which is 1.
    pub fn rate(&self, step: u64) -> f64 {
        self.schedule.rate(step, self.num_steps, self.learning_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_numbers_are_named() {
        let config = TrainConfig { batch_size: 0, ..TrainConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "train.batch_size is 0, but must be at least 1"
        );
        for bad in [
            TrainConfig { micro_batches: 65, ..TrainConfig::default() },
            TrainConfig { learning_rate: f64::NAN, ..TrainConfig::default() },
            TrainConfig { ema_decay: 1., ..TrainConfig::default() },
            TrainConfig { z_loss: -1e-4, ..TrainConfig::default() },
            TrainConfig { z_loss: f64::NAN, ..TrainConfig::default() },
            TrainConfig { z_loss: f64::INFINITY, ..TrainConfig::default() },
            TrainConfig { beta2: 1., ..TrainConfig::default() },
            TrainConfig { epsilon: 0., ..TrainConfig::default() },
            TrainConfig { save_every: 0, ..TrainConfig::default() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_configuration_from_before_the_betas_has_their_defaults() -> anyhow::Result<()> {
        let config: TrainConfig = serde_json::from_str(r#"{"weight_decay": 0.1}"#)?;
        assert_eq!(config.adam(), AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() });
        assert_eq!(config.z_loss, 0.);
        Ok(())
    }

    #[test]
    fn the_old_name_of_a_field_is_read_from_files_and_flags() -> anyhow::Result<()> {
        let config: TrainConfig = serde_json::from_str(r#"{"eval_images": 7}"#)?;
        assert_eq!(config.eval_examples, 7);
        let command = TrainConfig::augment_args_for_update(clap::Command::new("x"));
        let mut config = TrainConfig::default();
        let given = command.try_get_matches_from(["x", "--eval-images", "8"])?;
        clap::FromArgMatches::update_from_arg_matches(&mut config, &given)?;
        assert_eq!(config.eval_examples, 8);
        Ok(())
    }
}
