//! What the exact engine makes of a context map: once a stepper, at the map's own size, in a defined order.
//!
//! Every number is one chain: the bias, then the taps row by row, inputs ascending; taps outside the map are left out above
//! and below it, and are zeros beside it. Letters: h rows, w columns, C channels, L images side by side.

use core_layers::kernels::exact::{Buffer, Kernel, Packed, Tap};
use ndarray::Array4;

use crate::model::{ContextLayer, ConvolutionalModel};

/// Columns of zeros on either side.
const PADDING: usize = 1;

/// One convolution, packed.
#[derive(Debug)]
struct Layer {
    weights: Packed,
    offsets: Vec<(i64, i64)>, // rows down, columns to the right
    bias: Vec<f32>,
}

impl Layer {
    fn new(layer: ContextLayer) -> Self {
        let ContextLayer { inputs, taps, bias } = layer;
        let sizes = vec![inputs; taps.len()];
        let weight = |tap: usize, k: usize, out: usize| taps[tap].2[out * inputs + k];
        let weights = Packed::new(bias.len(), &sizes, weight);
        Self { weights, offsets: taps.iter().map(|&(dy, dx, _)| (dy, dx)).collect(), bias }
    }
}

/// A context stack, ready to be run.
#[derive(Debug)]
pub(super) struct ContextPlan {
    shape: [usize; 3], // K, h, w
    layers: Vec<Layer>,
}

/// Features of every pixel of a map `[h][1 + w + 1][C][L]`.
#[derive(Debug, Default)]
pub(super) struct Features {
    floats: Buffer,
    height: usize,
    width: usize,
    pixel: usize, // floats of one: C L
}

impl Features {
    fn new(height: usize, width: usize, pixel: usize) -> Self {
        let floats = Buffer::new(height * (width + 2 * PADDING) * pixel);
        Self { floats, height, width, pixel }
    }

    fn at(&self, row: usize, column: usize) -> usize {
        (row * (self.width + 2 * PADDING) + PADDING + column) * self.pixel
    }

    /// The features `[C][L]` of the map's pixel that lies under the pixel in `row`, `column` of an image of `height` rows
    /// and `width` columns.
    pub(super) fn under(&self, [row, column]: [usize; 2], [height, width]: [usize; 2]) -> &[f32] {
        let at = self.at(row / (height / self.height), column / (width / self.width));
        &self.floats[at..at + self.pixel]
    }
}

impl ContextPlan {
    /// Of a model that is conditioned on a map.
    pub(super) fn new(model: &ConvolutionalModel) -> Option<Self> {
        let layers = model.context_layers().into_iter().map(Layer::new).collect();
        Some(Self { shape: model.context_shape()?, layers })
    }

    /// Channels, rows and columns of the map.
    pub(super) const fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// `m <- F m`, then `m <- m + V relu(U relu(m))` for each block.
    pub(super) fn run(&self, kernel: &Kernel, map: &Array4<f32>) -> Features {
        let [channels, height, width] = self.shape;
        let lanes = kernel.lanes();
        let mut xs = Features::new(height, width, channels * lanes);
        for ((lane, channel, row, column), &value) in map.indexed_iter() {
            let at = xs.at(row, column) + channel * lanes + lane;
            xs.floats[at] = value;
        }
        let Some((first, blocks)) = self.layers.split_first() else { return xs };
        let blank = || Features::new(height, width, first.bias.len() * lanes);
        let (mut sum, mut open, mut inner) = (blank(), blank(), blank());
        convolve(kernel, first, &xs, &mut sum);
        for block in blocks.chunks_exact(2) {
            open.floats.copy_from_slice(&sum.floats);
            kernel.relu(&mut open.floats);
            convolve(kernel, &block[0], &open, &mut inner);
            kernel.relu(&mut inner.floats);
            convolve(kernel, &block[1], &inner, &mut open);
            kernel.add_assign(&mut sum.floats, &open.floats);
        }
        sum
    }
}

/// Overwrites `ys` between its paddings.
fn convolve(kernel: &Kernel, layer: &Layer, xs: &Features, ys: &mut Features) {
    for row in 0..xs.height {
        let mut taps = Vec::with_capacity(layer.offsets.len());
        for (index, &(dy, dx)) in layer.offsets.iter().enumerate() {
            if let Some(from) = row.checked_add_signed(dy as isize).filter(|&it| it < xs.height) {
                let from = xs.at(from, 0).strict_add_signed(dx as isize * xs.pixel as isize);
                taps.push(Tap { index, xs: &xs.floats[from..], stride: xs.pixel });
            }
        }
        let (from, stride) = (ys.at(row, 0), ys.pixel);
        let to = &mut ys.floats[from..from + ys.width * stride];
        kernel.fill(&layer.bias, xs.width, to, stride);
        kernel.accumulate(&layer.weights, &taps, xs.width, to, stride);
    }
}
