//! The linear map with outputs in vectors: an activation is broadcast to all of them.
//!
//! A place is one image of one column. A tile is T vectors of outputs of P places, kept in registers over all taps.
//! Letters: L images side by side (1, or 4 which then are the 4 places of a tile), N numbers in a vector.

#![expect(clippy::needless_range_loop, reason = "a constant index keeps an array in registers")]

use super::accumulate::Sum;
use super::packed::TILE;
use super::vector::{Task, Vector};

/// Vectors of outputs; an activation is broadcast.
pub(super) struct OutputLanes<'a, const L: usize>(pub(super) Sum<'a>);

impl<const L: usize> Task for OutputLanes<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let places = self.0.columns * L;
        let mut place = 0;
        while place + 4 <= places {
            let out = 0;
            let out = if V::REGISTERS == 32 { self.tiles::<V, 4, 4>(out, place) } else { out };
            let out = self.tiles::<V, 2, 4>(out, place);
            self.tiles::<V, 1, 4>(out, place);
            place += 4;
        }
        while place < places {
            let out = self.tiles::<V, 8, 1>(0, place);
            let out = self.tiles::<V, 4, 1>(out, place);
            let out = self.tiles::<V, 2, 1>(out, place);
            self.tiles::<V, 1, 1>(out, place);
            place += 1;
        }
    }
}

impl<const L: usize> OutputLanes<'_, L> {
    /// As many tiles as fit from output `out` on, for P places; the output after them.
    #[inline(always)]
    fn tiles<V: Vector, const T: usize, const P: usize>(
        &self,
        mut out: usize,
        place: usize,
    ) -> usize {
        let outs = self.0.weights.outs();
        let vectors = outs.div_ceil(V::N) * V::N;
        while out + T * V::N <= vectors {
            // SAFETY: tiles of existing outputs and places.
            unsafe { self.tile::<V, T, P>(out, place) }
            out += T * V::N;
        }
        out
    }

    /// # Safety
    /// Outputs `out..out + T * N`, counting the padding of the last vector, and places `place..place + P` exist.
    #[inline(always)]
    unsafe fn tile<V: Vector, const T: usize, const P: usize>(&self, out: usize, place: usize) {
        let Sum { weights, taps, .. } = self.0;
        let mut sums = [[V::splat(0.0); P]; T];
        // SAFETY: `accumulate` has checked all columns, inputs and outputs.
        unsafe {
            for t in 0..T {
                sums[t] = self.load::<V, P>(out + t * V::N, place);
            }
            for tap in taps {
                let mut ws = [weights.weights(tap.index, out); T];
                for t in 1..T {
                    ws[t] = weights.weights(tap.index, out + t * V::N);
                }
                let mut xs = [tap.xs.as_ptr(); P];
                for p in 0..P {
                    xs[p] = xs[p].wrapping_add((place + p) / L * tap.stride + (place + p) % L);
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
            for t in 0..T {
                self.store::<V, P>(sums[t], out + t * V::N, place);
            }
        }
    }

    /// Where output `out` of place `place` lies in `ys`.
    ///
    /// # Safety
    /// Both exist.
    #[inline(always)]
    unsafe fn at(&self, out: usize, place: usize) -> *mut f32 {
        // SAFETY: `accumulate` has checked all columns and outputs.
        unsafe { self.0.ys.add(place / L * self.0.y_stride + out * L + place % L) }
    }

    /// Outputs `out..out + N` of P places; zeros for outputs that are padding.
    ///
    /// # Safety
    /// As for `tile`.
    #[inline(always)]
    unsafe fn load<V: Vector, const P: usize>(&self, out: usize, place: usize) -> [V; P] {
        let live = self.0.weights.outs() - out;
        let mut sums = [V::splat(0.0); P];
        // SAFETY: only outputs that exist are read.
        unsafe {
            if live < V::N {
                for p in 0..P {
                    let mut staged = [0.0; TILE];
                    for o in 0..live {
                        staged[o] = *self.at(out + o, place + p);
                    }
                    sums[p] = V::read(&staged);
                }
            } else if L == 1 {
                for p in 0..P {
                    sums[p] = V::load(self.at(out, place + p));
                }
            } else {
                let ys = self.at(out, place);
                let mut rows = [V::splat(0.0); 4];
                for i in 0..4 {
                    rows[i] = V::load(ys.add(i * V::N));
                }
                let lanes = V::split_lanes(rows);
                sums.copy_from_slice(&lanes[..P]);
            }
        }
        sums
    }

    /// Writes what `load` has read.
    ///
    /// # Safety
    /// As for `tile`.
    #[inline(always)]
    unsafe fn store<V: Vector, const P: usize>(&self, sums: [V; P], out: usize, place: usize) {
        let live = self.0.weights.outs() - out;
        // SAFETY: only outputs that exist are written.
        unsafe {
            if live < V::N {
                for p in 0..P {
                    let mut staged = [0.0; TILE];
                    sums[p].write(&mut staged);
                    for o in 0..live {
                        *self.at(out + o, place + p) = staged[o];
                    }
                }
            } else if L == 1 {
                for p in 0..P {
                    sums[p].store(self.at(out, place + p));
                }
            } else {
                let ys = self.at(out, place);
                let mut lanes = [V::splat(0.0); 4];
                lanes[..P].copy_from_slice(&sums);
                let rows = V::join_lanes(lanes);
                for i in 0..4 {
                    rows[i].store(ys.add(i * V::N));
                }
            }
        }
    }
}
