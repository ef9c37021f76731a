//! Generation on a GPU: one kernel makes many samples, so that a sample costs no launch. Weights are in the kind that is
//! asked for; activations, past inputs and sums are f32 (`core_layers::kernels::wavenet`).

use std::ops::ControlFlow;

use anyhow::Result;
use core_layers::{
    Conditional, ConfigError, Context as _, Engine, Layout, Stepper,
    conv::CausalConv1d,
    kernels::wavenet::{self as kernel, First, Layer, Linear, Network, Voices, Weights},
    random,
    sampling::{Draws, SamplingConfig, draw_while},
};
use ndarray::{Array2, ArrayViewMut2, Axis, s};
use tch::{Device, Kind};

use crate::{
    config::Head,
    model::{SoundContext, WaveNet},
};

/// Launches a second of sound, where symbols are drawn by the kernel.
const LAUNCHES: usize = 50;

/// Steppers whose samples one kernel makes: for models on a GPU.
#[derive(Debug)]
pub struct CudaEngine<'m> {
    layout: Layout,
    model: &'m WaveNet,
    device: Device,
    network: Network,
}

impl<'m> CudaEngine<'m> {
    /// The engine of `model`, whose weights are on `device` and are rounded to `kind`, for clips of `samples`.
    ///
    /// # Errors
    /// [`ConfigError`] where no kernels run on the device; else where they cannot step the model.
    pub fn new(model: &'m WaveNet, samples: usize, kind: Kind, device: Device) -> Result<Self> {
        let rule = "exact, fast, cached or plain where no CUDA kernels run";
        ConfigError::ensure(kernel::is_there(device), "--sampler", "cuda", rule)?;
        let layout = Layout::uniform(samples, model.config().levels as u32);
        let network = Network::new(&weights(model), kind, device)?;
        Ok(Self { layout, model, device, network })
    }

    /// Completes `symbols` `[B, N]` as [`draw_while`] does, from the same uniform numbers; of a softmax that is neither
    /// sharpened nor cut, 20 ms of sound a launch.
    ///
    /// # Errors
    /// Where a launch fails.
    pub fn draw(
        &self,
        context: &SoundContext,
        mut symbols: ArrayViewMut2<'_, u32>,
        draws: Draws,
        tick: &mut dyn FnMut(&[u32]) -> ControlFlow<()>,
    ) -> Result<()> {
        let is_plain = self.model.config().head == Head::Softmax;
        if !is_plain || draws.config != SamplingConfig::default() {
            let mut stepper = self.stepper(context);
            draw_while(stepper.as_mut(), &self.layout, symbols, 0, draws, tick);
            return Ok(());
        }
        let mut voices = self.voices(context)?;
        let (rows, samples) = symbols.dim();
        for column in symbols.slice(s![.., ..draws.known]).columns() {
            let column = column.to_vec();
            voices.feed(&column)?;
            if tick(&column).is_break() {
                return Ok(());
            }
        }
        let generator = |row| {
            let mut generator = random::generator(draws.seed, "draw", row as u64);
            generator.set_word_pos(2 * draws.known as u128);
            generator
        };
        let mut generators: Vec<_> = (0..rows).map(generator).collect();
        let share = (self.model.sample_rate() as usize / LAUNCHES).max(1);
        for mut part in
            symbols.slice_mut(s![.., draws.known..samples]).axis_chunks_iter_mut(Axis(1), share)
        {
            let uniforms = Array2::from_shape_fn(part.dim(), |(row, _)| {
                random::uniform(&mut generators[row]) as f32
            });
            part.assign(&voices.draw(uniforms.view())?);
            for column in part.columns() {
                if tick(&column.to_vec()).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn voices(&self, context: &SoundContext) -> Result<Voices<'_>> {
        let samples = self.layout.len() as i64;
        let condition = tch::no_grad(|| self.model.condition(context, samples, self.device));
        self.network.voices(context.rows(), context.speakers(), condition.upsampled.as_ref())
    }
}

/// The tensors of a model, by what the kernel calls them.
fn weights(model: &WaveNet) -> Weights<'_> {
    fn linear(conv: &CausalConv1d) -> Linear<'_> {
        Linear { weight: conv.weight(), bias: conv.bias() }
    }
    let levels = model.config().levels;
    let layers =
        model.layers.iter().zip(&model.config().dilations).map(|(layer, &dilation)| Layer {
            dilation,
            dilated: linear(&layer.dilated),
            condition: layer.condition.as_ref().map(CausalConv1d::weight),
            speaker: layer.speaker.as_ref(),
            residual: layer.residual.as_ref().map(linear),
        });
    Weights {
        first: match (&model.embedding, &model.first) {
            (Some(table), _) => First::Table(table),
            (None, Some(conv)) => {
                First::Scalar { weight: conv.weight(), bias: conv.bias(), levels }
            }
            (None, None) => unreachable!("a level enters as a vector or as a number"),
        },
        layers: layers.collect(),
        skip: linear(&model.skip),
        head: linear(&model.head),
        output: linear(&model.output),
    }
}

impl Engine for CudaEngine<'_> {
    type Context = SoundContext;

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn stepper<'a>(&'a self, context: &SoundContext) -> Box<dyn Stepper + 'a> {
        let voices = self.voices(context).unwrap_or_else(|error| panic!("{error}"));
        Box::new(CudaStepper { model: self.model, voices })
    }
}

struct CudaStepper<'e> {
    model: &'e WaveNet,
    voices: Voices<'e>,
}

impl Stepper for CudaStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let outputs = self.voices.outputs().unwrap_or_else(|error| panic!("{error}"));
        tch::no_grad(|| self.model.conditionals_of(&outputs.unsqueeze(1)).write_to(out));
    }

    fn feed(&mut self, symbols: &[u32]) {
        self.voices.feed(symbols).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[cfg(test)]
mod tests;
