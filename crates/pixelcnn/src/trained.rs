//! A trained model: weights, and everything that they say about themselves.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
pub use core_layers::checkpoint::Weights;
use core_layers::{checkpoint::Checkpoint, optim, run};
use serde::{Deserialize, Serialize};
use tch::{Device, nn};

use crate::{config::Run, data::Dataset, model::Model};

/// What marks a checkpoint as this crate's.
const ARCHITECTURE: &str = "pixelcnn";

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Model, data and training.
    pub run: Run,
    /// Name of the data set.
    pub dataset: String,
    /// How its images were made, binarised and split.
    pub protocol: String,
    /// What the labels mean, in the order of the classes.
    pub label_names: Vec<String>,
    /// Hash of the data.
    pub data_hash: String,
    /// Optimiser steps taken.
    pub step: u64,
    /// Least validation loss so far, in nats per image, by the weights that evaluation uses.
    pub valid_nats: Option<f64>,
}

impl About {
    /// Before the first step of `run` on `dataset`.
    pub fn new(run: &Run, dataset: &Dataset) -> Self {
        Self {
            run: run.clone(),
            dataset: dataset.name.clone(),
            protocol: dataset.protocol.clone(),
            label_names: dataset.label_names.clone(),
            data_hash: dataset.hash.clone(),
            step: 0,
            valid_nats: None,
        }
    }

    /// Puts it into a checkpoint's metadata.
    ///
    /// # Errors
    /// None that a serialisable configuration can give.
    pub(crate) fn write(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        checkpoint.metadata.insert("architecture".into(), ARCHITECTURE.into());
        checkpoint.metadata.insert("about".into(), serde_json::to_string(self)?);
        Ok(())
    }

    /// Reads it from a checkpoint's metadata.
    pub(crate) fn read(checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        let path = path.display();
        match checkpoint.metadata.get("architecture").map(String::as_str) {
            Some(ARCHITECTURE) => {}
            Some(other) => {
                bail!("{path}: is a model of kind {other:?}, this program reads {ARCHITECTURE:?}")
            }
            None => {
                bail!("{path}: does not say what model it holds (no metadata \"architecture\")")
            }
        }
        let about = checkpoint
            .metadata
            .get("about")
            .with_context(|| format!("{path}: has no metadata \"about\""))?;
        let about: Self =
            serde_json::from_str(about).with_context(|| format!("{path}: metadata \"about\""))?;
        about.run.model.validate().with_context(|| format!("{path}"))?;
        Ok(about)
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
