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
    /// The sampler; without one, the exact one on the CPU, on a GPU the one of kernels, or the cached one where that does not
    /// serve the model.
    pub sampler: Option<Sampler>,
    /// Where the model's weights are.
    pub device: Device,
    /// Threads of the exact sampler.
    pub threads: usize,
    /// Arithmetic of full passes and of the cached sampler, kind of the weights in kernels; the exact sampler has its own.
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
        let one_by_one = |engine: &dyn Engine<Context = ImageContext>,
                          symbols: &mut Array2<u32>| {
            let layout: &Layout = engine.layout();
            let _autocast = self.precision.autocast(self.device);
            let mut stepper = engine.stepper(context);
            sampling::draw(stepper.as_mut(), layout, symbols.view_mut(), 0, draws, &|n| tick(n));
        };
        if let Some(engine) = self.kernels(|kind| CudaEngine::new(model, kind, self.device))? {
            engine.draw(context, symbols.view_mut(), draws, tick);
            return Ok(());
        }
        let usual = if self.device == Device::Cpu { Sampler::Exact } else { Sampler::Cached };
        match self.sampler.unwrap_or(usual) {
            Sampler::Exact => {
                let engine = ExactEngine::new(model)?;
                let symbols = symbols.view_mut();
                sampling::draw_in_parallel(&engine, context, symbols, draws, self.threads, tick);
            }
            Sampler::Cuda => unreachable!("it has drawn, or was refused"),
            Sampler::Cached => one_by_one(&CachedEngine::new(model, self.device)?, symbols),
            Sampler::Plain => one_by_one(&Plain::new(model, self.device), symbols),
        }
        Ok(())
    }

    /// What `new` makes for a kind of weights: where kernels are asked for, and on a GPU where nothing is and it makes one.
    fn kernels<E>(
        &self,
        new: impl FnOnce(Kind) -> Result<E, ConfigError>,
    ) -> Result<Option<E>, ConfigError> {
        let kind = match self.precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        match self.sampler {
            Some(Sampler::Cuda) => new(kind).map(Some),
            None if self.device != Device::Cpu => Ok(new(kind).ok()),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use core_layers::{Context as _, sampling::SamplingConfig};

    use super::{
        super::tests::{configs, network},
        *,
    };

    #[test]
    fn plain_and_cached_samplers_follow_the_precision() -> Result<(), ConfigError> {
        let draws = Draws { config: SamplingConfig::default(), seed: 1, known: 0 };
        for sampler in [Sampler::Plain, Sampler::Cached] {
            let mut differ = 0;
            for (name, config, context) in configs() {
                let (_vs, model) = network(&config);
                if name.starts_with("nade") || name.starts_with("made") {
                    continue;
                }
                let draw = |precision| {
                    let sampler = Some(sampler);
                    let drawing = Drawing { sampler, precision, ..Drawing::default() };
                    let values = config.image().dims() as usize;
                    let mut symbols = Array2::zeros((context.rows(), values));
                    drawing.draw(&model, &context, &mut symbols, draws, &|_| {})?;
                    Ok::<_, ConfigError>(symbols)
                };
                let (single, half) = (draw(Precision::F32)?, draw(Precision::Bf16)?);
                let _autocast = Precision::Bf16.autocast(Device::Cpu);
                assert_eq!(half, draw(Precision::F32)?, "{sampler:?}, {name}");
                differ += usize::from(single != half);
            }
            assert!(differ > 0, "{sampler:?} rounds nothing");
        }
        Ok(())
    }

    #[test]
    fn kernels_that_refuse_a_model_are_an_error_only_where_they_were_asked_for() {
        let refuse = |_| Err::<(), _>(ConfigError::new("--sampler", "cuda", "another"));
        for (sampler, device, served, refused) in [
            (None, Device::Cpu, Some(None), Some(None)),
            (None, Device::Cuda(0), Some(Some(Kind::BFloat16)), Some(None)),
            (Some(Sampler::Cached), Device::Cuda(0), Some(None), Some(None)),
            (Some(Sampler::Cuda), Device::Cuda(0), Some(Some(Kind::BFloat16)), None),
        ] {
            let precision = Precision::Bf16;
            let drawing = Drawing { sampler, device, threads: 1, precision };
            assert_eq!(drawing.kernels(Ok).ok(), served, "{drawing:?}");
            let found = drawing.kernels(refuse).ok();
            assert_eq!(found, refused, "{drawing:?}");
        }
    }
}
