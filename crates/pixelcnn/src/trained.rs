//! A trained model: weights, and everything that they say about themselves.

use std::path::Path;

use anyhow::{Context as _, Result};
pub use core_layers::checkpoint::Weights;
use core_layers::{checkpoint::Checkpoint, optim, run, training};
use tch::{Device, nn};

use crate::{
    config::{ModelConfig, Run},
    data::{DataConfig, Dataset},
    model::Model,
};

/// What a checkpoint of this crate says of itself.
pub type About = training::About<ModelConfig, DataConfig>;

/// Before the first step of `run` on `dataset`.
pub(crate) fn about(run: &Run, dataset: &Dataset) -> About {
    About {
        run: run.clone(),
        dataset: dataset.name.clone(),
        protocol: dataset.protocol.clone(),
        label_names: dataset.label_names.clone(),
        data_hash: dataset.hash.clone(),
        step: 0,
        valid_nats: None,
    }
}

/// A model with its weights, ready to evaluate, sample and compress.
#[derive(Debug)]
pub struct Trained {
    /// The network.
    pub model: Model,
    /// Its weights.
    pub vs: nn::VarStore,
    /// What the checkpoint says of itself.
    pub about: About,
    /// Which weights were taken.
    pub weights: Weights,
    /// Hash of the weights in use, 64 hexadecimal digits.
    pub hash: String,
}

impl Trained {
    /// Loads a checkpoint: a file, or the best one of a run folder.
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
    ///
    /// # Errors
    /// One line on a file that is missing, foreign, corrupt, or does not fit its own configuration.
    pub fn load(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        let path = run::model_file(path);
        let checkpoint = Checkpoint::load(&path)?;
        let about = About::read(&checkpoint, &path)?;
        checkpoint.ensure_holds(&path, about.run.model.least_parameters())?;
        let mut vs = nn::VarStore::new(device);
        let model =
            Model::new(&vs.root(), &about.run.model).with_context(|| path.display().to_string())?;
        let (weights, hash) =
            checkpoint.copy_weights_into(&path, weights, &optim::parameters(&vs))?;
        vs.freeze();
        Ok(Self { model, vs, about, weights, hash })
    }
}
