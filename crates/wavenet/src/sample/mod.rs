//! Speaking: the plain sampler that mirrors the formula, and the steppers that are fast.

mod cached;
mod condition;
mod cuda;
mod entrance;
mod exact;
mod fast;
mod plan;
mod ring;
mod taps;

use std::sync::Arc;

pub use cached::CachedEngine;
pub use cuda::CudaEngine;

use core_layers::{
    ConfigError, Context as _, Engine, Layout, Stepper,
    kernels::{
        bf16,
        exact::{self as kernel, Variant},
    },
    sampling::{Draws, SamplingConfig, draw_in_parallel},
};
use ndarray::Array2;

use crate::model::{SoundContext, WaveNet};
use exact::ExactStepper;
use fast::FastStepper;
use plan::Plan;

/// Steppers in f32 of defined bits: the same on every machine, for any batch and any number of threads. The codec's
/// engine, and the default sampler on the CPU.
#[derive(Debug, Clone)]
pub struct ExactEngine {
    layout: Layout,
    variant: Variant,
    plan: Arc<Plan<kernel::Packed>>,
}

impl ExactEngine {
    /// The engine of `model` for clips of `samples`, on this processor's fastest variant or the one that
    /// `CHAINRULE_SIMD` names.
    ///
    /// # Errors
    /// If `CHAINRULE_SIMD` names none.
    pub fn new(model: &WaveNet, samples: usize) -> Result<Self, ConfigError> {
        Ok(Self::with_variant(model, samples, Variant::detect()?))
    }

    /// The engine of `model` on a given variant.
    ///
    /// # Panics
    /// When stepped, if this processor lacks the variant.
    pub fn with_variant(model: &WaveNet, samples: usize, variant: Variant) -> Self {
        let layout = Layout::uniform(samples, model.config().levels as u32);
        Self { layout, variant, plan: Arc::new(Plan::new(model)) }
    }
}

impl Engine for ExactEngine {
    type Context = SoundContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &SoundContext) -> Box<dyn Stepper + 'a> {
        Box::new(ExactStepper::new(&self.plan, self.variant, context))
    }
}

/// Steppers in bfloat16: faster than the exact ones, near the full pass but not the same on every machine. Of a softmax,
/// log-probabilities are within 0.15 nats of the full pass's in the tests, where weights and activations are of order 1.
#[derive(Debug, Clone)]
pub struct FastEngine {
    layout: Layout,
    variant: Variant,
    plan: Arc<Plan<bf16::Packed>>,
}

impl FastEngine {
    /// The engine of `model` for clips of `samples`, as [`ExactEngine::new`].
    ///
    /// # Errors
    /// If `CHAINRULE_SIMD` names no variant.
    pub fn new(model: &WaveNet, samples: usize) -> Result<Self, ConfigError> {
        Ok(Self::with_variant(model, samples, Variant::detect()?))
    }

    /// The engine of `model` on a given variant.
    ///
    /// # Panics
    /// When stepped, if this processor lacks the variant.
    pub fn with_variant(model: &WaveNet, samples: usize, variant: Variant) -> Self {
        let layout = Layout::uniform(samples, model.config().levels as u32);
        Self { layout, variant, plan: Arc::new(Plan::new(model)) }
    }
}

impl Engine for FastEngine {
    type Context = SoundContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &SoundContext) -> Box<dyn Stepper + 'a> {
        Box::new(FastStepper::new(&self.plan, self.variant, context))
    }
}

/// Levels `[rows, samples]` of the network's own distribution by the exact engine, sample by sample on `threads` threads.
///
/// # Errors
/// If `CHAINRULE_SIMD` names no variant.
pub fn speak(
    model: &WaveNet,
    context: &SoundContext,
    samples: usize,
    seed: u64,
    threads: usize,
) -> Result<Array2<u32>, ConfigError> {
    let mut levels = Array2::zeros((context.rows(), samples));
    let draws = Draws { config: SamplingConfig::default(), seed, known: 0 };
    let engine = ExactEngine::new(model, samples)?;
    draw_in_parallel(&engine, context, levels.view_mut(), draws, threads, &|_| {});
    Ok(levels)
}

#[cfg(test)]
mod tests;
