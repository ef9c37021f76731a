//! The weights of one layer.

use core_layers::{
    encoded::Encoded,
    kernels::decode::{Norm, Packed},
};

use crate::{
    config::{self, DecoderConfig, FeedForward},
    weights::Weights,
};

/// A matrix and what is added to its products.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weights: Packed,
    pub(super) bias: Option<Vec<f32>>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Norm,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) feed_forward_norm: Norm,
    pub(super) gate: Option<Linear>,
    pub(super) up: Linear,
    pub(super) down: Linear,
    /// Positions that it sees; all where there is none.
    pub(super) band: Option<usize>,
}

/// Names of all matrices but the tables, in the order in which a token's pass reads them; the head is the last.
pub(super) fn matrices(config: &DecoderConfig) -> Vec<String> {
    let mut names = Vec::new();
    for layer in 0..config.layers {
        names.extend(parts(config).map(|part| format!("layers.{layer}.{part}.weight")));
    }
    names.push(if config.tied { "embedding.weight" } else { "head.weight" }.into());
    names
}

fn parts(config: &DecoderConfig) -> impl Iterator<Item = &'static str> {
    let gate = (config.feed_forward == FeedForward::SwiGlu).then_some("feed_forward.gate");
    ["attention.query", "attention.key", "attention.value", "attention.output"]
        .into_iter()
        .chain(gate)
        .chain(["feed_forward.up", "feed_forward.down"])
}

/// The norm of a name.
pub(super) fn norm(config: &DecoderConfig, weights: &Weights, name: &str) -> Norm {
    let centred = config.norm == config::Norm::LayerNorm;
    Norm {
        weight: weights.of(&format!("{name}.weight")).to_f32(),
        bias: centred.then(|| weights.of(&format!("{name}.bias")).to_f32()),
        epsilon: config.norm_epsilon as f32,
        centred,
    }
}

impl Layer {
    /// Takes its matrices from `packed`, in the order of [`matrices`].
    pub(super) fn new(
        config: &DecoderConfig,
        weights: &Weights,
        index: i64,
        packed: &mut impl Iterator<Item = Packed>,
    ) -> Self {
        let mut linear = |part: &str| Linear {
            weights: packed.next().expect("a matrix for each name"),
            bias: config
                .biases
                .then(|| Encoded::to_f32(weights.of(&format!("layers.{index}.{part}.bias")))),
        };
        let norm = |part: &str| norm(config, weights, &format!("layers.{index}.{part}"));
        Self {
            attention_norm: norm("attention_norm"),
            query: linear("attention.query"),
            key: linear("attention.key"),
            value: linear("attention.value"),
            output: linear("attention.output"),
            feed_forward_norm: norm("feed_forward_norm"),
            gate: (config.feed_forward == FeedForward::SwiGlu).then(|| linear("feed_forward.gate")),
            up: linear("feed_forward.up"),
            down: linear("feed_forward.down"),
            band: config.attention.band(index).map(|it| it as usize),
        }
    }

    /// The matrices that read what the attention norm gives.
    pub(super) fn attention_readers(&self) -> [&Packed; 3] {
        [&self.query.weights, &self.key.weights, &self.value.weights]
    }

    /// The matrices that read what the feed-forward norm gives.
    pub(super) fn feed_forward_readers(&self) -> impl Iterator<Item = &Packed> {
        self.gate.iter().chain([&self.up]).map(|it| &it.weights)
    }

    pub(super) fn bytes(&self) -> usize {
        let rest = [&self.output.weights, &self.down.weights];
        let all = self.attention_readers().into_iter().chain(self.feed_forward_readers());
        all.chain(rest).map(Packed::bytes).sum()
    }
}
