//! Linear maps: `y[j][o][l] = fma(w[t][k][o], x_t[j][k][l], y[j][o][l])`, one tap after the other, k ascending.
//!
//! With 8 or 16 images side by side a vector holds images, with fewer it holds outputs; the chains are the same.

use super::Kernel;
use super::image_lanes::ImageLanes;
use super::output_lanes::OutputLanes;
use super::packed::Packed;
use super::vector::dispatch;

/// What one tap of a linear map reads.
#[derive(Debug, Clone, Copy)]
pub struct Tap<'a> {
    /// Which tap of the [`Packed`] weights.
    pub index: usize,
    /// Activations `[column][channel][L]` from the first column that the tap reads; of each column its first K channels.
    pub xs: &'a [f32],
    /// Floats from one column to the next, at least `K * L` for columns that lie apart.
    pub stride: usize,
}

/// Columns of outputs, and what the chains of each output start from.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// `[column][output][L]`.
    pub starts: &'a [f32],
    /// Floats from one column of `starts` to the next; 0 where all columns start alike.
    pub start_stride: usize,
    /// `[column][output][L]`, as many as `columns`.
    pub ys: &'a mut [f32],
    /// Floats from one column of `ys` to the next.
    pub stride: usize,
    /// Columns that are computed.
    pub columns: usize,
}

impl Kernel {
    /// `y[j][o][l] = fma(w[t][k][o], x_t[j][k][l], y[j][o][l])` for `columns` columns j, all outputs o and lanes l.
    ///
    /// The order is defined: taps as listed, k ascending. A tap that is not listed is not computed; one that reads
    /// other columns is a slice that starts there. `y_stride` is the distance of two columns of `ys` in floats, so
    /// that the outputs may be a part of wider columns.
    ///
    /// # Panics
    /// If a tap does not exist, if `xs` or `ys` end too early, or if columns of `ys` overlap.
    pub fn accumulate(
        &self,
        weights: &Packed,
        taps: &[Tap<'_>],
        columns: usize,
        ys: &mut [f32],
        y_stride: usize,
    ) {
        let from = ys.as_ptr();
        self.check_outputs(weights, columns, ys.len(), y_stride);
        let (ys, from_stride) = (ys.as_mut_ptr(), y_stride);
        self.run(Sum { weights, taps, columns, from, from_stride, ys, y_stride });
    }

    /// As [`Kernel::accumulate`], but the chains start from `outputs.starts` and what `ys` held is lost: for bias or
    /// earlier sums that need not be copied first.
    ///
    /// # Panics
    /// As there, or if `starts` end too early.
    pub fn accumulate_from(&self, weights: &Packed, taps: &[Tap<'_>], outputs: Outputs<'_>) {
        let Outputs { starts, start_stride, ys, stride, columns } = outputs;
        self.check_outputs(weights, columns, ys.len(), stride);
        let needed = extent(columns, start_stride, weights.outs() * self.lanes());
        assert!(starts.len() >= needed, "starts has {} floats, of {needed}", starts.len());
        let (from, from_stride) = (starts.as_ptr(), start_stride);
        let (ys, y_stride) = (ys.as_mut_ptr(), stride);
        self.run(Sum { weights, taps, columns, from, from_stride, ys, y_stride });
    }

    /// Refuses outputs that end too early or overlap.
    fn check_outputs(&self, weights: &Packed, columns: usize, floats: usize, stride: usize) {
        let width = weights.outs() * self.lanes();
        let needed = extent(columns, stride, width);
        assert!(floats >= needed, "ys has {floats} floats, but {needed} are written");
        assert!(
            columns <= 1 || stride >= width,
            "y_stride is {stride}, but a column has {width} floats"
        );
    }

    /// The outputs of `sum` were checked; its taps are here.
    fn run(&self, sum: Sum<'_>) {
        let Sum { weights, taps, columns, .. } = sum;
        if columns == 0 || weights.outs() == 0 {
            return;
        }
        let lanes = self.lanes();
        for tap in taps {
            let (index, len) = (tap.index, tap.xs.len());
            assert!(index < weights.taps(), "there is no tap {index}, only {}", weights.taps());
            let needed = extent(columns, tap.stride, weights.inputs(index) * lanes);
            assert!(len >= needed, "tap {index} reads {needed} floats, but xs has {len}");
        }
        match lanes {
            1 => dispatch(self.machine(), OutputLanes::<1>(sum)),
            4 => dispatch(self.machine(), OutputLanes::<4>(sum)),
            8 => dispatch(self.lane_machine(), ImageLanes::<8>(sum)),
            _ => dispatch(self.lane_machine(), ImageLanes::<16>(sum)),
        }
    }

    /// `out[l][c] = xs[c][l]`: one column `[channel][L]`, taken apart into its images.
    ///
    /// # Panics
    /// If the lengths differ, or are no multiple of L.
    pub fn split(&self, xs: &[f32], out: &mut [f32]) {
        let (lanes, floats) = (self.lanes(), xs.len());
        assert!(
            floats == out.len() && floats.is_multiple_of(lanes),
            "{floats} floats of {lanes} images, taken apart into {}",
            out.len()
        );
        match lanes {
            1 => out.copy_from_slice(xs),
            4 => transpose::<4>(xs, out),
            8 => transpose::<8>(xs, out),
            _ => transpose::<16>(xs, out),
        }
    }

    /// `y[j][o][l] = bias[o]`: where [`Kernel::accumulate`] starts from.
    ///
    /// # Panics
    /// If `ys` ends too early.
    pub fn fill(&self, bias: &[f32], columns: usize, ys: &mut [f32], y_stride: usize) {
        for column in 0..columns {
            let ys = &mut ys[column * y_stride..][..bias.len() * self.lanes()];
            for (ys, &bias) in ys.chunks_exact_mut(self.lanes()).zip(bias) {
                ys.fill(bias);
            }
        }
    }
}

/// `[channel][L]` to `[L][channel]`.
fn transpose<const L: usize>(xs: &[f32], out: &mut [f32]) {
    let (columns, _) = xs.as_chunks::<L>();
    for (lane, out) in out.chunks_exact_mut(columns.len().max(1)).enumerate() {
        for (out, column) in out.iter_mut().zip(columns) {
            *out = column[lane];
        }
    }
}

/// Floats up to the end of the last of `columns` columns, of which `width` are used.
fn extent(columns: usize, stride: usize, width: usize) -> usize {
    columns.checked_sub(1).map_or(0, |before| before.saturating_mul(stride).saturating_add(width))
}

/// Arguments of `accumulate`, checked: all columns of all taps, of `from` and of `ys` lie in their slices.
#[derive(Clone, Copy)]
pub(super) struct Sum<'a> {
    pub(super) weights: &'a Packed,
    pub(super) taps: &'a [Tap<'a>],
    pub(super) columns: usize,
    pub(super) from: *const f32,
    pub(super) from_stride: usize,
    pub(super) ys: *mut f32,
    pub(super) y_stride: usize,
}
