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
        let width = weights.outs() * lanes;
        let needed = extent(columns, y_stride, width);
        assert!(ys.len() >= needed, "ys has {} floats, but {needed} are written", ys.len());
        assert!(
            columns == 1 || y_stride >= width,
            "y_stride is {y_stride}, but a column has {width} floats"
        );

        let sum = Sum { weights, taps, columns, ys: ys.as_mut_ptr(), y_stride };
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
    (columns - 1).saturating_mul(stride).saturating_add(width)
}

/// Arguments of `accumulate`, checked: all columns of all taps and of `ys` lie in their slices.
#[derive(Clone, Copy)]
pub(super) struct Sum<'a> {
    pub(super) weights: &'a Packed,
    pub(super) taps: &'a [Tap<'a>],
    pub(super) columns: usize,
    pub(super) ys: *mut f32,
    pub(super) y_stride: usize,
}
