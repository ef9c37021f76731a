//! Drawing by any of the samplers.

use clap::ValueEnum;
use core_layers::{
    ConfigError, Engine, Layout,
    autocast::Precision,
    device::physical_cores,
    plain::Plain,
    sampling::{self, Draws},
};
use ndarray::Array2;
use tch::{Device, Kind};

use super::{CachedEngine, CudaEngine, ExactEngine};
use crate::model::{ImageContext, Model};

/// How images are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sampler {
    /// A full pass for every value: the definition.
    Plain,
    /// Features kept in tensors: convolutional models on any device.
    Cached,
    /// A row in one kernel, on a GPU: convolutional models without attention.
    Cuda,
    /// Fused, on the CPU, the same bits on every machine.
    Exact,
}

/// By what, and on what, images are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Drawing {
    /// The sampler; without one, the exact one on the CPU, on a GPU the one of kernels, where that serves the model, or the
    /// cached one.
    pub sampler: Option<Sampler>,
    /// Where the model's weights are.
    pub device: Device,
    /// Threads of the exact sampler.
    pub threads: usize,
    /// Arithmetic of full passes; the exact sampler has its own.
    pub precision: Precision,
}

impl Default for Drawing {
    /// The exact sampler on all physical cores.
    fn default() -> Self {
        Self {
            sampler: None,
            device: Device::Cpu,
            threads: physical_cores(),
            precision: Precision::F32,
        }
    }
}

impl Drawing {
    /// Completes `symbols` `[B, N]` of `model`. `tick` hears of every value.
    ///
    /// # Errors
    /// [`ConfigError`] for a sampler that does not serve the model.
    pub fn draw(
        &self,
        model: &Model,
        context: &ImageContext,
        symbols: &mut Array2<u32>,
        draws: Draws,
        tick: &(dyn Fn(usize) + Sync),
    ) -> Result<(), ConfigError> {
        let usual = match self.device {
            Device::Cpu => Sampler::Exact,
            device if CudaEngine::serves(model, device).is_ok() => Sampler::Cuda,
            _ => Sampler::Cached,
        };
        let one_by_one = |engine: &dyn Engine<Context = ImageContext>,
                          symbols: &mut Array2<u32>| {
            let layout: &Layout = engine.layout();
            let mut stepper = engine.stepper(context);
            sampling::draw(stepper.as_mut(), layout, symbols.view_mut(), 0, draws, &|n| tick(n));
        };
        match self.sampler.unwrap_or(usual) {
            Sampler::Exact => {
                let engine = ExactEngine::new(model)?;
                let symbols = symbols.view_mut();
                sampling::draw_in_parallel(&engine, context, symbols, draws, self.threads, tick);
            }
            Sampler::Cuda => {
                let kind = match self.precision {
                    Precision::F32 => Kind::Float,
                    Precision::Bf16 => Kind::BFloat16,
                };
                let engine = CudaEngine::new(model, kind, self.device)?;
                engine.draw(context, symbols.view_mut(), draws, tick);
            }
            Sampler::Cached => one_by_one(&CachedEngine::new(model, self.device)?, symbols),
            Sampler::Plain => {
                let _autocast = self.precision.autocast(self.device);
                one_by_one(&Plain::new(model, self.device), symbols);
            }
        }
        Ok(())
    }
}
