//! What a training loop is made of; the loop itself is written out in each model crate.
//!
//! [`TrainConfig`] is what it can be told, [`TrainState`] what it carries from step to step and saves, [`About`] what a
//! checkpoint says of itself, [`Window`] the means since the last report, [`Report`] and [`Ending`] what it says.

mod about;
mod config;
mod peak;
mod report;
mod run;
mod state;
mod trained;
mod window;

pub use about::{About, ensure_opens};
pub use config::TrainConfig;
pub use peak::matmul_peak;
pub use report::{Ending, Report, watch};
pub use run::{Architecture, Part, Run};
pub use state::TrainState;
pub use trained::{Network, Trained};
pub use window::Window;

use crate::random;

/// Seeds libtorch's generator for a micro-batch: dropout depends on the step, not on what happened since the process
/// started.
pub fn reseed(seed: u64, step: u64, micro_batch: usize) {
    let seed = random::uniform_at(seed, "dropout", step, micro_batch as u64);
    tch::manual_seed((seed * (1u64 << 53) as f64) as i64);
}
