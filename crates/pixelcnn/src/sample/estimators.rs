//! NADE and MADE on the exact engine. Letters: N pixels, H hidden units, L levels.

use core_layers::{
    Conditional, Stepper,
    kernels::exact::{Buffer, Kernel, Packed, Tap, Variant},
};

use crate::{
    config::ImageConfig,
    model::{Made, Nade},
};

/// The level `v` of `levels` on `[-1, 1]`, as the models' inputs are.
fn ordinal(v: u32, levels: usize) -> f32 {
    v as f32 * (2. / (levels - 1) as f64) as f32 - 1.
}

/// One tap over all of `xs`.
fn whole(xs: &[f32]) -> [Tap<'_>; 1] {
    [Tap { index: 0, xs, stride: 0 }]
}

/// A NADE with packed weights, in draw order.
#[derive(Debug)]
pub(super) struct NadePlan {
    inputs: Vec<Packed>,  // by draw: 1 -> H
    outputs: Vec<Packed>, // by draw: H -> L
    bias: Vec<f32>,       // [H]
    output_bias: Vec<Vec<f32>>,
    levels: usize,
}

impl NadePlan {
    pub(super) fn new(nade: &Nade, image: &ImageConfig) -> Self {
        let weights = nade.weights();
        let levels = image.levels as usize;
        let hidden = weights.bias.len();
        let positions = || nade.order().iter().map(|&position| position as usize);
        let input =
            |i: usize| Packed::new(hidden, &[1], |_, _, out| weights.inputs[i * hidden + out]);
        let output = |i: usize| {
            Packed::new(levels, &[hidden], |_, k, out| {
                weights.outputs[(i * hidden + k) * levels + out]
            })
        };
        Self {
            inputs: positions().map(input).collect(),
            outputs: positions().map(output).collect(),
            output_bias: positions()
                .map(|i| weights.output_bias[i * levels..(i + 1) * levels].to_vec())
                .collect(),
            bias: weights.bias.clone(),
            levels,
        }
    }

    pub(super) fn stepper(&self, variant: Variant, rows: usize) -> NadeStepper<'_> {
        let kernel = Kernel::new(variant, rows);
        let mut hidden = Buffer::new(self.bias.len() * kernel.lanes());
        kernel.fill(&self.bias, 1, &mut hidden, 0);
        let activations = Buffer::new(hidden.len());
        NadeStepper { plan: self, kernel, rows, hidden, activations, step: 0 }
    }
}

pub(super) struct NadeStepper<'p> {
    plan: &'p NadePlan,
    kernel: Kernel,
    rows: usize,
    hidden: Buffer, // [H][lanes], before the sigmoid
    activations: Buffer,
    step: usize,
}

impl Stepper for NadeStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let lanes = self.kernel.lanes();
        self.activations.copy_from_slice(&self.hidden);
        self.kernel.sigmoid(&mut self.activations);
        let mut logits = Buffer::new(self.plan.levels * lanes);
        self.kernel.fill(&self.plan.output_bias[self.step], 1, &mut logits, 0);
        self.kernel.accumulate(
            &self.plan.outputs[self.step],
            &whole(&self.activations),
            1,
            &mut logits,
            0,
        );
        transpose(&logits, lanes, out.reset(self.rows, self.plan.levels), self.plan.levels);
    }

    fn feed(&mut self, symbols: &[u32]) {
        let xs = inputs(symbols, self.plan.levels, self.kernel.lanes());
        self.kernel.accumulate(&self.plan.inputs[self.step], &whole(&xs), 1, &mut self.hidden, 0);
        self.step += 1;
    }
}

/// The inputs of one pixel, a lane an image.
fn inputs(symbols: &[u32], levels: usize, lanes: usize) -> Vec<f32> {
    let mut xs = vec![0.; lanes];
    for (x, &symbol) in xs.iter_mut().zip(symbols) {
        *x = ordinal(symbol, levels);
    }
    xs
}

/// `[level][lanes]` to `[row][level]`.
fn transpose(from: &[f32], lanes: usize, to: &mut [f32], levels: usize) {
    for (row, logits) in to.chunks_exact_mut(levels).enumerate() {
        for (logit, lane) in logits.iter_mut().zip(from.chunks_exact(lanes)) {
            *logit = lane[row];
        }
    }
}

/// A MADE with packed weights. What becomes known is pushed on at once: a drawn pixel into the units that may see it,
/// and units whose last pixel has been drawn into the next layer. So every sum is one chain, in rising order of units.
#[derive(Debug)]
pub(super) struct MadePlan {
    /// By layer, then by rank r: what the units that become known when r pixels are drawn add to the next layer. Of the
    /// first layer, the r-th pixel itself.
    pushes: Vec<Vec<Push>>,
    biases: Vec<Vec<f32>>, // by layer; of the outputs in draw order
    levels: usize,
}

#[derive(Debug)]
struct Push {
    units: std::ops::Range<usize>,
    /// First unit of the next layer that may see them; they all lie at the end.
    first: usize,
    weights: Packed,
}

impl MadePlan {
    pub(super) fn new(made: &Made, image: &ImageConfig) -> Self {
        let levels = image.levels as usize;
        let order = made.order();
        let layers = made.weights();
        let pixels = order.len();
        // how many pixels must be drawn before a unit is known; of outputs, before it is asked for
        let mut known: Vec<Vec<usize>> = vec![(1..=pixels).collect()];
        known.extend(made.degrees().iter().cloned());
        known.push((0..pixels * levels).map(|out| out / levels).collect());
        let name = |layer: usize, unit: usize| match layer {
            0 => order[unit] as usize,
            _ if layer == layers.len() => order[unit / levels] as usize * levels + unit % levels,
            _ => unit,
        };
        let push = |layer: usize, rank: usize| {
            let start = known[layer].partition_point(|&degree| degree < rank);
            let units = start..known[layer].partition_point(|&degree| degree <= rank);
            let first = known[layer + 1].partition_point(|&degree| degree < rank);
            let weights = &layers[layer];
            let packed =
                Packed::new(known[layer + 1].len() - first, &[units.len()], |_, k, out| {
                    weights.ws[name(layer + 1, first + out) * weights.inputs
                        + name(layer, units.start + k)]
                });
            Push { units, first, weights: packed }
        };
        Self {
            pushes: (0..layers.len())
                .map(|layer| (1..=pixels).map(|rank| push(layer, rank)).collect())
                .collect(),
            biases: layers
                .iter()
                .enumerate()
                .map(|(layer, it)| {
                    (0..it.bs.len()).map(|unit| it.bs[name(layer + 1, unit)]).collect()
                })
                .collect(),
            levels,
        }
    }

    pub(super) fn stepper(&self, variant: Variant, rows: usize) -> MadeStepper<'_> {
        let kernel = Kernel::new(variant, rows);
        let layers = self.biases.iter().map(|bias| {
            let mut layer = Buffer::new(bias.len() * kernel.lanes());
            kernel.fill(bias, 1, &mut layer, 0);
            layer
        });
        MadeStepper { plan: self, kernel, rows, layers: layers.collect(), step: 0 }
    }
}

pub(super) struct MadeStepper<'p> {
    plan: &'p MadePlan,
    kernel: Kernel,
    rows: usize,
    layers: Vec<Buffer>, // [units][lanes], sums so far; rectified once they are known; the last in draw order
    step: usize,
}

impl Stepper for MadeStepper<'_> {
    fn next(&mut self, out: &mut Conditional) {
        let lanes = self.kernel.lanes();
        let levels = self.plan.levels;
        let outputs = self.layers.last().map_or(&[][..], |it| it);
        let logits = &outputs[self.step * levels * lanes..][..levels * lanes];
        transpose(logits, lanes, out.reset(self.rows, levels), levels);
    }

    fn feed(&mut self, symbols: &[u32]) {
        let lanes = self.kernel.lanes();
        let mut known = inputs(symbols, self.plan.levels, lanes);
        for (layer, pushes) in self.plan.pushes.iter().enumerate() {
            let push = &pushes[self.step];
            if push.weights.outs() > 0 && !push.units.is_empty() {
                let ys = &mut self.layers[layer][push.first * lanes..];
                self.kernel.accumulate(&push.weights, &whole(&known), 1, ys, 0);
            }
            if let Some(next) = self.plan.pushes.get(layer + 1) {
                let units = next[self.step].units.clone();
                known = self.layers[layer][units.start * lanes..units.end * lanes].to_vec();
                self.kernel.relu(&mut known);
            }
        }
        self.step += 1;
    }
}
