//! The networks: weights, forward passes, and their lowering to programs that steppers run.
//! Letters: B batch, N = H W C positions, H rows, W columns, C colours, E numbers an embedded value, L levels.

mod attention;
mod context;
mod context_stack;
mod convolutional;
mod gated;
mod made;
mod nade;
mod program;
mod residual;
mod simple;

pub use attention::coordinate;
pub(crate) use attention::coordinates;
pub use context::ImageContext;
pub use context_stack::ContextLayer;
pub use convolutional::ConvolutionalModel;
pub use made::{Made, Masks};
pub use nade::Nade;
pub use program::{Conv, Map, MapId, Op, Program, Reach, Term};

use core_layers::{Autoregressive, Conditionals, ConfigError, Layout};
use tch::{Device, Kind, Tensor, nn};

use crate::config::{ModelConfig, Order};

/// Any model of this crate.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    estimator: Estimator,
}

/// What a [`Model`] is made of.
#[derive(Debug)]
pub enum Estimator {
    /// Hidden units shared by all conditionals.
    Nade(Nade),
    /// A masked autoencoder.
    Made(Made),
    /// Masked convolutions.
    Convolutional(Box<ConvolutionalModel>),
}

impl Model {
    /// Creates the weights of `config` under `vs`.
    ///
    /// # Errors
    /// [`ConfigError`] for a configuration that no model can be built from.
    pub fn new(vs: &nn::Path<'_>, config: &ModelConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let estimator = match config {
            ModelConfig::Nade(config) => Estimator::Nade(Nade::new(vs, config)),
            ModelConfig::Made(config) => Estimator::Made(Made::new(vs, config)),
            _ => Estimator::Convolutional(Box::new(ConvolutionalModel::new(vs, config)?)),
        };
        Ok(Self { config: config.clone(), estimator })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its weights and their arrangement.
    pub fn estimator(&self) -> &Estimator {
        &self.estimator
    }

    /// Conditionals from embedded values `[B, N, E]`; `train` lets dropout act.
    pub fn forward(&self, embedded: &Tensor, context: &ImageContext, train: bool) -> Conditionals {
        match &self.estimator {
            Estimator::Nade(nade) => Conditionals::Logits(nade.forward(embedded)),
            Estimator::Made(made) => Conditionals::Logits(made.forward(embedded)),
            Estimator::Convolutional(model) => model.forward(embedded, context, train),
        }
    }

    /// Mean negative log-likelihood of the symbols `[B, N]`, in nats per image: the loss of training.
    pub fn loss(&self, xs: &Tensor, context: &ImageContext) -> Tensor {
        let log_prob = self.forward(&self.embed(xs), context, true).log_prob(xs);
        -log_prob.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float).mean(Kind::Float)
    }

    /// Number of orders that a MADE was trained for; 1 for every other model.
    pub fn num_orders(&self) -> usize {
        if let Estimator::Made(made) = &self.estimator { made.num_orders() } else { 1 }
    }

    /// Makes a MADE use the masks of order `k` (modulo their number).
    pub fn use_order(&mut self, k: u64) {
        if let Estimator::Made(made) = &mut self.estimator {
            made.use_order((k % made.num_orders() as u64) as usize);
        }
    }

    /// Parameters that can have an effect, of those in `vs`.
    pub fn live_parameters(&self, vs: &nn::VarStore) -> i64 {
        match &self.estimator {
            Estimator::Convolutional(model) => model.live_parameters(),
            Estimator::Made(made) => made.live_parameters(),
            Estimator::Nade(_) => parameters(vs),
        }
    }
}

/// Parameters in `vs`.
pub fn parameters(vs: &nn::VarStore) -> i64 {
    vs.variables().values().map(|it| it.numel() as i64).sum()
}

impl Autoregressive for Model {
    type Context = ImageContext;

    fn layout(&self) -> Layout {
        let image = self.config.image();
        let raster = Layout::uniform(image.dims() as usize, image.levels as u32);
        match &self.estimator {
            Estimator::Nade(nade) => Layout { order: nade.order().to_vec(), ..raster },
            Estimator::Made(made) => Layout { order: made.order().to_vec(), ..raster },
            Estimator::Convolutional(_) => raster,
        }
    }

    /// # Shape
    /// `[B, N]` to `[B, N, E]`.
    fn embed(&self, xs: &Tensor) -> Tensor {
        match &self.estimator {
            Estimator::Convolutional(model) => model.embed(xs),
            _ => ordinal(xs, self.config.image().levels),
        }
    }

    fn conditionals(&self, embedded: &Tensor, context: &ImageContext) -> Conditionals {
        self.forward(embedded, context, false)
    }
}

/// Levels `0..levels` spread over `[-1, 1]`: `[B, N]` to `[B, N, 1]`.
fn ordinal(xs: &Tensor, levels: i64) -> Tensor {
    (xs.to_kind(Kind::Float) * (2. / (levels - 1) as f64) - 1.).unsqueeze(-1)
}

/// The position that is drawn k-th, for `len` positions.
fn positions(order: Order, len: usize) -> Vec<u32> {
    match order {
        Order::Raster => (0..len as u32).collect(),
        Order::Reversed => (0..len as u32).rev().collect(),
        Order::Shuffled { seed } => {
            let shuffled = core_layers::random::permutation(seed, "pixel order", 0, len);
            shuffled.into_iter().map(|position| position as u32).collect()
        }
    }
}

/// A row-major copy of a tensor's numbers.
fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view(-1);
    Vec::try_from(flat).expect("a flat float tensor on the CPU is a vector")
}

#[cfg(test)]
mod tests;
