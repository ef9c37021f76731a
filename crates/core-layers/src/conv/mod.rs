//! Convolutions that never look at what they predict.

mod causal1d;
mod gated;
mod masked2d;

pub use causal1d::{CausalConv1d, CausalConv1dConfig};
pub use gated::gate;
pub use masked2d::{Mask, MaskedConv2d, MaskedConv2dConfig, Tap};
