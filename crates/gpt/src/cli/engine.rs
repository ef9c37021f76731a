//! Which engine measures.

use anyhow::Result;
use clap::{Args, ValueEnum as _};
use core_layers::{ConfigError, autocast::Precision, cli::ModelArgs, device::DeviceChoice};

use crate::{
    formats::Delivered,
    sample::{Decode, EngineChoice, ExactEngine, FusedEngine, FusedOptions},
};

/// The flag of commands that measure a model as an engine computes it.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// What computes. fused takes weights as they were delivered, torch decodes them first; exact computes a text on one
    /// thread, evaluate several texts at once.
    #[arg(long, value_enum, default_value_t = EngineChoice::Torch)]
    engine: EngineChoice,
}

impl EngineArgs {
    /// The engine, where it is not libtorch; flags that only libtorch follows are refused beside it.
    pub(super) fn other(&self, model: &ModelArgs) -> Result<Option<EngineChoice>, ConfigError> {
        if self.engine == EngineChoice::Torch {
            return Ok(None);
        }
        let rule = format!("left out with the {} engine", self.name());
        let is_cpu = model.device == DeviceChoice::Cpu;
        ConfigError::ensure(is_cpu, "--device", model.device, &rule)?;
        let is_plain = model.precision == Precision::F32;
        ConfigError::ensure(is_plain, "--precision", model.precision, &rule)?;
        Ok(Some(self.engine))
    }

    /// As it is typed.
    pub(super) fn name(&self) -> String {
        self.engine.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
    }
}

/// An engine other than libtorch, of what was delivered, whose texts hold `tokens`; and how many threads are left to share it.
pub(super) fn open(
    choice: EngineChoice,
    delivered: &Delivered,
    threads: usize,
    tokens: usize,
) -> Result<(Box<dyn Decode + Sync>, usize)> {
    let Delivered { config, weights, .. } = delivered;
    if choice == EngineChoice::Exact {
        return Ok((Box::new(ExactEngine::new(config, weights)?), threads));
    }
    let options = FusedOptions { threads, context: Some(tokens), ..FusedOptions::detect()? };
    Ok((Box::new(FusedEngine::new(config, weights, options)?), 1))
}
