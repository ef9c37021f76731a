//! The feed-forward network of a layer, the same at every position.

use core_layers::feed_forward;
use tch::{Tensor, nn, nn::Module};

use super::linear::Linear;
use crate::config::{DecoderConfig, FeedForward};

/// `down(act(up(x)))`, or `down(silu(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct FeedForwardNetwork {
    pub(crate) gate: Option<Linear>, // D -> F
    pub(crate) up: Linear,           // D -> F
    pub(crate) down: Linear,         // F -> D
    pub(super) kind: FeedForward,
}

impl FeedForwardNetwork {
    /// `residual_std` is that of what writes to the residual stream.
    pub(crate) fn new(vs: &nn::Path<'_>, config: &DecoderConfig, residual_std: f64) -> Self {
        let (d, f) = (config.d_model, config.d_ff);
        let inner = |name| Linear::new(&(vs / name), [f, d], config.initial_std, config.biases);
        let kind = config.feed_forward;
        Self {
            gate: (kind == FeedForward::SwiGlu).then(|| inner("gate")),
            up: inner("up"),
            down: Linear::new(&(vs / "down"), [d, f], residual_std, config.biases),
            kind,
        }
    }
}

impl Module for FeedForwardNetwork {
    /// # Shape
    /// `[B, T, D]` to the same.
    fn forward(&self, xs: &Tensor) -> Tensor {
        let up = self.up.forward(xs); // [B, T, F]
        let inner = match (&self.gate, self.kind) {
            (Some(gate), _) => feed_forward::swiglu(&gate.forward(xs), &up),
            (None, FeedForward::Gelu) => up.gelu("none"),
            (None, _) => feed_forward::gelu_tanh(&up),
        };
        self.down.forward(&inner)
    }
}
