//! A trained network: weights, and everything that they say about themselves.

use std::path::Path;

use anyhow::{Context as _, Result};
pub use core_layers::checkpoint::Weights;
use core_layers::{checkpoint::Checkpoint, optim, run, training};
use tch::{Device, nn};

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

/// A network with its weights, ready to evaluate, speak and compress.
#[derive(Debug)]
pub struct Trained {
    /// The network.
    pub model: WaveNet,
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
    ///
    /// # Errors
    /// One line on a file that is missing, foreign, corrupt, or does not fit its own configuration.
    pub fn load(path: &Path, weights: Weights, device: Device) -> Result<Self> {
        let path = run::model_file(path);
        let checkpoint = Checkpoint::load(&path)?;
        let about = About::read(&checkpoint, &path)?;
        checkpoint.ensure_holds(&path, about.run.model.parameters())?;
        let mut vs = nn::VarStore::new(device);
        let model = WaveNet::new(&vs.root(), &about.run.model)
            .with_context(|| path.display().to_string())?;
        let (weights, hash) =
            checkpoint.copy_weights_into(&path, weights, &optim::parameters(&vs))?;
        vs.freeze();
        Ok(Self { model, vs, about, weights, hash })
    }

    /// Samples per second, Hz.
    pub fn sample_rate(&self) -> u32 {
        self.about.run.model.sample_rate
    }
}
