//! One layer: `x = x + attention(norm(x))`, `x = x + feed_forward(norm(x))`.

use core_layers::{
    kernels::step::{Activation, Layer},
    norm::Norm,
    rope::Turn,
};
use tch::{Tensor, nn, nn::Module};

use super::{
    attention::{Attend, SelfAttention},
    feed_forward::FeedForwardNetwork,
};
use crate::config::{self, DecoderConfig, FeedForward};

/// One layer.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) attention_norm: Norm,
    pub(crate) attention: SelfAttention,
    pub(crate) feed_forward_norm: Norm,
    pub(crate) feed_forward: FeedForwardNetwork,
    dropout: f64,
}

impl Block {
    pub(crate) fn new(vs: &nn::Path<'_>, config: &DecoderConfig) -> Self {
        let residual_std = config.initial_std / (2. * config.layers as f64).sqrt();
        Self {
            attention_norm: norm(&(vs / "attention_norm"), config),
            attention: SelfAttention::new(&(vs / "attention"), config, residual_std),
            feed_forward_norm: norm(&(vs / "feed_forward_norm"), config),
            feed_forward: FeedForwardNetwork::new(&(vs / "feed_forward"), config, residual_std),
            dropout: config.dropout,
        }
    }

    /// What enters it is `xs` and, as `normed`, what its first norm makes of that; `attend` as in [`SelfAttention::forward`].
    ///
    /// # Shape
    /// Two `[B, T, D]` to the same.
    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        normed: &Tensor,
        turn: Option<&Turn>,
        train: bool,
        attend: Attend<'_>,
    ) -> Stream {
        let found = self.attention.forward(normed, turn, train, attend);
        let (xs, normed) = self.feed_forward_norm.add(xs, &dropped(found, self.dropout, train));
        let made = self.feed_forward.forward(&normed);
        Stream { xs, made: Some(dropped(made, self.dropout, train)) }
    }

    /// Whether its weights are kept as they were delivered too, which are then multiplied one by one.
    pub(super) fn is_packed(&self) -> bool {
        self.attention.query.is_packed()
    }

    /// Its weights, as a kernel of a whole layer reads them.
    pub(super) fn as_step(&self) -> Layer<'_> {
        let (attention, feed_forward) = (&self.attention, &self.feed_forward);
        Layer {
            attention_norm: &self.attention_norm,
            query: attention.query.as_map(),
            key: attention.key.as_map(),
            value: attention.value.as_map(),
            output: attention.output.as_map(),
            feed_forward_norm: &self.feed_forward_norm,
            up: feed_forward.up.as_map(),
            activation: match (&feed_forward.gate, feed_forward.kind) {
                (Some(gate), _) => Activation::SwiGlu { gate: gate.as_map() },
                (None, FeedForward::Gelu) => Activation::Gelu,
                (None, _) => Activation::GeluTanh,
            },
            down: feed_forward.down.as_map(),
            heads: attention.heads,
        }
    }
}

/// What runs on beside the layers: `[B, T, D]`, and what the last layer made, which the next norm adds in its own pass.
pub(crate) struct Stream {
    pub(crate) xs: Tensor,
    pub(crate) made: Option<Tensor>,
}

impl Stream {
    /// All of it.
    pub(crate) fn sum(&self) -> Tensor {
        self.made.as_ref().map_or_else(|| self.xs.shallow_clone(), |made| &self.xs + made)
    }

    /// All of it, and its norm.
    pub(crate) fn normed(&self, norm: &Norm) -> (Tensor, Tensor) {
        match &self.made {
            Some(made) => norm.add(&self.xs, made),
            None => (self.xs.shallow_clone(), norm.forward(&self.xs)),
        }
    }
}

/// The norm that a configuration asks for.
pub(crate) fn norm(vs: &nn::Path<'_>, config: &DecoderConfig) -> Norm {
    let new = match config.norm {
        config::Norm::LayerNorm => Norm::layer,
        config::Norm::RmsNorm => Norm::root_mean_square,
    };
    new(vs, config.d_model, config.norm_epsilon)
}

/// Dropout, in training and where there is any.
pub(crate) fn dropped(xs: Tensor, share: f64, train: bool) -> Tensor {
    if train && share > 0. { xs.dropout(share, true) } else { xs }
}
