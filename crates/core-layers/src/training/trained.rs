//! A trained network: weights, and everything that they say about themselves.

use std::path::Path;

use anyhow::{Context as _, Result};
use tch::{Device, nn};

use super::{About, Architecture, Part, ensure_opens};
use crate::{
    ConfigError,
    checkpoint::{Checkpoint, Weights},
    optim, run,
};

/// A network that is built from its configuration.
pub trait Network: Sized {
    /// What it is built from.
    type Config: Architecture;

    /// Creates the weights of `config` under `vs`.
    ///
    /// # Errors
    /// [`ConfigError`] for a configuration that no network can be built from.
    fn build(vs: &nn::Path<'_>, config: &Self::Config) -> Result<Self, ConfigError>;
}

/// A network with its weights, ready to evaluate, sample and compress.
#[derive(Debug)]
pub struct Trained<N: Network, D> {
    /// The network.
    pub model: N,
    /// Its weights.
    pub vs: nn::VarStore,
    /// What the checkpoint says of itself.
    pub about: About<N::Config, D>,
    /// Which weights were taken.
    pub weights: Weights,
    /// Hash of the weights in use, 64 hexadecimal digits.
    pub hash: String,
}

impl<N: Network, D: Part> Trained<N, D> {
    /// Loads a checkpoint: a file, or the best one of a run folder.
    ///
    /// # Errors
    /// One line on a file that is missing, foreign, corrupt, or does not fit its own configuration.
    pub fn load(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        if path.is_dir() {
            ensure_opens(path, N::Config::NAME)?;
        }
        let path = run::model_file(path);
        let checkpoint = Checkpoint::load(&path)?;
        let about = About::<N::Config, D>::read(&checkpoint, &path)?;
        checkpoint.ensure_holds(&path, about.run.model.least_parameters())?;
        let mut vs = nn::VarStore::new(device);
        let model =
            N::build(&vs.root(), &about.run.model).with_context(|| path.display().to_string())?;
        let (weights, hash) =
            checkpoint.copy_weights_into(&path, weights, &optim::parameters(&vs))?;
        vs.freeze();
        Ok(Self { model, vs, about, weights, hash })
    }
}
