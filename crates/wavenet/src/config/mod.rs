//! Everything a run of this crate can be told.

mod model;
mod presets;

pub use core_layers::training::TrainConfig;
pub use model::{Head, Input, WaveNetConfig};
pub use presets::{PRESETS, preset};

use core_layers::{
    ConfigError,
    training::{self, Architecture, Part},
};

use crate::data::DataConfig;

/// A network, its sound and its training, in which an example is a window of a clip.
pub type Run = training::Run<WaveNetConfig, DataConfig>;

impl Part for WaveNetConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

impl Architecture for WaveNetConfig {
    const NAME: &'static str = "wavenet";

    fn least_parameters(&self) -> i64 {
        self.parameters()
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
    fn presets_see_as_far_as_they_should() {
        let fields = PRESETS.map(|name| preset(name).expect("listed").model.receptive_field());
        assert_eq!(
            PRESETS.into_iter().zip(fields).collect::<Vec<_>>(),
            [
                ("demo", 512),
                ("speech", 3070),
                ("speaker", 3070),
                ("vocoder", 1024),
                ("text", 3070),
                ("speech-16bit", 3070),
                ("ibab", 5117),
                ("noise", 32),
                ("harmonic", 512),
            ]
        );
    }
}
