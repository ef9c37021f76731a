//! The engines by name.

use anyhow::Result;
use clap::ValueEnum;
use core_layers::ConfigError;
use tch::Device;

use super::{Decode, ExactEngine, FusedEngine, FusedOptions, TorchEngine};
use crate::{formats::Delivered, model::Decoder};

/// What computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// Packed weights as they were delivered, on the CPU, activations in 8 bits where its instructions multiply those: the fastest.
    Fused,
    /// libtorch operations: the reference.
    Torch,
    /// f32 of defined bits: one text on every machine.
    Exact,
}

/// How an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Of the fused engine; libtorch has its own.
    pub threads: usize,
    /// Of libtorch; the other engines are the CPU's.
    pub device: Device,
    /// Tokens that a text can hold, or as many as the model sees.
    pub context: Option<usize>,
}

/// An engine of what was delivered.
///
/// # Errors
/// One line on weights that do not fit, or on what the engine cannot do.
pub fn engine(
    delivered: &Delivered,
    choice: EngineChoice,
    options: EngineOptions,
) -> Result<Box<dyn Decode>> {
    let Delivered { config, weights, .. } = delivered;
    let EngineOptions { threads, device, context } = options;
    let most = config.context as usize;
    let rule = format!("2 to the model's {most}");
    let fits = context.is_none_or(|it| (2..=most).contains(&it));
    ConfigError::ensure(fits, "context", context.unwrap_or_default(), &rule)?;
    Ok(match choice {
        EngineChoice::Fused => {
            let options = FusedOptions { threads, context, ..FusedOptions::detect()? };
            Box::new(FusedEngine::new(config, weights, options)?)
        }
        EngineChoice::Torch => {
            let model = Decoder::load(config, weights, device)?;
            Box::new(TorchEngine::new(model, context.unwrap_or(most)))
        }
        EngineChoice::Exact => {
            let rule = "left out with the exact engine";
            ConfigError::ensure(context.is_none(), "context", context.unwrap_or_default(), rule)?;
            weights.ensure_fit(config)?;
            Box::new(ExactEngine::new(config, weights)?)
        }
    })
}
