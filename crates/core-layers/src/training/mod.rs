//! What a training loop is made of; the loop itself is written out in each model crate.
//!
//! [`TrainConfig`] is what it can be told, [`TrainState`] what it carries from step to step and saves, [`About`] what a
//! checkpoint says of itself, [`Window`] the means since the last report, [`Report`] and [`Ending`] what it says.

mod about;
mod config;
mod report;
mod state;
mod window;

pub use about::About;
pub use config::TrainConfig;
pub use report::{Ending, Report, ReportBar};
pub use state::TrainState;
pub use window::Window;

use serde::{Serialize, de::DeserializeOwned};

use crate::{ConfigError, random};

/// The configuration of a run: what `config.json` and the checkpoints of a model crate hold.
pub trait RunConfig: Clone + Serialize + DeserializeOwned {
    /// What marks a checkpoint as the crate's.
    const ARCHITECTURE: &'static str;

    /// Its training.
    fn train(&self) -> &TrainConfig;

    /// Checks what a foreign checkpoint says of its model, before anything is made from it.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad field.
    fn validate_model(&self) -> Result<(), ConfigError>;
}

/// Seeds libtorch's generator for a micro-batch: dropout depends on the step, not on what happened since the process
/// started.
pub fn reseed(seed: u64, step: u64, micro_batch: usize) {
    let seed = random::uniform_at(seed, "dropout", step, micro_batch as u64);
    tch::manual_seed((seed * (1u64 << 53) as f64) as i64);
}
