//! Everything a run of this crate can be told.

mod model;

pub use model::{Attention, DecoderConfig, FeedForward, Norm, Positions, Scaling};
