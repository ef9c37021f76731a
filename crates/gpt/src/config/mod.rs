//! Everything a run of this crate can be told.

mod describe;
mod frequencies;
mod lora;
mod model;
mod presets;
mod runs;

pub use core_layers::training::TrainConfig;
pub use describe::{Bytes, Description};
pub use lora::{LoraConfig, Target};
pub use model::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling};
pub use presets::{PRESETS, preset};
pub use runs::{RUNS, run};

use core_layers::training;

use crate::data::DataConfig;

/// A decoder, its text and its training, in which an example is a window of tokens.
pub type Run = training::Run<DecoderConfig, DataConfig>;
