//! Linear maps: `y[j][o][l] = fma(w[t][k][o], x_t[j][k][l], y[j][o][l])`, one tap after the other, k ascending.
//!
//! A place is one vector of images (lanes are images), or one number (lanes are outputs); places and outputs of a
//! tile are kept in registers over all taps. Letters: K inputs, L images side by side, N numbers in a vector,
//! O outputs and P places of a tile, T vectors of outputs.

#![expect(clippy::needless_range_loop, reason = "a constant index keeps an array in registers")]

use super::Kernel;
use super::packed::{Packed, TILE};
use super::vector::{Task, Vector, dispatch};

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
        // SAFETY of both: every read and write was checked above.
        match lanes {
            1 => dispatch(self.machine(), OutputLanes::<1>(sum)),
            4 => dispatch(self.machine(), OutputLanes::<4>(sum)),
            8 => dispatch(self.lane_machine(), ImageLanes::<8>(sum)),
            _ => dispatch(self.lane_machine(), ImageLanes::<16>(sum)),
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

/// Floats up to the end of the last of `columns` columns, of which `width` are used.
fn extent(columns: usize, stride: usize, width: usize) -> usize {
    (columns - 1).saturating_mul(stride).saturating_add(width)
}

/// Arguments of `accumulate`, checked.
#[derive(Clone, Copy)]
struct Sum<'a> {
    weights: &'a Packed,
    taps: &'a [Tap<'a>],
    columns: usize,
    ys: *mut f32,
    y_stride: usize,
}

/// Vectors of images; a weight is broadcast.
struct ImageLanes<'a, const L: usize>(Sum<'a>);

impl<const L: usize> Task for ImageLanes<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let places = self.0.columns * (L / V::N);
        let mut place = 0;
        while place + 3 <= places {
            if V::REGISTERS == 32 {
                self.row::<V, 8, 3>(place)
            } else {
                self.row::<V, 4, 3>(place)
            }
            place += 3;
        }
        match places - place {
            2 if V::REGISTERS == 32 => self.row::<V, 8, 2>(place),
            2 => self.row::<V, 4, 2>(place),
            1 if V::REGISTERS == 32 => self.row::<V, 16, 1>(place),
            1 => self.row::<V, 8, 1>(place),
            _ => (),
        }
    }
}

impl<const L: usize> ImageLanes<'_, L> {
    /// All outputs of P places.
    #[inline(always)]
    fn row<V: Vector, const O: usize, const P: usize>(&self, place: usize) {
        for out in (0..self.0.weights.outs()).step_by(O) {
            // SAFETY: a tile of existing outputs and places.
            unsafe { self.tile::<V, O, P>(out, place) }
        }
    }

    /// Where place `place` begins in columns of `stride` floats.
    #[inline(always)]
    const fn offset<V: Vector>(place: usize, stride: usize) -> usize {
        place / (L / V::N) * stride + place % (L / V::N) * V::N
    }

    /// # Safety
    /// Output `out` and places `place..place + P` exist.
    #[inline(always)]
    unsafe fn tile<V: Vector, const O: usize, const P: usize>(&self, out: usize, place: usize) {
        let Sum { weights, taps, ys, y_stride, .. } = self.0;
        let live = weights.outs() - out;
        let mut sums = [[V::splat(0.0); P]; O];
        // SAFETY: `accumulate` has checked all columns, inputs and outputs; only live outputs are touched.
        unsafe {
            for p in 0..P {
                let ys = ys.add(Self::offset::<V>(place + p, y_stride) + out * L);
                for o in 0..O {
                    if o < live {
                        sums[o][p] = V::load(ys.add(o * L));
                    }
                }
            }
            for tap in taps {
                let ws = weights.weights(tap.index, out);
                let mut xs = [tap.xs.as_ptr(); P];
                for p in 0..P {
                    xs[p] = xs[p].add(Self::offset::<V>(place + p, tap.stride));
                }
                for k in 0..weights.inputs(tap.index) {
                    let mut x = [V::splat(0.0); P];
                    for p in 0..P {
                        x[p] = V::load(xs[p].add(k * L));
                    }
                    for o in 0..O {
                        let w = V::splat(*ws.add(k * TILE + o));
                        for p in 0..P {
                            sums[o][p] = x[p].mul_add(w, sums[o][p]);
                        }
                    }
                }
            }
            for p in 0..P {
                let ys = ys.add(Self::offset::<V>(place + p, y_stride) + out * L);
                for o in 0..O {
                    if o < live {
                        sums[o][p].store(ys.add(o * L));
                    }
                }
            }
        }
    }
}

/// Vectors of outputs; an activation is broadcast.
struct OutputLanes<'a, const L: usize>(Sum<'a>);

impl<const L: usize> Task for OutputLanes<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let places = self.0.columns * L;
        let mut place = 0;
        while place + 4 <= places {
            if V::REGISTERS == 32 {
                self.row::<V, 4, 4>(place)
            } else {
                self.row::<V, 2, 4>(place)
            }
            place += 4;
        }
        while place < places {
            self.row::<V, 8, 1>(place);
            place += 1;
        }
    }
}

impl<const L: usize> OutputLanes<'_, L> {
    /// All outputs of P places.
    #[inline(always)]
    fn row<V: Vector, const T: usize, const P: usize>(&self, place: usize) {
        let outs = self.0.weights.outs();
        let mut out = 0;
        while out + T * V::N <= outs.next_multiple_of(TILE) {
            // SAFETY: tiles of existing outputs and places.
            unsafe { self.tile::<V, T, P>(out, place) }
            out += T * V::N;
        }
        while out < outs {
            // SAFETY: as above.
            unsafe { self.tile::<V, 1, P>(out, place) }
            out += V::N;
        }
    }

    /// # Safety
    /// Outputs `out..out + T * N`, counting the padding of the last tile, and places `place..place + P` exist.
    #[inline(always)]
    unsafe fn tile<V: Vector, const T: usize, const P: usize>(&self, out: usize, place: usize) {
        let Sum { weights, taps, ys, y_stride, .. } = self.0;
        let live = weights.outs().saturating_sub(out).min(T * V::N);
        let mut staged = [[0.0f32; 8 * TILE]; P];
        let mut sums = [[V::splat(0.0); P]; T];
        // SAFETY: `accumulate` has checked all columns, inputs and outputs; only live outputs are touched.
        unsafe {
            for p in 0..P {
                let ys = ys.add((place + p) / L * y_stride + (place + p) % L + out * L);
                for o in 0..live {
                    staged[p][o] = *ys.add(o * L);
                }
                for t in 0..T {
                    sums[t][p] = V::read(&staged[p][t * V::N..]);
                }
            }
            for tap in taps {
                let mut ws = [weights.weights(tap.index, out); T];
                for t in 1..T {
                    ws[t] = weights.weights(tap.index, out + t * V::N);
                }
                let mut xs = [tap.xs.as_ptr(); P];
                for p in 0..P {
                    xs[p] = xs[p].add((place + p) / L * tap.stride + (place + p) % L);
                }
                for k in 0..weights.inputs(tap.index) {
                    let mut w = [V::splat(0.0); T];
                    for t in 0..T {
                        w[t] = V::load(ws[t].add(k * TILE));
                    }
                    for p in 0..P {
                        let x = V::splat(*xs[p].add(k * L));
                        for t in 0..T {
                            sums[t][p] = x.mul_add(w[t], sums[t][p]);
                        }
                    }
                }
            }
            for p in 0..P {
                let ys = ys.add((place + p) / L * y_stride + (place + p) % L + out * L);
                for t in 0..T {
                    sums[t][p].write(&mut staged[p][t * V::N..]);
                }
                for o in 0..live {
                    *ys.add(o * L) = staged[p][o];
                }
            }
        }
    }
}
