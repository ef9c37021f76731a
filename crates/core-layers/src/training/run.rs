//! What a run is told: a model, its data and its training.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::TrainConfig;
use crate::ConfigError;

/// A part of a run that a model crate brings: the configuration of its models, or of its data.
pub trait Part: Clone + Serialize + DeserializeOwned {
    /// Checks everything that can be known before data is read.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    fn validate(&self) -> Result<(), ConfigError>;
}

/// The configuration of a crate's models.
pub trait Architecture: Part {
    /// What marks a checkpoint as the crate's.
    const NAME: &'static str;

    /// Whether the crate's models are of text, so that its training heeds what is for these.
    const IS_TEXT: bool = false;

    /// Parameters of the model at the least: what a checkpoint must hold before they are allocated.
    fn least_parameters(&self) -> i64;
}

/// A model, its data and its training: what `config.json` of a run holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run<M, D> {
    /// The network.
    pub model: M,
    /// What it learns.
    pub data: D,
    /// The training.
    pub train: TrainConfig,
}

impl<M: Architecture, D: Part> Run<M, D> {
    /// Checks everything that can be known before data is read.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate()?;
        self.data.validate()?;
        if !M::IS_TEXT {
            self.train.ensure_not_of_text()?;
        }
        self.train.validate()
    }
}
