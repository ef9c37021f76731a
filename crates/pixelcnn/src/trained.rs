//! A trained model: weights, and everything that they say about themselves.

pub use core_layers::checkpoint::Weights;
use core_layers::{
    ConfigError,
    training::{self, Network},
};
use tch::nn;

use crate::{
    config::ModelConfig,
    data::{DataConfig, Dataset},
    model::Model,
};

/// What a checkpoint of this crate says of itself.
pub type About = training::About<ModelConfig, DataConfig>;

/// What the checkpoints of `run` on `dataset` say before the first step.
pub fn about<M: Clone, D: Clone>(
    run: &training::Run<M, D>,
    dataset: &Dataset,
) -> training::About<M, D> {
    training::About {
        run: run.clone(),
        dataset: dataset.name.clone(),
        protocol: dataset.protocol.clone(),
        label_names: dataset.label_names.clone(),
        data_hash: dataset.hash.clone(),
        step: 0,
        valid_nats: None,
    }
}

/// A network of this crate with its weights, ready to use.
///
/// ```no_run
/// use core_layers::{Engine, sampling::{Draws, SamplingConfig, draw_in_parallel}};
/// use pixelcnn::{model::ImageContext, sample::ExactEngine, trained::{Trained, Weights}};
/// let trained = Trained::load("model.safetensors".as_ref(), Weights::Ema, tch::Device::Cpu)?;
/// let engine = ExactEngine::new(&trained.model)?;
/// let mut images = ndarray::Array2::zeros((16, engine.layout().len()));
/// let draws = Draws { config: SamplingConfig::default(), seed: 1, known: 0 };
/// draw_in_parallel(&engine, &ImageContext::none(16), images.view_mut(), draws, 2, &|_| {});
/// # anyhow::Ok(())
/// ```
pub type Trained = training::Trained<Model, DataConfig>;

impl Network for Model {
    type Config = ModelConfig;

    fn build(vs: &nn::Path<'_>, config: &ModelConfig) -> Result<Self, ConfigError> {
        Self::new(vs, config)
    }
}
