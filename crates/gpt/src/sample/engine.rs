//! The engines by name.

use anyhow::Result;
use clap::ValueEnum;
use tch::Device;

use super::{Decode, ExactEngine, FusedEngine, FusedOptions, TorchEngine};
use crate::{formats::Delivered, model::Decoder};

/// What computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// Packed weights as they were delivered: the fastest.
    Fused,
    /// libtorch operations: the reference.
    Torch,
    /// f32 of defined bits: one text on every machine.
    Exact,
}

/// An engine of what was delivered, on `threads` threads where it has its own.
///
/// # Errors
/// One line on weights that do not fit, or a configuration that the engine cannot run.
pub fn engine(
    delivered: &Delivered,
    choice: EngineChoice,
    threads: usize,
) -> Result<Box<dyn Decode>> {
    let Delivered { config, weights, .. } = delivered;
    Ok(match choice {
        EngineChoice::Fused => {
            let options = FusedOptions { threads, ..FusedOptions::detect()? };
            Box::new(FusedEngine::new(config, weights, options)?)
        }
        EngineChoice::Torch => {
            let model = Decoder::load(config, weights, Device::Cpu)?;
            Box::new(TorchEngine::new(model, config.context as usize))
        }
        EngineChoice::Exact => Box::new(ExactEngine::new(config, weights)?),
    })
}
