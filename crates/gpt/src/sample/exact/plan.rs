//! A decoder's weights in f32, in the order in which the kernels read them.

use core_layers::{
    encoded::Encoded,
    kernels::exact::{Kernel, Packed, Rotations, Tap},
};

use crate::{
    config::{DecoderConfig, FeedForward, Norm, Positions},
    weights::Weights,
};

/// Outputs of one part of a linear map: its weights stay in the second cache while all columns pass.
const SLAB: usize = 128;

/// `y = W x + b`, the bias first, then one chain of fused multiply-adds, inputs ascending.
#[derive(Debug)]
pub(super) struct Linear {
    slabs: Vec<Packed>,
    bias: Vec<f32>,
    inputs: usize,
    pub(super) outs: usize,
}

impl Linear {
    /// Several maps of one input, their outputs one after the other.
    fn new(weights: &Weights, names: &[String], has_biases: bool) -> Self {
        let parts = names.iter().map(|name| weights.of(&format!("{name}.weight")));
        let mut linear = Self::of(&parts.collect::<Vec<_>>());
        for name in names.iter().filter(|_| has_biases) {
            linear.bias.extend(weights.of(&format!("{name}.bias")).to_f32());
        }
        linear
    }

    fn of(parts: &[&Encoded]) -> Self {
        let inputs = parts[0].columns();
        let outs = parts.iter().map(|part| part.rows()).sum();
        let mut rows = parts.iter().flat_map(|part| (0..part.rows()).map(move |row| (*part, row)));
        let mut dense = vec![0.; SLAB.min(outs) * inputs];
        let mut slabs = Vec::new();
        for start in (0..outs).step_by(SLAB) {
            let live = SLAB.min(outs - start);
            for (to, (part, row)) in dense.chunks_exact_mut(inputs).zip(rows.by_ref().take(live)) {
                part.decode_row(row, to);
            }
            slabs.push(Packed::new(live, &[inputs], |_, k, out| dense[out * inputs + k]));
        }
        Self { slabs, bias: Vec::new(), inputs, outs }
    }

    /// Columns `[n, inputs]` to `[n, outs]`.
    pub(super) fn apply(&self, kernel: &Kernel, xs: &[f32], ys: &mut [f32]) {
        if self.bias.is_empty() {
            ys.fill(0.);
        } else {
            ys.chunks_exact_mut(self.outs).for_each(|ys| ys.copy_from_slice(&self.bias));
        }
        let tap = Tap { index: 0, xs, stride: self.inputs };
        let columns = xs.len() / self.inputs;
        for (index, slab) in self.slabs.iter().enumerate() {
            kernel.accumulate(slab, &[tap], columns, &mut ys[index * SLAB..], self.outs);
        }
    }
}

/// A norm's weights, and biases where it has them.
#[derive(Debug)]
pub(super) struct Scale {
    ws: Vec<f32>,
    bs: Vec<f32>,
    epsilon: f32,
}

impl Scale {
    fn new(weights: &Weights, name: &str, config: &DecoderConfig) -> Self {
        let of = |part: &str| weights.of(&format!("{name}.{part}")).to_f32();
        let bs = if config.norm == Norm::LayerNorm { of("bias") } else { Vec::new() };
        Self { ws: of("weight"), bs, epsilon: config.norm_epsilon as f32 }
    }

    /// Columns `[n, D]` to the same.
    pub(super) fn apply(&self, kernel: &Kernel, xs: &[f32], ys: &mut [f32]) {
        if self.bs.is_empty() {
            kernel.rms_norm(xs, &self.ws, self.epsilon, ys);
        } else {
            kernel.layer_norm(xs, (&self.ws, &self.bs), self.epsilon, ys);
        }
    }
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Scale,
    /// Queries, keys and values, one after the other.
    pub(super) attention: Linear,
    pub(super) output: Linear,
    pub(super) feed_forward_norm: Scale,
    /// The gate where there is one, then what it gates.
    pub(super) up: Linear,
    pub(super) down: Linear,
    /// Positions that it sees, where it does not see all.
    pub(super) band: Option<usize>,
}

/// A decoder, ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: DecoderConfig,
    /// Rows are decoded as their tokens come.
    pub(super) embedding: Encoded,
    pub(super) positions: Option<Encoded>,
    pub(super) rotations: Option<Rotations>,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Scale,
    pub(super) head: Linear,
}

impl Plan {
    /// # Panics
    /// If the weights do not fit, see [`Weights::ensure_fit`].
    pub(super) fn new(config: &DecoderConfig, weights: &Weights) -> Self {
        let layer = |index: i64| {
            let name = |part: &str| format!("layers.{index}.{part}");
            let linear = |parts: &[&str]| {
                let names: Vec<String> = parts.iter().map(|part| name(part)).collect();
                Linear::new(weights, &names, config.biases)
            };
            let is_gated = config.feed_forward == FeedForward::SwiGlu;
            let up: &[&str] = &["feed_forward.gate", "feed_forward.up"];
            Layer {
                attention_norm: Scale::new(weights, &name("attention_norm"), config),
                attention: linear(&["attention.query", "attention.key", "attention.value"]),
                output: linear(&["attention.output"]),
                feed_forward_norm: Scale::new(weights, &name("feed_forward_norm"), config),
                up: linear(if is_gated { up } else { &up[1..] }),
                down: linear(&["feed_forward.down"]),
                band: config.attention.band(index).map(|band| band as usize),
            }
        };
        let learned = config.positions == Positions::Learned;
        let head = if config.tied { "embedding.weight" } else { "head.weight" };
        let rotations = config.frequencies().map(|frequencies| {
            let mut rotations = Rotations::new(frequencies);
            rotations.reach(config.context as usize);
            rotations
        });
        Self {
            config: config.clone(),
            embedding: weights.of("embedding.weight").clone(),
            positions: learned.then(|| weights.of("position.weight").clone()),
            rotations,
            layers: (0..config.layers).map(layer).collect(),
            norm: Scale::new(weights, "norm", config),
            head: Linear::of(&[weights.of(head)]),
        }
    }
}
