//! What a run can be told. Values are checked when a model is built.

mod model;
mod presets;
mod prior;

use core_layers::{
    ConfigError,
    training::{self, Part, TrainConfig},
};
use pixelcnn::data::DataConfig;
use serde::{Deserialize, Serialize};

pub use model::{Reconstruction, VqVaeConfig};
pub use presets::{PRESETS, preset};
pub use prior::{CodesConfig, PriorConfig};

/// The first stage alone: encoder, codebooks and decoder on images.
pub type AutoencoderRun = training::Run<VqVaeConfig, DataConfig>;

/// Everything from pictures to priors: what `config.json` of a run holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Encoder, codebooks and decoder.
    pub model: VqVaeConfig,
    /// The images.
    pub data: DataConfig,
    /// The training of the first stage.
    pub train: TrainConfig,
    /// The prior of each level, from the top down.
    pub priors: Vec<PriorConfig>,
    /// The training of each prior.
    pub prior_train: TrainConfig,
}

impl Pipeline {
    /// Checks everything that can be known before data is read.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.autoencoder().validate()?;
        let prior =
            self.prior_train.validate().and_then(|()| self.prior_train.ensure_not_of_text());
        prior.map_err(|error| error.under("prior_"))?;
        for (field, steps) in [
            ("train.num_steps", self.train.num_steps),
            ("prior_train.num_steps", self.prior_train.num_steps),
        ] {
            ConfigError::ensure(steps >= 1, field, steps, "at least 1")?;
        }
        let (found, wanted) = (self.priors.len(), self.model.factors.len());
        let rule = format!("as many as model.factors: {wanted}");
        ConfigError::ensure(found == wanted, "priors", found, &rule)?;
        self.priors.iter().try_for_each(PriorConfig::validate)
    }

    /// Its first stage.
    pub fn autoencoder(&self) -> AutoencoderRun {
        let Self { model, data, train, .. } = self.clone();
        AutoencoderRun { model, data, train }
    }
}

impl training::Architecture for VqVaeConfig {
    const NAME: &'static str = "vqvae";

    fn least_parameters(&self) -> i64 {
        self.least_parameters()
    }
}

impl Part for VqVaeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}
