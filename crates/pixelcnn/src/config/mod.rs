//! Everything a run of this crate can be told.

mod gated;
mod image;
mod model;
mod presets;

pub use gated::GatedConfig;
pub use image::{Head, ImageConfig, Input};
pub use model::{MadeConfig, ModelConfig, NadeConfig, Order, PixelCnnConfig, SimpleConfig};
pub use presets::{PRESETS, preset};

use core_layers::{
    ConfigError,
    training::{self, Architecture, Part},
};

use crate::data::DataConfig;

/// A model, its images and its training.
pub type Run = training::Run<ModelConfig, DataConfig>;

impl Part for ModelConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

impl Architecture for ModelConfig {
    const NAME: &'static str = "pixelcnn";

    fn least_parameters(&self) -> i64 {
        self.least_parameters()
    }
}

impl Part for DataConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_survives_json() -> anyhow::Result<()> {
        for name in PRESETS {
            let run = preset(name).expect("a listed preset exists");
            run.validate()?;
            assert_eq!(serde_json::from_str::<Run>(&serde_json::to_string(&run)?)?, run, "{name}");
        }
        assert!(preset("no such preset").is_none());
        Ok(())
    }

    #[test]
    fn what_only_text_models_heed_is_refused() {
        let mut run = preset("digits").expect("the demo");
        run.train.z_loss = 1e-4;
        let refusal = run.validate().unwrap_err().to_string();
        assert!(refusal.starts_with("train.z_loss is 0.0001, but must be 0"), "{refusal}");
    }

    #[test]
    fn an_unknown_field_is_refused() -> anyhow::Result<()> {
        let mut json = serde_json::to_value(preset("digits").expect("the demo"))?;
        json["model"]["chanels"] = 3.into();
        let error = serde_json::from_value::<Run>(json).unwrap_err().to_string();
        assert!(error.contains("chanels"), "{error}");
        Ok(())
    }
}
