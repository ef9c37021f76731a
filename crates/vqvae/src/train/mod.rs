//! The stages: an autoencoder, its codes, and a prior for each level of them.

mod autoencoder;
mod classifier;
mod collapse;
mod pictures;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use core_layers::{
    dataset::Split,
    run::{CONFIG, RunFolder},
    training::{self, Ending, Report},
};
use pixelcnn::{config::ModelConfig, data::Dataset};
use tch::Device;

use crate::{
    config::{CodesConfig, Pipeline},
    data::{AboutCodes, Codes, SplitCodes},
    evaluate,
    trained::{TrainedAutoencoder, vectors},
};

pub use autoencoder::train_autoencoder;
pub use classifier::{judge, train_classifier};
pub use collapse::{LATENT, Terms, noise, terms, train_vae};
pub(crate) use pictures::pairs;

/// The folder of one stage, locked: a new one, or that of an earlier attempt.
///
/// # Errors
/// A folder that cannot be made, or in which another process trains.
pub fn stage_folder(path: &Path) -> Result<RunFolder> {
    let is_begun = path.join(CONFIG).is_file();
    Ok(if is_begun { RunFolder::resume(path)? } else { RunFolder::create(path, true)? })
}

/// Codes of all images under an autoencoder: those in the file `path` where it made them, or new ones, which are written
/// there. `tick` hears of images done.
///
/// # Errors
/// A file that cannot be read or written.
pub fn extract_codes(
    autoencoder: &TrainedAutoencoder,
    dataset: &Dataset,
    path: &Path,
    device: Device,
    tick: &mut dyn FnMut(usize),
) -> Result<Codes> {
    let model = &autoencoder.model;
    if path.exists() {
        let codes = Codes::load(path, model.config())?;
        if codes.about.autoencoder == autoencoder.hash {
            return Ok(codes);
        }
    }
    let about = AboutCodes {
        autoencoder: autoencoder.hash.clone(),
        dataset: dataset.name.clone(),
        label_names: dataset.label_names.clone(),
        protocol: dataset.protocol.clone(),
    };
    let splits = Split::ALL.map(|split| {
        let images = dataset.split(split);
        let levels = evaluate::encode(model, images, device, tick);
        SplitCodes { levels, labels: images.labels.clone() }
    });
    let codes = Codes::new(about, splits)?;
    codes.save(path).context("saving the codes")?;
    Ok(codes)
}

/// The prior of one level, ready to be trained.
#[derive(Debug)]
pub struct PriorStage {
    run: training::Run<ModelConfig, CodesConfig>,
    dataset: Dataset,
}

impl PriorStage {
    /// The prior of level `level`, from the bottom up, on codes of `autoencoder`.
    ///
    /// # Errors
    /// Codes of another autoencoder.
    pub fn new(
        pipeline: &Pipeline,
        autoencoder: &TrainedAutoencoder,
        codes: &Codes,
        level: usize,
    ) -> Result<Self> {
        let config = autoencoder.model.config();
        let (made_by, this) = (&codes.about.autoencoder, &autoencoder.hash);
        ensure!(
            made_by == this,
            "the codes are those of autoencoder {}, this one is {}",
            &made_by[..16],
            &this[..16]
        );
        let levels = config.factors.len();
        let above = (level + 1 < levels).then(|| vectors(&autoencoder.model, level + 1));
        let labels = codes.about.label_names.len() as i64;
        let run = training::Run {
            model: pipeline.priors[levels - 1 - level].model(config, level, labels),
            data: CodesConfig { level, autoencoder: this.clone(), codes: codes.hash.clone() },
            train: pipeline.prior_train.clone(),
        };
        let dataset = codes.dataset(level, config.quantiser.codes as u32, above.as_ref());
        Ok(Self { run, dataset })
    }

    /// Trains it in `folder`, as [`pixelcnn::train::train`].
    ///
    /// # Errors
    /// As there.
    pub fn train(
        &self,
        folder: &RunFolder,
        stop: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report),
    ) -> Result<Ending> {
        pixelcnn::train::fit(&self.run, &self.dataset, folder, stop, report)
    }
}
