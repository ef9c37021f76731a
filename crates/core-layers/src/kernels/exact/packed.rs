//! Weights of a linear map, in the order in which the kernels read them.

/// Outputs in one tile.
pub(super) const TILE: usize = 16;

/// Floats from the weights in use to those asked for, where each serves one column: 4 KiB. The processor's own prefetcher stops
/// at the end of a page and loses its way between layers, and weights of a whole network come from the third cache.
pub(super) const AHEAD: usize = 64 * TILE;

/// One cache line of weights: the same input's weights to 16 outputs.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([f32; TILE]);

/// Weights of a linear map as a sum over taps, `y[o] += sum_t sum_k w[t][k][o] x_t[k]`.
///
/// Packed as `[tile of 16 outputs][tap][k][16]`, outputs beyond the last as zeros. A line of zeros ends each tile: tiles are read
/// side by side, and would otherwise often lie a multiple of 4096 bytes apart, in one set of the first cache.
#[derive(Debug, Clone)]
pub struct Packed {
    lines: Vec<Line>,
    outs: usize,
    inputs: Vec<usize>,  // K of each tap
    offsets: Vec<usize>, // lines of a tile before each tap, and at the end before the line that ends it
}

impl Packed {
    /// Packs `weight(tap, k, out)` for every `out < outs` and `k < taps[tap]`.
    pub fn new(outs: usize, taps: &[usize], weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut lines = Vec::with_capacity(outs.div_ceil(TILE) * (taps.iter().sum::<usize>() + 1));
        for first in (0..outs).step_by(TILE) {
            for (tap, &inputs) in taps.iter().enumerate() {
                for k in 0..inputs {
                    let mut line = Line([0.0; TILE]);
                    for (out, slot) in (first..outs).zip(&mut line.0) {
                        *slot = weight(tap, k, out);
                    }
                    lines.push(line);
                }
            }
            lines.push(Line([0.0; TILE]));
        }
        let mut offsets = vec![0];
        offsets.extend(taps.iter().scan(0, |sum, &inputs| {
            *sum += inputs;
            Some(*sum)
        }));
        Self { lines, outs, inputs: taps.to_vec(), offsets }
    }

    /// Outputs.
    pub const fn outs(&self) -> usize {
        self.outs
    }

    /// Taps.
    pub const fn taps(&self) -> usize {
        self.inputs.len()
    }

    /// Inputs K of a tap.
    ///
    /// # Panics
    /// If there is no such tap.
    pub fn inputs(&self, tap: usize) -> usize {
        self.inputs[tap]
    }

    /// The weights from the first input of `tap` to output `out` and those behind it in its tile; 16 a step of k.
    ///
    /// # Safety
    /// `tap` exists, and `out / 16` is a tile of this map.
    #[inline(always)]
    pub(super) unsafe fn weights(&self, tap: usize, out: usize) -> *const f32 {
        debug_assert!(tap < self.taps() && out / TILE < self.outs.div_ceil(TILE));
        // SAFETY: by this function's contract the lines exist.
        unsafe {
            let tile = out / TILE * (*self.offsets.get_unchecked(self.inputs.len()) + 1);
            let line = tile + *self.offsets.get_unchecked(tap);
            self.lines.as_ptr().add(line).cast::<f32>().add(out % TILE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_taps_and_inputs_lie_in_the_stated_order() {
        let packed = Packed::new(17, &[2, 1], |tap, k, out| (tap * 1000 + k * 100 + out) as f32);
        let flat: Vec<f32> = packed.lines.iter().flat_map(|line| line.0).collect();

        assert_eq!(flat.len(), 2 * (3 + 1) * 16);
        assert_eq!(flat[16..18], [100., 101.]); // tile 0, tap 0, k 1
        assert_eq!(flat[32..34], [1000., 1001.]); // tile 0, tap 1, k 0
        assert_eq!(flat[5 * 16..5 * 16 + 2], [116., 0.]); // tile 1, tap 0, k 1: one output, then padding
        assert_eq!(
            (packed.outs(), packed.taps(), packed.inputs(0), packed.inputs(1)),
            (17, 2, 2, 1)
        );
    }
}
