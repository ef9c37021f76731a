//! Convolutions that never look at what they predict.

mod gated;
mod masked2d;

pub use gated::gate;
pub use masked2d::{Mask, MaskedConv2d, MaskedConv2dConfig, Tap};
