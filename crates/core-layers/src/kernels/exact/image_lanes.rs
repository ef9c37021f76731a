//! The linear map with images in vectors: a weight is broadcast to all of them.
//!
//! A place is one vector of images of one column. A tile is O outputs of P places, kept in registers over all taps.
//! Letters: L images side by side, N numbers in a vector.

#![expect(clippy::needless_range_loop, reason = "a constant index keeps an array in registers")]

use super::accumulate::Sum;
use super::packed::{AHEAD, TILE};
use super::vector::{Task, Vector};

/// Vectors of images; a weight is broadcast.
pub(super) struct ImageLanes<'a, const L: usize>(pub(super) Sum<'a>);

impl<const L: usize> Task for ImageLanes<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let places = self.0.columns * (L / V::N);
        let mut place = 0;
        if V::REGISTERS == 32 {
            while place + 3 <= places {
                self.row::<V, 8, 3>(place);
                place += 3;
            }
        }
        while place + 2 <= places {
            if V::REGISTERS == 32 {
                self.row::<V, 8, 2>(place);
            } else {
                self.row::<V, 4, 2>(place); // 4 x 3 would fill all 16, and LLVM then copies them around
            }
            place += 2;
        }
        if place < places {
            if V::REGISTERS == 32 {
                self.row::<V, 16, 1>(place);
            } else {
                self.row::<V, 8, 1>(place);
            }
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
                    xs[p] = xs[p].wrapping_add(Self::offset::<V>(place + p, tap.stride));
                }
                for k in 0..weights.inputs(tap.index) {
                    if P == 1 {
                        V::prefetch(ws.wrapping_add(k * TILE + AHEAD));
                    }
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
