//! A trained pipeline: an autoencoder, and the priors over its codes, tied by hashes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    ConfigError,
    checkpoint::Weights,
    run::{self, CONFIG, MODEL},
    training::{self, Architecture as _, Network},
};
use ndarray::Array3;
use pixelcnn::{config::ModelConfig, data::DataConfig, model::Model};
use tch::{Device, nn};

use crate::{
    config::{CodesConfig, Pipeline, VqVaeConfig},
    model::{Autoencoder, Classifier, ClassifierConfig},
};

/// What an autoencoder's checkpoint says of itself.
pub type About = training::About<VqVaeConfig, DataConfig>;
/// What a prior's checkpoint says of itself.
pub type AboutPrior = training::About<ModelConfig, CodesConfig>;
/// The first stage with its weights.
pub type TrainedAutoencoder = training::Trained<Autoencoder, DataConfig>;
/// The prior of one level with its weights.
pub type TrainedPrior = training::Trained<Model, CodesConfig>;

impl Network for Autoencoder {
    type Config = VqVaeConfig;

    fn build(vs: &nn::Path<'_>, config: &VqVaeConfig) -> Result<Self, ConfigError> {
        Self::new(vs, config)
    }
}

impl Network for Classifier {
    type Config = ClassifierConfig;

    fn build(vs: &nn::Path<'_>, config: &ClassifierConfig) -> Result<Self, ConfigError> {
        Self::new(vs, config)
    }
}

/// The folder of the first stage in that of a run.
pub const AUTOENCODER: &str = "autoencoder";
/// The file of the codes in the folder of a run.
pub const CODES: &str = "codes.safetensors";

/// The folder of a level's prior in that of a run: by the size of the codes, such as `prior-8x8`.
pub fn prior_folder(model: &VqVaeConfig, level: usize) -> String {
    let (h, w) = model.sizes()[level];
    format!("prior-{h}x{w}")
}

/// A run with its weights: the autoencoder, and as many priors as have been trained, or none.
#[derive(Debug)]
pub struct TrainedPipeline {
    /// What the run was told.
    pub pipeline: Pipeline,
    /// Encoder, codebooks and decoder.
    pub autoencoder: TrainedAutoencoder,
    /// The prior of each level, from the bottom up; empty before all of them are trained.
    pub priors: Vec<TrainedPrior>,
}

impl TrainedPipeline {
    /// Loads the folder of a run.
    ///
    /// # Errors
    /// One line on a folder that is no run of this crate, on files that cannot be read, and on a prior that was trained on
    /// the codes of another autoencoder.
    pub fn load(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        let mut trained = Self::load_autoencoder(path, weights, device)?;
        let model = &trained.pipeline.model;
        let folders: Vec<_> =
            (0..model.factors.len()).map(|level| path.join(prior_folder(model, level))).collect();
        if folders.iter().all(|folder| folder.join(MODEL).is_file()) {
            for folder in &folders {
                let prior = TrainedPrior::load(folder, weights, device)?;
                ensure_tied(&prior.about, &trained.autoencoder, folder)?;
                trained.priors.push(prior);
            }
        }
        Ok(trained)
    }

    /// The same without its priors, whatever state they are in.
    ///
    /// # Errors
    /// As [`TrainedPipeline::load`], of all but the priors.
    pub fn load_autoencoder(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        let name = path.display();
        ensure_own(path)?;
        ensure!(path.is_dir(), "{name}: is no folder of a run; give what `vqvae train --out` made");
        let pipeline = read_config(path)?;
        let autoencoder = path.join(AUTOENCODER);
        ensure!(
            autoencoder.join(MODEL).is_file(),
            "{name}: has no autoencoder yet; go on with `vqvae train --resume {name}`"
        );
        let autoencoder = TrainedAutoencoder::load(&autoencoder, weights, device)?;
        Ok(Self { pipeline, autoencoder, priors: Vec::new() })
    }

    /// Refuses a run whose priors are not trained yet.
    ///
    /// # Errors
    /// One line that says how they are.
    pub fn ensure_priors(&self, path: &Path) -> Result<()> {
        let name = path.display();
        ensure!(
            !self.priors.is_empty(),
            "{name}: has no priors yet; go on with `vqvae train --resume {name}`"
        );
        Ok(())
    }

    /// The vectors of a level's codes `[G, K, D]`.
    pub fn vectors(&self, level: usize) -> Array3<f32> {
        vectors(&self.autoencoder.model, level)
    }

    /// Names of the classes that the priors are told; empty where they are told none.
    pub fn classes(&self) -> &[String] {
        let told = self.priors.iter().any(|prior| prior.model.config().classes() > 0);
        if told { &self.autoencoder.about.label_names } else { &[] }
    }
}

/// Refuses a checkpoint, and a run that is one: they are of another crate.
///
/// # Errors
/// One line that names its kind, and the command that opens it.
pub fn ensure_own(path: &Path) -> Result<()> {
    if run::model_file(path).is_file() {
        training::ensure_opens(path, VqVaeConfig::NAME)
    } else {
        Ok(())
    }
}

/// The configuration of the run in a folder.
///
/// # Errors
/// A folder without one, or one of another program.
pub fn read_config(path: &Path) -> Result<Pipeline> {
    let file = path.join(CONFIG);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text)
        .with_context(|| format!("{}: is not the configuration of a vqvae run", file.display()))
}

/// Refuses a prior over the codes of another autoencoder.
fn ensure_tied(about: &AboutPrior, autoencoder: &TrainedAutoencoder, folder: &Path) -> Result<()> {
    let (learnt, found) = (&about.run.data.autoencoder, &autoencoder.hash);
    ensure!(
        learnt == found,
        "{}: was trained on the codes of autoencoder {}, this one is {}; train it anew",
        folder.join(MODEL).display(),
        &learnt[..16],
        &found[..16]
    );
    Ok(())
}

/// The vectors of a level's codes `[G, K, D]`.
pub fn vectors(model: &Autoencoder, level: usize) -> Array3<f32> {
    let quantiser = model.quantisers().nth(level).expect("a level of the model");
    let codes = quantiser.codebooks().to_device(Device::Cpu);
    let size = codes.size();
    let shape = [size[0], size[1], size[2]].map(|size| size as usize);
    let flat = Vec::<f32>::try_from(codes.flatten(0, -1)).expect("a flat float tensor is a vector");
    Array3::from_shape_vec(shape, flat).expect("as many numbers as codes hold")
}
