//! Everything a run of this crate can be told.

mod describe;
mod frequencies;
mod model;
mod presets;

pub use describe::{Bytes, Description};
pub use model::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling};
pub use presets::{PRESETS, preset};
