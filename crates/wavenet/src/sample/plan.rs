//! The weights of a network in the order in which the engines read them.

use core_layers::{
    Conditional,
    conv::CausalConv1d,
    kernels::{bf16, exact},
};

use crate::{
    config::{Head, WaveNetConfig},
    model::{FRAME_KERNEL, Upsampler, WaveNet, to_vec},
};

/// Weights in the order in which an engine's kernel reads them.
pub(super) trait Pack {
    /// Packs `weight(tap, k, out)` for every `out < outs` and `k < taps[tap]`.
    fn pack(outs: usize, taps: &[usize], weight: impl Fn(usize, usize, usize) -> f32) -> Self;

    /// Numbers that a gate's `channels` take in a row of all gates.
    fn gate_width(channels: usize) -> usize;
}

impl Pack for exact::Packed {
    fn pack(outs: usize, taps: &[usize], weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        Self::new(outs, taps, weight)
    }

    fn gate_width(channels: usize) -> usize {
        channels
    }
}

impl Pack for bf16::Packed {
    fn pack(outs: usize, taps: &[usize], weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        Self::new(outs, taps, weight)
    }

    /// Whole pairs.
    fn gate_width(channels: usize) -> usize {
        channels.next_multiple_of(2)
    }
}

/// A linear map and its bias.
#[derive(Debug)]
pub(super) struct Linear<P> {
    pub(super) weights: P,
    pub(super) bias: Vec<f32>,
}

impl<P: Pack> Linear<P> {
    /// The taps of `conv`, and behind them those of `more`, which has no bias.
    fn new(conv: &CausalConv1d, more: Option<&CausalConv1d>) -> Self {
        let mut taps = Vec::new();
        let mut all = Vec::new(); // of each tap [O, I]
        for conv in [Some(conv), more].into_iter().flatten() {
            let inputs = conv.weight().size()[1] as usize;
            for tap in 0..conv.config().kernel_size {
                taps.push(inputs);
                all.push(to_vec(&conv.weight().select(2, tap)));
            }
        }
        let outs = conv.weight().size()[0] as usize;
        let weights = P::pack(outs, &taps, |tap, k, out| all[tap][out * taps[tap] + k]);
        Self { weights, bias: conv.bias().map_or_else(|| vec![0.; outs], to_vec) }
    }

    /// The skip path: gates of all layers `[layers, G]`, each with room for what it takes in a row.
    fn skip(conv: &CausalConv1d, layers: usize, gate: usize) -> Self {
        let ws = to_vec(conv.weight()); // [S, layers G]
        let (width, outs) = (P::gate_width(gate), conv.weight().size()[0] as usize);
        let weights = P::pack(outs, &[layers * width], |_, k, out| {
            let (layer, channel) = (k / width, k % width);
            if channel < gate { ws[(out * layers + layer) * gate + channel] } else { 0. }
        });
        Self { weights, bias: conv.bias().map_or_else(|| vec![0.; outs], to_vec) }
    }
}

/// One dilated layer.
#[derive(Debug)]
pub(super) struct Layer<P> {
    pub(super) dilation: usize,
    pub(super) gates: Linear<P>, // k taps of R, then one of C -> 2 G
    pub(super) speaker: Option<Vec<f32>>, // [speakers, 2 G]
    pub(super) residual: Option<Linear<P>>, // G -> R
}

impl<P> Layer<P> {
    /// Writes bias and speaker of each lane: `[2 G][lanes]`.
    pub(super) fn start(&self, kernel: exact::Kernel, speakers: Option<&[u32]>, to: &mut [f32]) {
        kernel.fill(&self.gates.bias, 1, to, 0);
        let (Some(table), Some(speakers)) = (&self.speaker, speakers) else { return };
        let (outs, lanes) = (self.gates.bias.len(), kernel.lanes());
        for (lane, &speaker) in speakers.iter().enumerate() {
            for (out, added) in table[speaker as usize * outs..][..outs].iter().enumerate() {
                to[out * lanes + lane] += added;
            }
        }
    }
}

/// How a level enters.
#[derive(Debug)]
pub(super) enum First {
    /// Its vectors, one for each tap `[L, k0, R]`.
    Table(Vec<f32>),
    /// A convolution of one number, 2 v / (L - 1) - 1.
    Scalar(Linear<exact::Packed>),
}

/// The local condition's weights.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) ws: Vec<f32>,            // [C, F, 3]
    pub(super) bs: Vec<f32>,            // [C]
    pub(super) interpolation: Vec<f32>, // [C, 2 h]
    pub(super) hop: usize,
    pub(super) features: usize,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Plan<P> {
    pub(super) first: First,
    pub(super) first_taps: usize,
    pub(super) taps: usize,
    pub(super) layers: Vec<Layer<P>>,
    pub(super) skip: Linear<P>,
    pub(super) head: Linear<P>,
    pub(super) output: Linear<P>,
    pub(super) condition: Option<Condition>,
    pub(super) levels: usize,
    pub(super) residual: usize,
    pub(super) gate: usize,
    pub(super) is_mixture: bool,
}

impl<P: Pack> Plan<P> {
    pub(super) fn new(model: &WaveNet) -> Self {
        let config: &WaveNetConfig = model.config();
        let layers = model.layers.iter().zip(&config.dilations).map(|(layer, &dilation)| Layer {
            dilation: dilation as usize,
            gates: Linear::new(&layer.dilated, layer.condition.as_ref()),
            speaker: layer.speaker.as_ref().map(to_vec),
            residual: layer.residual.as_ref().map(|conv| Linear::new(conv, None)),
        });
        let first = match (&model.embedding, &model.first) {
            (Some(table), _) => First::Table(to_vec(table)),
            (None, Some(conv)) => First::Scalar(Linear::new(conv, None)),
            (None, None) => unreachable!("a level enters as a vector or as a number"),
        };
        Self {
            first,
            first_taps: config.first_kernel_size as usize,
            taps: config.kernel_size as usize,
            layers: layers.collect(),
            skip: Linear::skip(&model.skip, model.layers.len(), config.gate_channels as usize),
            head: Linear::new(&model.head, None),
            output: Linear::new(&model.output, None),
            condition: model.upsampler.as_ref().map(|it| Condition::new(it, config)),
            levels: config.levels as usize,
            residual: config.residual_channels as usize,
            gate: config.gate_channels as usize,
            is_mixture: config.head != Head::Softmax,
        }
    }
}

impl<P> Plan<P> {
    /// Room for what the head gives for `rows` clips, a row a clip.
    pub(super) fn room<'o>(&self, out: &'o mut Conditional, rows: usize) -> &'o mut [f32] {
        let outputs = self.output.bias.len();
        if self.is_mixture {
            out.reset_mixtures(rows, self.levels, outputs / 3)
        } else {
            out.reset(rows, self.levels)
        }
    }

    /// Turns the head's outputs for one clip into what they stand for.
    pub(super) fn finish(&self, outputs: &mut [f32]) {
        if self.is_mixture {
            WaveNet::to_mixture(outputs);
        }
    }
}

impl Condition {
    fn new(upsampler: &Upsampler, config: &WaveNetConfig) -> Self {
        let [ws, bs, interpolation] = upsampler.parameters().map(to_vec);
        Self { ws, bs, interpolation, hop: config.hop as usize, features: config.features as usize }
    }

    pub(super) fn channels(&self) -> usize {
        self.bs.len()
    }

    /// `g` of one frame: the three frames `[3, F]` around it, taps in order, features ascending.
    pub(super) fn frame(&self, frames: &[f32], channel: usize) -> f32 {
        let ws = &self.ws[channel * self.features * FRAME_KERNEL..][..self.features * FRAME_KERNEL];
        let mut sum = self.bs[channel];
        for tap in 0..FRAME_KERNEL {
            for feature in 0..self.features {
                let x = frames[tap * self.features + feature];
                sum = ws[feature * FRAME_KERNEL + tap].mul_add(x, sum);
            }
        }
        sum
    }
}
