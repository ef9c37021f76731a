//! A trained network: weights, and everything that they say about themselves.

pub use core_layers::checkpoint::Weights;
use core_layers::{
    ConfigError,
    training::{self, Network},
};
use tch::nn;

use crate::{
    config::{Run, WaveNetConfig},
    data::{DataConfig, Dataset},
    model::WaveNet,
};

/// What a checkpoint says of itself; its labels are the speakers.
pub type About = training::About<WaveNetConfig, DataConfig>;

/// Before the first step of `run` on `dataset`.
pub(crate) fn about(run: &Run, dataset: &Dataset) -> About {
    About {
        run: run.clone(),
        dataset: dataset.name.clone(),
        protocol: dataset.protocol.clone(),
        label_names: dataset.speakers.clone(),
        data_hash: dataset.hash.clone(),
        step: 0,
        valid_nats: None,
    }
}

/// A network of this crate with its weights, ready to use.
///
/// ```no_run
/// use core_layers::{Engine, sampling::{Draws, SamplingConfig, draw_in_parallel}};
/// use wavenet::{model::SoundContext, sample::ExactEngine, trained::{Trained, Weights}};
/// let trained = Trained::load("model.safetensors".as_ref(), Weights::Ema, tch::Device::Cpu)?;
/// let engine = ExactEngine::new(&trained.model, 8000)?;
/// let mut levels = ndarray::Array2::zeros((1, 8000));
/// let draws = Draws { config: SamplingConfig::default(), seed: 1, known: 0 };
/// draw_in_parallel(&engine, &SoundContext::none(1), levels.view_mut(), draws, 1, &|_| {});
/// let quantizer = trained.about.run.data.quantizer();
/// let sound: Vec<f32> = levels.iter().map(|&level: &u32| quantizer.decode(level as u16)).collect();
/// # anyhow::Ok(())
/// ```
pub type Trained = training::Trained<WaveNet, DataConfig>;

impl Network for WaveNet {
    type Config = WaveNetConfig;

    fn build(vs: &nn::Path<'_>, config: &WaveNetConfig) -> Result<Self, ConfigError> {
        Self::new(vs, config)
    }
}
