//! The engines by name.

use anyhow::Result;
use clap::ValueEnum;
use tch::Device;

use super::{Decode, ExactEngine, TorchEngine};
use crate::{formats::Delivered, model::Decoder};

/// What computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// libtorch operations: the reference.
    Torch,
    /// f32 of defined bits: one text on every machine.
    Exact,
}

/// An engine of what was delivered.
///
/// # Errors
/// One line on weights that do not fit, or a configuration that the engine cannot run.
pub fn engine(delivered: &Delivered, choice: EngineChoice) -> Result<Box<dyn Decode>> {
    let Delivered { config, weights, .. } = delivered;
    Ok(match choice {
        EngineChoice::Torch => {
            let model = Decoder::load(config, weights, Device::Cpu)?;
            Box::new(TorchEngine::new(model, config.context as usize))
        }
        EngineChoice::Exact => Box::new(ExactEngine::new(config, weights)?),
    })
}
